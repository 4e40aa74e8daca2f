package verify

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"
)

// nemesis disturbs a run until ctx ends.
type nemesis struct {
	name    string
	weather weather
	// late: requests come late, which transactions before KIP-890 do not survive on any broker.
	late    bool
	disturb func(ctx context.Context, random *rand.Rand, s *daemon, p *proxy) error
}

var nemeses = []nemesis{
	{name: "kill", disturb: func(_ context.Context, random *rand.Rand, s *daemon, _ *proxy) error {
		if random.IntN(5) == 0 {
			return s.restart()
		}
		return s.crash(between(random, 0, 200*time.Millisecond))
	}},
	{name: "pause", disturb: func(ctx context.Context, random *rand.Rand, s *daemon, p *proxy) error {
		return s.freeze(ctx, between(random, 100*time.Millisecond, 3*time.Second))
	}},
	{name: "cut", weather: weather{mute: 0.005}, disturb: func(_ context.Context, random *rand.Rand, s *daemon, p *proxy) error {
		p.cut(random.Float64())
		return nil
	}},
	{name: "late", late: true, weather: weather{delay: 0.02, delayMost: 200 * time.Millisecond, strand: 0.01, strandMost: time.Second}},
	{name: "all", late: true, weather: weather{delay: 0.01, delayMost: 100 * time.Millisecond, strand: 0.003, strandMost: time.Second, mute: 0.002},
		disturb: func(ctx context.Context, random *rand.Rand, s *daemon, p *proxy) error {
			switch random.IntN(3) {
			case 0:
				return s.crash(between(random, 0, 200*time.Millisecond))
			case 1:
				return s.freeze(ctx, between(random, 100*time.Millisecond, time.Second))
			}
			p.cut(random.Float64())
			return nil
		}},
}

// TestHistories records what concurrent clients see of a server under each kind
// of fault, and has it checked.
func TestHistories(t *testing.T) {
	binaryPath(t)
	seed := seed(t)
	for i, n := range nemeses {
		t.Run(n.name, func(t *testing.T) {
			p := newProxy(t, seed+uint64(i), nil)
			s := startServer(t, p)
			r := newRun(t, seed+uint64(i), p.address())
			r.old = !n.late
			r.createTopics()
			r.deployCopy(s.admin)
			p.weather.Store(&n.weather)
			r.under(n, s, p, *flagDuration)
			p.weather.Store(calm)
			if err := r.finish(40 * time.Second); err != nil {
				t.Error(err)
			}
			r.ops = append(r.ops, r.derive()...)
			result := r.check()
			t.Logf("%d kills; %d requests delivered late, %d delayed, %d without an answer; %s",
				s.kills, p.stranded.Load(), p.delayed.Load(), p.muted.Load(), result.Report())
			for _, name := range result.Forbidden() {
				t.Errorf("%s: %d cases", name, len(result.Anomalies[name]))
			}
			for _, f := range r.failures {
				t.Error(f)
			}
			if result.Committed < 100 {
				t.Errorf("only %d operations committed: that says little", result.Committed)
			}
		})
	}
}

// under lets the processes work while the nemesis disturbs them.
func (r *run) under(n nemesis, s *daemon, p *proxy, d time.Duration) {
	ctx, cancel := context.WithTimeout(r.t.Context(), d)
	defer cancel()
	disturbed := make(chan error, 1)
	go func() {
		random := random(r.seed, 1<<21)
		for {
			select {
			case <-ctx.Done():
				disturbed <- nil
				return
			case <-time.After(between(random, 20*time.Millisecond, 1500*time.Millisecond)):
			}
			if n.disturb == nil {
				continue
			}
			if err := n.disturb(ctx, random, s, p); err != nil {
				disturbed <- err
				return
			}
		}
	}()
	r.work(ctx)
	if err := <-disturbed; err != nil {
		r.t.Fatal(err)
	}
}
