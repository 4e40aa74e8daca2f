package worker_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/worker"
	"github.com/millstream-io/millstream/runtime/worker/workertest"
)

func wantCompleted(t *testing.T, w *worker.Worker) {
	t.Helper()
	<-w.Done()
	if phase, reason := w.Phase(); phase != worker.PhaseCompleted || !w.Completed() {
		t.Errorf("phase is %s: %s", phase, reason)
	}
}

func TestARunUntilTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 3, workertest.Upper)
		b.set = func(c *worker.Config) { c.Until = worker.Until{AtEnd: true} }
		b.log.AppendTo("in", 0, padded(1000)...)
		b.log.AppendTo("in", 1, "b")
		first, second := b.start(), b.start()
		synctest.Wait()
		b.log.AppendTo("in", 0, "late")
		b.log.AppendTo("in", 2, "late")
		wantCompleted(t, first)
		wantCompleted(t, second)
		if n := len(b.log.Records("out")); n != 1001 {
			t.Errorf("%d outputs, want those of the records that were there, 1,001", n)
		}
		// The next run takes what came since.
		wantCompleted(t, b.start())
		if at := []int64{b.log.Committed("d", "in", 0), b.log.Committed("d", "in", 1), b.log.Committed("d", "in", 2)}; !slices.Equal(at, []int64{1001, 1, 1}) {
			t.Errorf("committed offsets are %v", at)
		}
		b.finish()
	})
}

// A member that has no partition, or is through with its own, waits for the others.
func TestABoundedRunIsThatOfTheGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 2, func(c *workertest.Call) error {
			time.Sleep(time.Minute)
			return workertest.Upper(c)
		})
		b.set = func(c *worker.Config) { c.Until = worker.Until{AtEnd: true} }
		b.log.AppendTo("in", 1, "a", "b", "c")
		workers := []*worker.Worker{b.start(), b.start(), b.start()}
		time.Sleep(2 * time.Minute)
		for _, w := range workers {
			if w.Completed() {
				t.Error("a worker is through before the group is")
			}
		}
		for _, w := range workers {
			wantCompleted(t, w)
		}
		wantValues(t, "out", b.log.Records("out"), []string{"A", "B", "C"})
		b.finish()
	})
}

func TestARunUntilATime(t *testing.T) {
	for _, past := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, 2, workertest.Upper)
			end := time.Now().Add(time.Hour)
			b.set = func(c *worker.Config) { c.Until = worker.Until{Time: end} }
			for i, value := range []string{"a", "b", "after", "before, but behind one after"} {
				at := []time.Duration{-time.Hour, -time.Millisecond, 0, -time.Second}[i]
				b.ok(b.log.Append(t.Context(), "in", []engine.Record{{Timestamp: end.Add(at).UnixMilli(), Value: []byte(value)}}))
			}
			if past {
				time.Sleep(2 * time.Hour)
			}
			w, started := b.start(), time.Now()
			wantCompleted(t, w)
			if took := time.Since(started); !past && took < time.Hour || past && took > time.Minute {
				t.Errorf("it took %v", took)
			}
			wantValues(t, "out", b.log.Records("out"), []string{"A", "B"})
			if at := b.log.Committed("d", "in", 0); at != 2 {
				t.Errorf("the committed offset is %d, want that of the first record behind the end, 2", at)
			}
			b.finish()
		})
	}
}

func TestABoundedRunThatFailsIsNotCompleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, failing("bad", errBad))
		b.set = func(c *worker.Config) { c.Until, c.OnError = worker.Until{AtEnd: true}, "stop" }
		b.log.AppendTo("in", 0, "a", "bad")
		w := b.start()
		<-w.Done()
		if phase, _ := w.Phase(); phase != worker.PhaseFailed || w.Completed() {
			t.Errorf("phase is %s", phase)
		}
		b.finish()
	})
}
