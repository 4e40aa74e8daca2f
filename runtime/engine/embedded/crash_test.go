package embedded

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/millstream-io/millstream/broker/vfs"
	"github.com/millstream-io/millstream/runtime/engine"
)

// crashes is a file system that keeps what a power cut would leave at some of its moments.
type crashes struct {
	mem *vfs.Mem

	mu     sync.Mutex
	rng    *rand.Rand
	busy   bool
	every  int   // keep about every so many-th moment
	acked  int64 // the last offset whose commit has returned
	states []crashState
}

// crashState is a disk after a power cut, and what had been promised by then.
type crashState struct {
	mem   *vfs.Mem
	acked int64
}

func (c *crashes) fault(ignoreSync func(path string) bool) *vfs.Fault {
	return &vfs.Fault{FS: c.mem, Decide: func(op vfs.Op) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if op.Kind.Mutates() && !c.busy && c.rng.IntN(c.every) == 0 {
			c.busy = true
			c.states = append(c.states, crashState{c.mem.CrashClone(c.rng.Uint64N(3)), c.acked}) // 0: all that was not synced is lost
			c.busy = false
		}
		if op.Kind == vfs.OpSync && ignoreSync(op.Path) {
			return vfs.Ignore
		}
		return nil
	}}
}

func (c *crashes) ack(next int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acked = next
}

// joinCopy joins the group that copies topic "in" to "out".
func joinCopy(t *testing.T, l *log, delivery engine.Delivery) (*session, engine.Member) {
	t.Helper()
	m, err := l.engine.Join(context.Background(), engine.Group{Name: "copy", Inputs: []string{"in"},
		Start: engine.Start{Kind: engine.StartEarliest}, Delivery: delivery})
	if err != nil {
		t.Fatal(err)
	}
	for {
		sessions, err := m.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if len(sessions) == 1 {
			return sessions[0].(*session), m
		}
	}
}

// copyAll copies topic "in" to "out" until the input ends, in small batches; some
// are aborted on the way, and the session is opened anew now and then.
func copyAll(t *testing.T, l *log, delivery engine.Delivery, more func(round int) bool, ack func(int64)) {
	t.Helper()
	ctx := context.Background()
	s, m := joinCopy(t, l, delivery)
	defer func() { _ = m.Leave(ctx) }()
	c := &copier{s: s, area: make([]byte, 4<<10)}
	for round := 1; ; round++ {
		again := more(round)
		if !s.Ready() {
			if !again {
				return
			}
			continue
		}
		switch {
		case round%7 == 0:
			if _, err := c.fill(ctx, 300); err != nil {
				t.Fatal(err)
			}
			if err := s.Abort(ctx); err != nil {
				t.Fatal(err)
			}
			c.open = false
		case round%11 == 0: // and leaves something open
			if _, err := c.fill(ctx, 300); err != nil {
				t.Fatal(err)
			}
			if err := m.Leave(ctx); err != nil {
				t.Fatal(err)
			}
			s, m = joinCopy(t, l, delivery)
			c.s, c.open = s, false
		default:
			if _, err := c.step(ctx, 300); err != nil {
				t.Fatal(err)
			}
			ack(s.committed)
		}
	}
}

func valuesIn(l *log, name string) (values []string, err error) {
	_, err = l.engine.ReadAll(context.Background(), name, nil, func(_ int32, r engine.Record) error {
		values = append(values, string(r.Value))
		return nil
	})
	slices.Sort(values) // over all partitions
	return values, err
}

// judge opens what a crash left and compares what is committed with the outputs.
func judge(t *testing.T, state crashState, delivery engine.Delivery, goOn bool) error {
	t.Helper()
	l, err := tryOpenLog(state.mem, "data")
	if err != nil {
		return err
	}
	defer l.close(t)
	if found, _ := l.engine.Topics(context.Background(), []string{"in", "out"}); len(found) != 2 {
		return nil // before the work began
	}
	lag, err := l.engine.Lag(context.Background(), "copy", []string{"in"})
	if err != nil {
		return err
	}
	in, err := valuesIn(l, "in")
	if err != nil {
		return err
	}
	committed := max(0, lag[engine.TopicPartition{Topic: "in"}].Committed)
	if committed > int64(len(in)) {
		return fmt.Errorf("offset %d is committed and the input ends at %d: what comes next would be passed over", committed, len(in))
	}
	if delivery == engine.ExactlyOnce && committed < state.acked {
		return fmt.Errorf("offset %d is committed, and %d was promised", committed, state.acked)
	}
	if err := compare(l, in[:committed], delivery); err != nil || !goOn {
		return err
	}
	copyAll(t, l, delivery, func(int) bool { return false }, func(int64) {})
	if err := compare(l, in, delivery); err != nil {
		return fmt.Errorf("after the work was taken up again: %w", err)
	}
	return nil
}

// compare says what is wrong with the outputs of these inputs.
func compare(l *log, in []string, delivery engine.Delivery) error {
	out, err := valuesIn(l, "out")
	if err != nil {
		return err
	}
	if delivery == engine.ExactlyOnce {
		if !slices.Equal(in, out) {
			return fmt.Errorf("inputs up to %d are committed, and the outputs are %v", len(in), out)
		}
		return nil
	}
	for _, v := range in {
		if !slices.Contains(out, v) {
			return fmt.Errorf("inputs up to %d are committed, and %s has no output", len(in), v)
		}
	}
	return nil
}

// openCopy opens a log that writes outputs ahead early, so that there is much to tear.
func openCopy(tb testing.TB, fs vfs.FS) *log {
	l := openLog(tb, fs, "data")
	l.engine.(*embedded).ahead = 150
	return l
}

// work runs the copy with producers that do not wait for durability, and returns the crash states.
func work(t *testing.T, seed uint64, delivery engine.Delivery, every int, ignoreSync func(path string) bool) []crashState {
	t.Helper()
	const records = 60
	c := &crashes{mem: vfs.NewMem(), rng: rand.New(rand.NewPCG(seed, 1)), every: every}
	l := openCopy(t, c.fault(ignoreSync))
	for name, partitions := range map[string]int{"in": 1, "out": 2} {
		if err := l.engine.EnsureTopic(context.Background(), name, partitions, nil); err != nil {
			t.Fatal(err)
		}
	}
	written := 0
	copyAll(t, l, delivery, func(round int) bool {
		if round%2 == 0 && written < records {
			var batch []engine.Record
			for range 3 {
				batch = append(batch, engine.Record{Timestamp: 1, Key: fmt.Append(nil, written%5), Value: fmt.Appendf(nil, "v%03d", written)})
				written++
			}
			l.produce(t, "in", 0, "none", batch)
		}
		return written < records
	}, c.ack)
	l.close(t)
	return c.states
}

// TestCrash: in whatever state a power cut leaves the disk, what is committed is what
// has its outputs: with exactly-once delivery these and no others, each once, and every commit that has returned.
func TestCrash(t *testing.T) {
	for name, delivery := range deliveries {
		t.Run(name, func(t *testing.T) {
			states := 0
			for seed := range uint64(6) {
				every := 4
				if seed == 0 && !testing.Short() {
					every = 1
				}
				for i, state := range work(t, seed, delivery, every, func(string) bool { return false }) {
					states++
					if err := judge(t, state, delivery, i%8 == 0); err != nil {
						t.Fatalf("seed %d, state %d: %v", seed, i, err)
					}
				}
			}
			t.Logf("%d states", states)
			if states < 100 {
				t.Errorf("only %d states were judged", states)
			}
		})
	}
}

// TestCrashControl: if the flushes of anything that matters do nothing, the judge must see it.
func TestCrashControl(t *testing.T) {
	for name, delivery := range deliveries {
		lies := []string{"in-0", "out-0", "out-1"}
		if delivery == engine.ExactlyOnce {
			lies = append(lies, "__consumer_offsets", "__transaction_state")
		}
		for _, lie := range lies {
			t.Run(name+"/"+lie, func(t *testing.T) {
				for seed := range uint64(6) {
					for _, state := range work(t, seed, delivery, 4, func(path string) bool { return strings.Contains(path, lie) }) {
						if judge(t, state, delivery, false) != nil {
							return
						}
					}
				}
				t.Errorf("flushes of %s were left out and nobody noticed", lie)
			})
		}
	}
}
