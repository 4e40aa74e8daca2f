package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/brokertest"
	"github.com/millstream-io/millstream/runtime/engine"
)

func TestOptionsThatCannotWork(t *testing.T) {
	for name, test := range map[string]struct {
		o    Options
		want string
	}{
		"no brokers":        {Options{}, "name at least one"},
		"unknown mechanism": {Options{Brokers: []string{"127.0.0.1:1"}, SASL: SASL{Mechanism: "kerberos"}}, "scram-sha-256"},
	} {
		if _, _, err := New(t.Context(), test.o); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error is %v, want one with %q", name, err, test.want)
		}
	}
}

// TestNobodyAnswers: New gives up with its context, and says whom it has asked.
func TestNobodyAnswers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, _, err := New(ctx, Options{Brokers: []string{address}}); err == nil || !strings.Contains(err.Error(), address) {
		t.Errorf("error is %v", err)
	}
}

// TestDialWithTLS: a connection that is made elsewhere is secured all the same, and an insecure broker is refused.
func TestDialWithTLS(t *testing.T) {
	_, address := brokertest.Serve(t, broker.Options{})
	dialled := false
	o := Options{Brokers: []string{address}, TLS: &tls.Config{MinVersion: tls.VersionTLS12}, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		dialled = true
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}
	if conn, err := o.dial(t.Context(), "tcp", address); err == nil {
		conn.Close()
		t.Error("a broker without TLS was taken")
	}
	if !dialled {
		t.Error("Dial was not called")
	}
}

// TestCloseLeavesGroups: what is still joined when the engine is closed leaves, and nobody joins any more.
func TestCloseLeavesGroups(t *testing.T) {
	_, address := brokertest.Serve(t, broker.Options{})
	k, leave, err := New(t.Context(), Options{Brokers: []string{address}})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if err := k.EnsureTopic(ctx, "in", 1, nil); err != nil {
		t.Fatal(err)
	}
	g := engine.Group{Name: "g", Inputs: []string{"in"}}
	m, err := k.Join(ctx, g)
	for sessions := 0; err == nil && sessions == 0; {
		var owned []engine.Session
		owned, err = m.Next(ctx)
		sessions = len(owned)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := leave(ctx); err != nil {
		t.Error(err)
	}
	if _, err := m.Next(ctx); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("the member goes on: %v", err)
	}
	if _, err := k.Join(ctx, g); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("a closed engine joins: %v", err)
	}
	other := openEngine(t, Options{Brokers: []string{address}})
	if members, err := other.Members(ctx, "g"); err != nil || len(members) != 0 {
		t.Errorf("members are %v, %v", members, err)
	}
}
