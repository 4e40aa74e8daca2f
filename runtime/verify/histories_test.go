package verify

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"
)

// nemesis is a kind of faults.
type nemesis struct {
	name    string
	weather weather
	// late: requests come late, which transactions before KIP-890 do not survive on any broker.
	late    bool
	disturb func(ctx context.Context, random *rand.Rand, v victims) error // nil: the weather is enough
}

// victims are what a nemesis disturbs.
type victims interface {
	kill(random *rand.Rand) error
	pause(ctx context.Context, random *rand.Rand) error
	cut(random *rand.Rand)
}

var nemeses = []nemesis{
	{name: "kill", disturb: func(_ context.Context, random *rand.Rand, v victims) error { return v.kill(random) }},
	{name: "pause", disturb: func(ctx context.Context, random *rand.Rand, v victims) error { return v.pause(ctx, random) }},
	{name: "cut", weather: weather{mute: 0.005}, disturb: func(_ context.Context, random *rand.Rand, v victims) error {
		v.cut(random)
		return nil
	}},
	{name: "late", late: true, weather: weather{delay: 0.02, delayMost: 200 * time.Millisecond, strand: 0.01, strandMost: time.Second}},
	{name: "all", late: true, weather: weather{delay: 0.01, delayMost: 100 * time.Millisecond, strand: 0.003, strandMost: time.Second, mute: 0.002}, disturb: byChance},
}

func byChance(ctx context.Context, random *rand.Rand, v victims) error {
	switch random.IntN(3) {
	case 0:
		return v.kill(random)
	case 1:
		return v.pause(ctx, random)
	}
	v.cut(random)
	return nil
}

// serverVictims are a server and its network.
type serverVictims struct {
	*daemon
	proxy *proxy
}

func (v serverVictims) kill(random *rand.Rand) error {
	if random.IntN(5) == 0 {
		return v.restart()
	}
	return v.crash(between(random, 0, 200*time.Millisecond))
}

func (v serverVictims) pause(ctx context.Context, random *rand.Rand) error {
	return v.freeze(ctx, between(random, 100*time.Millisecond, 3*time.Second))
}

func (v serverVictims) cut(random *rand.Rand) { v.proxy.cut(random.Float64()) }

// TestHistories records what concurrent clients see of a server under each kind
// of fault, and has it checked.
func TestHistories(t *testing.T) {
	binaryPath(t)
	seed := seed(t)
	for i, n := range nemeses {
		t.Run(n.name, func(t *testing.T) {
			p := newProxy(t, seed+uint64(i), nil)
			s := startServer(t, p)
			r := newRun(t, seed+uint64(i), p.address(), "")
			r.old = !n.late
			r.createTopics()
			r.deployCopy(s.admin)
			p.weather.Store(&n.weather)
			r.under(func(ctx context.Context, random *rand.Rand) error {
				if n.disturb == nil {
					return nil
				}
				return n.disturb(ctx, random, serverVictims{s, p})
			}, *flagDuration)
			p.weather.Store(calm)
			r.conclude(40 * time.Second)
			t.Logf("%d kills; %d requests delivered late, %d delayed, %d without an answer", s.kills, p.stranded.Load(), p.delayed.Load(), p.muted.Load())
		})
	}
}

// under lets the processes work while something disturbs them, if anything does.
func (r *run) under(disturb func(ctx context.Context, random *rand.Rand) error, d time.Duration) {
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
			if disturb == nil {
				continue
			}
			if err := disturb(ctx, random); err != nil {
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

// conclude reads everything once more and checks what was recorded.
func (r *run) conclude(patience time.Duration) {
	t := r.t
	t.Helper()
	if err := r.finish(patience); err != nil {
		t.Error(err)
	}
	r.ops = append(r.ops, r.derive()...)
	result := r.check()
	t.Log(result.Report())
	for _, name := range result.Forbidden() {
		t.Errorf("%s: %d cases", name, len(result.Anomalies[name]))
	}
	for _, f := range r.failures {
		t.Error(f)
	}
	if result.Committed < 100 {
		t.Errorf("only %d operations committed: that says little", result.Committed)
	}
}
