// Package brokertest gives tests a broker to talk to. It keeps its data in
// memory, listens on a free loopback port and is closed with the test, which fails
// if that goes wrong. It is for tests only.
package brokertest

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/vfs"
)

// closeTimeout is far longer than a broker in memory needs to close.
const closeTimeout = 20 * time.Second

// Serve runs a broker until the end of the test and returns it with its address. FS and Dir of
// the options may be left out.
func Serve(t testing.TB, o broker.Options) (*broker.Broker, string) {
	t.Helper()
	if o.FS == nil {
		o.FS = vfs.NewMem()
	}
	if o.Dir == "" {
		o.Dir = "data"
	}
	b, err := broker.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- b.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		if err := b.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return b, l.Addr().String()
}
