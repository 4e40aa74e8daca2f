package kafka

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/brokertest"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/engine/enginetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testRebalanceTimeout is short: a test waits for it to pass.
const testRebalanceTimeout = 3 * time.Second

// openEngine opens an engine over a cluster until the end of the test.
func openEngine(t testing.TB, o Options) *kafka {
	t.Helper()
	if o.RebalanceTimeout == 0 {
		o.RebalanceTimeout = testRebalanceTimeout
	}
	if o.SessionTimeout == 0 {
		o.SessionTimeout = 6 * time.Second
	}
	if testing.Verbose() && o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	k, err := open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := k.close(ctx); err != nil {
			t.Error(err)
		}
	})
	return k
}

// subject is an engine over a cluster, with ordinary clients beside it.
func subject(t *testing.T, brokers []string, delivery engine.Delivery) enginetest.Subject {
	t.Helper()
	cable := &cable{conns: map[net.Conn]bool{}}
	others := outsider{brokers}
	return enginetest.Subject{
		Engine:           openEngine(t, Options{Brokers: brokers, Dial: cable.dial}),
		Produce:          others.produce,
		Grow:             others.grow,
		Remake:           others.remake,
		RebalanceTimeout: testRebalanceTimeout,
		Delivery:         delivery,
		Another:          func(t testing.TB) engine.Engine { return openEngine(t, Options{Brokers: brokers}) },
		ReadUncommitted:  others.readUncommitted,
		Transaction:      others.transaction,
		TakeOver:         others.takeOver,
		Expel:            others.expel,
		Cut:              cable.breakIt,
	}
}

var deliveries = map[string]engine.Delivery{"exactly once": engine.ExactlyOnce, "at least once": engine.AtLeastOnce}

// TestContract runs the engine over our own broker.
func TestContract(t *testing.T) {
	for name, delivery := range deliveries {
		t.Run(name, func(t *testing.T) {
			enginetest.Run(t, func(t *testing.T) enginetest.Subject {
				_, address := brokertest.Serve(t, broker.Options{})
				return subject(t, []string{address}, delivery)
			})
		})
	}
}
