package verify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/millstream-io/millstream/runtime/deploy"
)

// verification sends sequences through a fleet while something disturbs it.
type verification struct {
	t       *testing.T
	seed    uint64
	brokers string
	// disturb disturbs once; it is called until it has been often enough.
	disturb func(ctx context.Context, random *rand.Rand) error
	times   int
	// enough, if set, ends the disturbances early.
	enough func(live *sink) bool
	// rest is how long there is peace between disturbances.
	restLow, restHigh time.Duration
}

// result of a verification.
type outcome struct {
	sent       int64
	took       time.Duration
	settled    time.Duration // after the last disturbance
	violations int
	cases      []string
	missing    error
	marks      map[byte]int64
	letters    int64 // dead
}

func (o *outcome) String() string {
	s := fmt.Sprintf("%d records sent in %.1f s, %d of them dead letters, %d versions made output, the last %.1f s after the last disturbance; %d violations",
		o.sent, o.took.Seconds(), o.letters, o.versions(), o.settled.Seconds(), o.violations)
	for _, c := range o.cases {
		s += "\n  " + c
	}
	if o.missing != nil {
		s += "\n  missing: " + o.missing.Error()
	}
	return s
}

// versions counts the marks that upgrades have left.
func (o *outcome) versions() (n int) {
	for mark := range o.marks {
		if mark >= firstUpgrade {
			n++
		}
	}
	return n
}

// check fails a test in which anything was not as it should, or too little happened to tell.
func (o *outcome) check(t *testing.T) {
	t.Helper()
	if o.violations > 0 || o.missing != nil {
		t.Error("nothing may be lost, twice, out of order or torn")
	}
	if o.letters == 0 {
		t.Error("no poisoned record has become a dead letter")
	}
}

// settleTime bounds how long after the last disturbance everything has to have come.
const settleTime = 60 * time.Second

// run sends, disturbs, waits until everything has come, and reads all once more from the start.
func (v *verification) run() (*outcome, error) {
	ctx, cancel := context.WithTimeout(v.t.Context(), 20*time.Minute)
	defer cancel()
	began := time.Now()
	src, err := newSource(v.brokers, 24)
	if err != nil {
		return nil, err
	}
	defer src.client.Close()
	live, err := newSink(v.brokers, fleetStreams(), fleetPartitions)
	if err != nil {
		return nil, err
	}
	defer live.client.Close()
	sending, stopSending := context.WithCancel(ctx)
	sent := make(chan error, 1)
	go func() { sent <- src.send(sending, random(v.seed, 1)) }()
	reading, stopReading := context.WithCancel(ctx)
	read := make(chan struct{})
	go func() { defer close(read); live.read(reading, nil, nil) }()

	disturbErr := v.disturbAll(ctx, live)
	stopSending()
	sendErr := <-sent
	calmSince := time.Now()
	settled := v.settle(live, src)
	o := &outcome{sent: src.sent.Load(), settled: time.Since(calmSince), missing: settled, marks: live.marks}
	stopReading()
	<-read
	if err := errors.Join(disturbErr, sendErr); err != nil {
		return o, err
	}
	// What a reader saw that was there all the time, and what one sees that comes afterwards.
	again, err := newSink(v.brokers, fleetStreams(), fleetPartitions)
	if err != nil {
		return nil, err
	}
	defer again.client.Close()
	patience := settleTime
	if n, _ := live.found(); n > 0 {
		patience = 3 * time.Second // it may never come
	}
	rereading, cancelRead := context.WithTimeout(ctx, patience)
	defer cancelRead()
	again.read(rereading, src.next, src.keys)
	for _, s := range []*sink{live, again} {
		n, cases := s.found()
		o.violations += n
		o.cases = append(o.cases, cases...)
	}
	o.letters = live.taken[poisonStream()]
	if o.missing == nil {
		o.missing = again.missing(src.next, src.keys)
	}
	o.took = time.Since(began)
	return o, nil
}

func (v *verification) disturbAll(ctx context.Context, live *sink) error {
	random := random(v.seed, 2)
	for range v.times {
		select {
		case <-time.After(between(random, v.restLow, v.restHigh)):
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := v.disturb(ctx, random); err != nil {
			return err
		}
		if v.enough != nil && v.enough(live) {
			return nil
		}
	}
	return nil
}

// settle waits until everything has come; it goes on as long as something comes.
func (v *verification) settle(s *sink, src *source) error {
	deadline := time.Now().Add(settleTime)
	for {
		err := s.missing(src.next, src.keys)
		if n, _ := s.found(); err == nil || n > 0 || time.Now().After(deadline) {
			return err
		}
		<-time.After(20 * time.Millisecond)
	}
}

// servers is how many servers share the kills of a test: they wait for most of
// the time, and journals stay short.
const servers = 3

// TestVerifyEmbedded kills, pauses and cuts off servers that run their deployments themselves.
func TestVerifyEmbedded(t *testing.T) {
	binaryPath(t)
	seed := seed(t)
	for i := range servers {
		t.Run(fmt.Sprint("server ", i), func(t *testing.T) {
			t.Parallel()
			verifyEmbedded(t, seed+uint64(i), (*flagKills+servers-1)/servers)
		})
	}
}

func verifyEmbedded(t *testing.T, seed uint64, kills int) {
	p := newProxy(t, seed, nil)
	s := startServer(t, p)
	createFleetTopics(t, p.address(), 64<<10)
	deployFleet(t, s.admin, deploy.DeliveryExactlyOnce)
	var freezes, cuts, restarts int
	u := &upgrades{t: t, member: fleet()[0]}
	defer u.running.Wait()
	v := &verification{
		t: t, seed: seed, brokers: p.address(), times: kills + kills/9, restLow: 5 * time.Millisecond, restHigh: 400 * time.Millisecond,
		disturb: func(ctx context.Context, random *rand.Rand) error {
			switch random.IntN(10) {
			case 0:
				freezes++
				if err := s.freeze(ctx, between(random, 10*time.Millisecond, 300*time.Millisecond)); err != nil {
					return err
				}
			case 1, 2:
				cuts++
				p.cut(random.Float64())
			case 3, 4: // in mid-stream, and the kill comes into the middle of it
				u.begin(ctx, s.admin, random, between(random, 100*time.Millisecond, 5*time.Second))
				if random.IntN(2) == 0 {
					u.running.Wait()
				}
				<-time.After(between(random, 0, 300*time.Millisecond))
			}
			if random.IntN(10) == 0 {
				restarts++
				return s.restart()
			}
			return s.crash(between(random, 0, 20*time.Millisecond))
		},
	}
	o, err := v.run()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d kills, %d restarts, %d pauses, %d cuts, %s; %s", s.kills, restarts, freezes, cuts, u, o)
	o.check(t)
}
