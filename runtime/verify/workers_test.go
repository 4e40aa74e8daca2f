package verify

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
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
			p.weather.Store(&weather{delay: 0.002, delayMost: 100 * time.Millisecond, strand: 0.001, strandMost: 2 * time.Second, mute: 0.001})
			var workers []*daemon
			for range 2 {
				workers = append(workers, startWorker(t, p.address(), "--session-timeout", workerSession.String()))
			}
			cuts := 0
			verifyWorkers(t, workers, &verification{
				t: t, seed: seed + uint64(i), brokers: p.address(), times: max(5, *flagKills/4/servers),
				restLow: 50 * time.Millisecond, restHigh: 2 * workerSession,
				disturb: func(_ context.Context, random *rand.Rand) error {
					if random.IntN(4) == 0 {
						cuts++
						p.cut(random.Float64())
					}
					return nil
				},
			}, workerSession)
			t.Logf("%d cuts, %d requests delivered late, %d delayed, %d without an answer", cuts, p.stranded.Load(), p.delayed.Load(), p.muted.Load())
		})
	}
}

// verifyWorkers runs a verification over two workers, of which each disturbance kills or pauses one besides.
func verifyWorkers(t *testing.T, workers []*daemon, v *verification, session time.Duration) {
	t.Helper()
	createFleetTopics(t, v.brokers, 1<<20) // no fewer in Apache Kafka
	deployFleet(t, workers[0].admin, deploy.DeliveryExactlyOnce)
	u := &upgrades{t: t, member: fleet()[0]}
	defer u.running.Wait()
	n, kills, freezes, also := 0, 0, 0, v.disturb
	v.disturb = func(ctx context.Context, random *rand.Rand) error {
		i := random.IntN(len(workers))
		w, other := workers[i], workers[1-i]
		switch n++; {
		case n == 1:
			if err := u.first(ctx, other.admin, random); err != nil {
				return err
			}
		case n%2 == 0: // in mid-stream, and mostly not by the worker that is killed in the middle of it
			asked := other
			if random.IntN(3) == 0 {
				asked = w
			}
			u.begin(ctx, asked.admin, random, between(random, 200*time.Millisecond, 5*time.Second+2*session))
			if random.IntN(2) == 0 {
				u.running.Wait()
			}
			<-time.After(between(random, 0, 500*time.Millisecond))
		}
		if random.IntN(10) == 0 { // for longer than its group waits: it comes back as a zombie
			freezes++
			if err := w.freeze(ctx, between(random, 0, 2*session)); err != nil {
				return err
			}
			return also(ctx, random)
		}
		kills++
		if err := w.crash(between(random, 0, 100*time.Millisecond)); err != nil {
			return err
		}
		return also(ctx, random)
	}
	o, err := v.run()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d kills, %d pauses, %s; %s", kills, freezes, u, o)
	o.check(t)
	if o.versions() == 0 {
		t.Error("no version after the first has made output")
	}
}
