package worker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/runtime/worker"
	"github.com/millstream-io/millstream/runtime/worker/workertest"
)

// labelled puts records out with a label in front.
func labelled(label string, perRecord time.Duration) *workertest.Program {
	return &workertest.Program{Func: func(c *workertest.Call) error {
		time.Sleep(perRecord)
		c.Emit(0, append([]byte(label), c.Record.Value...))
		return nil
	}}
}

// next is a release of another program, which counts that it is retired.
func (b *bench) next(p *workertest.Program, retired *int) worker.Release {
	r := b.config().Release
	r.Program = p
	if retired != nil {
		r.Retired = func() { *retired++ }
	}
	return r
}

func TestIdlePartitionsChangeOverAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 3, nil)
		b.program = labelled("1", 0)
		retired := []int{0, 0}
		b.set = func(c *worker.Config) { c.Retired = func() { retired[0]++ } }
		w := b.start()
		<-w.Assigned()
		generation := b.log.Joins("d")
		for p := range 3 {
			b.log.AppendTo("in", p, "a")
		}
		synctest.Wait()
		two := labelled("2", 0)
		b.ok(w.Replace(t.Context(), b.next(two, &retired[1])))
		if n := b.program.Open.Load(); n != 0 || retired[0] != 1 {
			t.Errorf("the old release has %d guests and was retired %d times", n, retired[0])
		}
		for p := range 3 {
			b.log.AppendTo("in", p, "b")
		}
		synctest.Wait()
		wantValues(t, "out", b.log.Records("out"), []string{"1a", "2b", "1a", "2b", "1a", "2b"})
		if b.log.Joins("d") != generation {
			t.Error("the group was left")
		}
		if in := b.stats.RecordsIn.Load(); in != 6 {
			t.Errorf("statistics have %d records, want those of both", in)
		}
		b.finish()
		if n := two.Open.Load(); n != 0 || retired[1] != 1 {
			t.Errorf("the new release has %d guests and was retired %d times", n, retired[1])
		}
	})
}

func TestARecordIsHandledByOneRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, nil)
		b.program = labelled("0", time.Millisecond)
		b.log.AppendTo("in", 0, numbers(20_000, "-%d")...)
		w := b.start()
		programs := []*workertest.Program{b.program}
		for i := range 3 {
			time.Sleep(1700 * time.Millisecond)
			programs = append(programs, labelled(fmt.Sprint(i+1), time.Millisecond))
			b.ok(w.Replace(t.Context(), b.next(programs[i+1], nil)))
			if n := programs[i].Open.Load(); n != 0 {
				t.Errorf("release %d has %d guests", i, n)
			}
		}
		b.ok(b.log.Wait(t.Context(), func() bool { return b.log.Committed("d", "in", 0) == 20_000 }))
		labels := ""
		for i, r := range b.log.Records("out") {
			label, rest, _ := strings.Cut(string(r.Value), "-")
			if rest != fmt.Sprint(i) {
				t.Fatalf("output %d is %q", i, r.Value)
			}
			if !strings.HasSuffix(labels, label) {
				labels += label
			}
		}
		if labels != "0123" {
			t.Errorf("the releases were in use in the order %s", labels)
		}
		b.finish()
	})
}

func TestAReleaseThatDoesNotStartChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, workertest.Upper)
		w := b.start()
		retired := 0
		bad := &workertest.Program{Start: func(host.Setup) error { return &host.SetupError{Message: "no glossary"} }}
		err := w.Replace(t.Context(), b.next(bad, &retired))
		if _, ok := errors.AsType[*host.SetupError](err); !ok || retired != 0 {
			t.Errorf("error is %v, retired %d times", err, retired)
		}
		b.log.AppendTo("in", 0, "a")
		synctest.Wait()
		wantValues(t, "out", b.log.Records("out"), []string{"A"})
		b.finish()
		if err := w.Replace(t.Context(), b.next(labelled("2", 0), nil)); !errors.Is(err, worker.ErrEnded) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// Whoever waits for a disk or a topic is freed by a release that writes somewhere else.
func TestAReleaseEndsTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, workertest.Upper)
		b.ok(b.log.EnsureTopic(t.Context(), "elsewhere", 1, nil))
		b.log.SetFault(func(op, _ string) error {
			if op == "commit" {
				return fmt.Errorf("%w: no space left on device", engine.ErrStorage)
			}
			return nil
		})
		b.log.AppendTo("in", 0, "a")
		w := b.start()
		time.Sleep(10 * time.Minute)
		b.log.SetFault(nil)
		started, r := time.Now(), b.next(labelled("2", 0), nil)
		r.Outputs = []string{"elsewhere"}
		b.ok(w.Replace(t.Context(), r))
		b.ok(b.log.Wait(t.Context(), func() bool { return b.log.Committed("d", "in", 0) == 1 }))
		if took := time.Since(started); took > time.Second {
			t.Errorf("it took %v", took)
		}
		wantValues(t, "out", b.log.Records("out"), nil)
		wantValues(t, "elsewhere", b.log.Records("elsewhere"), []string{"2a"})
		b.finish()
	})
}

func TestAChangeGoesOnBehindItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, nil)
		b.program = labelled("1", time.Minute)
		b.log.AppendTo("in", 0, "a")
		w := b.start()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := w.Replace(ctx, b.next(labelled("2", 0), nil))
		if !errors.Is(err, worker.ErrReplacing) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error is %v", err)
		}
		if s := w.Snapshot(); s.Replacing != 1 {
			t.Errorf("%d partitions are to follow", s.Replacing)
		}
		b.log.AppendTo("in", 0, "b")
		b.ok(b.log.Wait(t.Context(), func() bool { return b.log.Committed("d", "in", 0) == 2 }))
		wantValues(t, "out", b.log.Records("out"), []string{"1a", "2b"})
		if s := w.Snapshot(); s.Replacing != 0 || b.program.Open.Load() != 0 {
			t.Errorf("%d partitions are to follow, %d old guests", s.Replacing, b.program.Open.Load())
		}
		b.finish()
	})
}
