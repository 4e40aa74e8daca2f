package broker_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running is a broker that serves on a port of the loopback interface.
type running struct {
	*broker.Broker
	address string
	served  chan error
}

// start opens a broker over o and serves it.
func start(t *testing.T, o broker.Options) *running {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	b, err := broker.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &running{Broker: b, address: l.Addr().String(), served: make(chan error, 1)}
	go func() { r.served <- b.Serve(l) }()
	t.Cleanup(func() { r.stop(t) })
	return r
}

// stop closes the broker; a second call does nothing.
func (r *running) stop(t *testing.T) {
	t.Helper()
	if r.served == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := r.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
	if err := <-r.served; err != nil {
		t.Errorf("serve: %v", err)
	}
	r.served = nil
}

// client returns a franz-go client of the broker.
func (r *running) client(t *testing.T, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(r.address), kgo.AllowAutoTopicCreation()}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// within is the time in which everything must have happened.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func timestamp(millis int64) time.Time { return time.UnixMilli(millis) }

func records(topic string, n int) []*kgo.Record {
	out := make([]*kgo.Record, n)
	for i := range out {
		out[i] = &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, "k%d", i%10), Value: fmt.Appendf(nil, "value %d", i)}
	}
	return out
}

// poll reads until n records have come.
func poll(t *testing.T, ctx context.Context, c *kgo.Client, n int) []*kgo.Record {
	t.Helper()
	var out []*kgo.Record
	for len(out) < n {
		f := c.PollFetches(ctx)
		if err := f.Err(); err != nil {
			t.Fatalf("poll after %d of %d records: %v", len(out), n, err)
		}
		out = append(out, f.Records()...)
	}
	if len(out) != n {
		t.Fatalf("%d records, want %d", len(out), n)
	}
	return out
}

func TestProduceAndConsume(t *testing.T) {
	r := start(t, broker.Options{})
	ctx := within(t)
	if err := r.client(t).ProduceSync(ctx, records("notes", 1000)...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	got := poll(t, ctx, r.client(t, kgo.ConsumeTopics("notes")), 1000)
	for i, rec := range got {
		if want := fmt.Sprintf("value %d", i); string(rec.Value) != want || rec.Offset != int64(i) {
			t.Fatalf("record %d is %q at offset %d, want %q", i, rec.Value, rec.Offset, want)
		}
	}
}
