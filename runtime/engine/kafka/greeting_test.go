package kafka

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/brokertest"
	"github.com/millstream-io/millstream/runtime/engine"
)

// restarting is a network before a broker that accepts connections and closes the next ones without a word.
type restarting struct {
	mu    sync.Mutex
	mute  int // so many connections are still to be closed
	conns []net.Conn
}

type muteConn struct{ net.Conn }

// Read implements net.Conn: the other side has closed.
func (c muteConn) Read([]byte) (int, error) { return 0, io.EOF }

func (r *restarting) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mute > 0 {
		r.mute--
		return muteConn{conn}, nil
	}
	r.conns = append(r.conns, conn)
	return conn, nil
}

// restart cuts what there is, and the next connections.
func (r *restarting) restart(mute int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mute = mute
	for _, c := range r.conns {
		c.Close()
	}
	r.conns = nil
}

func (r *restarting) left() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mute
}

// TestBrokerClosesFreshConnections: one that is being restarted does; the engine opens beside it, goes on, and does each record once.
func TestBrokerClosesFreshConnections(t *testing.T) {
	_, address := brokertest.Serve(t, broker.Options{})
	network := &restarting{mute: 3}
	k := openEngine(t, Options{Brokers: []string{address}, Dial: network.dial})
	if network.left() != 0 {
		t.Errorf("%d connections were not made", network.left())
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, topic := range []string{"in", "out"} {
		if err := k.EnsureTopic(ctx, topic, 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	c := startCopier(t, ctx, k, engine.Group{Name: "copy", Client: "test", Inputs: []string{"in"}, Start: engine.Start{Kind: engine.StartEarliest}})
	const rounds = 4
	for n := range rounds {
		if n > 0 {
			network.restart(8)
		}
		if err := k.Append(ctx, "in", []engine.Record{{Value: fmt.Append(nil, n)}}); err != nil {
			t.Fatal(err)
		}
	}
	seen := 0
	done := fmt.Errorf("all there")
	err := k.Follow(ctx, "out", nil, func(_ int32, r engine.Record) error {
		if string(r.Value) != fmt.Sprint(seen) {
			t.Errorf("record %d is %q", seen, r.Value)
		}
		if seen++; seen == rounds {
			return done
		}
		return nil
	})
	if seen != rounds {
		t.Errorf("%d of %d records are there: %v", seen, rounds, err)
	}
	c.stop(ctx)
}
