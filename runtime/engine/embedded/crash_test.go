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
	states []*vfs.Mem
}

func (c *crashes) fault(ignoreSync func(path string) bool) *vfs.Fault {
	return &vfs.Fault{FS: c.mem, Decide: func(op vfs.Op) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if op.Kind.Mutates() && !c.busy && c.rng.IntN(4) == 0 {
			c.busy = true
			c.states = append(c.states, c.mem.CrashClone(c.rng.Uint64N(3))) // 0: all that was not synced is lost
			c.busy = false
		}
		if op.Kind == vfs.OpSync && ignoreSync(op.Path) {
			return vfs.Ignore
		}
		return nil
	}}
}

// copyAll copies topic "in" to "out" until the input ends, in small batches.
func copyAll(t *testing.T, l *log, more func(round int) bool) {
	t.Helper()
	ctx := context.Background()
	m, err := l.engine.Join(ctx, engine.Group{Name: "copy", Inputs: []string{"in"},
		Start: engine.Start{Kind: engine.StartEarliest}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Leave(ctx)
	sessions, err := m.Next(ctx)
	if err != nil || len(sessions) != 1 {
		t.Fatalf("%d sessions, %v", len(sessions), err)
	}
	c := &copier{s: sessions[0], area: make([]byte, 4<<10)}
	p, err := l.topics.Partition("in", 0)
	if err != nil {
		t.Fatal(err)
	}
	s := sessions[0].(*session)
	for round := 0; ; round++ {
		again := more(round)
		if s.position >= p.Offsets().HighWatermark {
			if !again {
				return
			}
			continue
		}
		if _, err := c.step(ctx, 300); err != nil {
			t.Fatal(err)
		}
	}
}

func valuesIn(l *log, name string) (values []string, err error) {
	_, err = l.engine.ReadAll(context.Background(), name, nil, func(_ int32, r engine.Record) error {
		values = append(values, string(r.Value))
		return nil
	})
	return values, err
}

// judge opens what a crash left and looks for records that are committed and have no output.
func judge(t *testing.T, state *vfs.Mem, goOn bool) error {
	t.Helper()
	l, err := tryOpenLog(state, "data")
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
	out, err := valuesIn(l, "out")
	if err != nil {
		return err
	}
	committed := lag[engine.TopicPartition{Topic: "in"}].Committed
	if committed > int64(len(in)) {
		return fmt.Errorf("offset %d is committed and the input ends at %d: what comes next would be passed over", committed, len(in))
	}
	for _, v := range in[:max(committed, 0)] {
		if !slices.Contains(out, v) {
			return fmt.Errorf("offset %d is committed and %s has no output", committed, v)
		}
	}
	if goOn {
		copyAll(t, l, func(int) bool { return false })
		all, err := valuesIn(l, "out")
		if err != nil {
			return err
		}
		for _, v := range in {
			if !slices.Contains(all, v) {
				return fmt.Errorf("%s has no output after the work was taken up again", v)
			}
		}
	}
	return nil
}

// work runs the copy with producers that do not wait for durability, and returns the crash states.
func work(t *testing.T, seed uint64, ignoreSync func(path string) bool) []*vfs.Mem {
	t.Helper()
	c := &crashes{mem: vfs.NewMem(), rng: rand.New(rand.NewPCG(seed, 1))}
	l := openLog(t, c.fault(ignoreSync), "data")
	for _, name := range []string{"in", "out"} {
		if err := l.engine.EnsureTopic(context.Background(), name, 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	written := 0
	copyAll(t, l, func(round int) bool {
		if round%2 == 0 && written < 60 {
			var batch []engine.Record
			for range 3 {
				batch = append(batch, engine.Record{Timestamp: 1, Value: fmt.Appendf(nil, "v%03d", written)})
				written++
			}
			l.produce(t, "in", 0, "none", batch)
		}
		return written < 60
	})
	l.close(t)
	return c.states
}

// TestCrash: in whatever state a power cut leaves the disk, every offset that is
// committed has its inputs before it and its outputs behind it.
func TestCrash(t *testing.T) {
	states := 0
	for seed := range uint64(6) {
		for i, state := range work(t, seed, func(string) bool { return false }) {
			states++
			if err := judge(t, state, i%8 == 0); err != nil {
				t.Fatalf("seed %d, state %d: %v", seed, i, err)
			}
		}
	}
	if states < 100 {
		t.Errorf("only %d states were judged", states)
	}
}

// TestCrashControl: if the flushes of inputs and outputs do nothing, the judge must see it.
func TestCrashControl(t *testing.T) {
	for _, name := range []string{"in-0", "out-0"} {
		caught := false
		for seed := range uint64(6) {
			ignore := func(path string) bool { return strings.Contains(path, name) }
			for _, state := range work(t, seed, ignore) {
				caught = caught || judge(t, state, false) != nil
			}
		}
		if !caught {
			t.Errorf("flushes of %s were left out and nobody noticed", name)
		}
	}
}
