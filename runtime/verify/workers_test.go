package verify

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/runtime/deploy"
)

// workerSession is how long a group waits for a worker that was killed. It is
// short, so that there are many kills, each with some work between it and the next.
const workerSession = time.Second

// serveBroker runs a broker without a runtime in this process, behind a proxy.
func serveBroker(t *testing.T, p *proxy) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := l.Addr().String()
	p.target.Store(&listen)
	b, err := broker.Open(t.Context(), broker.Options{
		Dir: filepath.Join(t.TempDir(), "broker"), AdvertisedAddress: p.address(),
		GroupConfigs: map[string]string{"group.min.session.timeout.ms": fmt.Sprint(workerSession.Milliseconds())},
	})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- b.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		l.Close()
		if err := b.Close(ctx); err != nil {
			t.Error(err)
		}
		<-served
	})
}

// TestVerifyWorkers kills, pauses and cuts off workers that share deployments over a broker.
func TestVerifyWorkers(t *testing.T) {
	binaryPath(t)
	seed := seed(t)
	for i := range servers {
		t.Run(fmt.Sprint("cluster ", i), func(t *testing.T) {
			t.Parallel()
			p := newProxy(t, seed+uint64(i), nil)
			serveBroker(t, p)
			verifyWorkers(t, seed+uint64(i), p.address(), p, (*flagKills+servers-1)/servers, workerSession)
		})
	}
}

func verifyWorkers(t *testing.T, seed uint64, brokers string, p *proxy, kills int, session time.Duration) {
	var workers []*daemon
	for range 2 {
		workers = append(workers, startWorker(t, brokers, "--session-timeout", session.String()))
	}
	createFleetTopics(t, brokers, -1)
	deployFleet(t, workers[0].admin, deploy.DeliveryExactlyOnce)
	var freezes, cuts atomic.Int64
	v := &verification{
		t: t, seed: seed, brokers: brokers, times: kills, restLow: 50 * time.Millisecond, restHigh: 2 * session,
		disturb: func(ctx context.Context, random *rand.Rand) error {
			w := workers[random.IntN(len(workers))]
			switch random.IntN(10) {
			case 0: // for longer than its group waits: it comes back as a zombie
				freezes.Add(1)
				if err := w.freeze(ctx, between(random, 0, 2*session)); err != nil {
					return err
				}
				return nil
			case 1, 2:
				cuts.Add(1)
				p.cut(random.Float64())
			}
			return w.crash(between(random, 0, 100*time.Millisecond))
		},
	}
	if p != nil {
		p.weather.Store(&weather{delay: 0.002, delayMost: 100 * time.Millisecond, strand: 0.001, strandMost: 2 * time.Second, mute: 0.001})
	}
	o, err := v.run()
	if err != nil {
		t.Fatal(err)
	}
	if p != nil {
		t.Logf("%d requests delivered late, %d delayed, %d without an answer", p.stranded.Load(), p.delayed.Load(), p.muted.Load())
	}
	t.Logf("%d kills, %d pauses, %d cuts; %s", workers[0].kills+workers[1].kills, freezes.Load(), cuts.Load(), o)
	if o.violations > 0 || o.missing != nil {
		t.Error("nothing may be lost, twice, out of order or torn")
	}
}
