package worker_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/runtime/deadletter"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/runtime/worker"
	"github.com/millstream-io/millstream/runtime/worker/workertest"
)

// failingOften traps on records that begin with "bad", as often as tries says, or always.
func failingOften(tries int, calls *int) workertest.Func {
	return func(c *workertest.Call) error {
		if strings.HasPrefix(string(c.Record.Value), "bad") {
			// Only calls of the record alone are tries; those before narrow the batch down.
			if c.Batch.Count == 1 {
				*calls++
			}
			if *calls < tries || tries == 0 || c.Batch.Count > 1 {
				return &host.Trap{Kind: host.TrapFault, Detail: "unreachable"}
			}
		}
		return workertest.Upper(c)
	}
}

func TestARecordIsTriedAgain(t *testing.T) {
	for _, c := range []struct {
		name           string
		retries, tries int // tries until it goes well; 0 = never
		calls          int
		letters        []string
		out            []string
	}{
		{"it goes well at the last try", 2, 3, 3, nil, []string{"BAD", "A", "B"}},
		{"it never does", 2, 0, 3, []string{"bad"}, []string{"A", "B"}},
		{"it is not tried again", 0, 2, 1, []string{"bad"}, []string{"A", "B"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				b := newBench(t, 1, failingOften(c.tries, &calls))
				b.set = func(w *worker.Config) { w.Retries = c.retries }
				b.log.AppendTo("in", 0, "bad", "a", "b")
				b.start()
				b.ok(b.log.Wait(t.Context(), func() bool { return b.log.Committed("d", "in", 0) == 3 }))
				synctest.Wait()
				wantValues(t, "out", b.log.Records("out"), c.out)
				wantValues(t, "dead letters", b.log.Records("d.dlq"), c.letters)
				if calls != c.calls {
					t.Errorf("the record was tried %d times, want %d", calls, c.calls)
				}
				if n := b.stats.RecordRetries.Load(); n != int64(c.calls-1) {
					t.Errorf("counted %d retries, want %d", n, c.calls-1)
				}
				b.finish()
			})
		})
	}
}

// A record that runs on until it is stopped holds up its own partition for a few seconds, and no other.
func TestARecordThatLoopsHoldsUpItsPartitionForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 2, func(c *workertest.Call) error {
			if string(c.Record.Value) == "loop" {
				// What the host's limits come to: a second for the record alone, up to ten for a batch.
				time.Sleep(min(10*time.Second, time.Second+time.Duration(c.Batch.Count-1)*time.Second/100))
				return &host.Trap{Kind: host.TrapFuel, Detail: "fuel"}
			}
			return workertest.Upper(c)
		})
		b.set = func(c *worker.Config) { c.Retries = deploy.DefaultRetries }
		b.log.AppendTo("in", 0, numbers(100, "a%d")...)
		b.log.AppendTo("in", 0, "loop")
		b.log.AppendTo("in", 0, numbers(100, "b%d")...)
		b.start()
		started := time.Now()
		for i := range 50 {
			b.log.AppendTo("in", 1, fmt.Sprint(i))
			synctest.Wait()
			if at := b.log.Committed("d", "in", 1); at != int64(i)+1 {
				t.Errorf("after %v the other partition is at offset %d, want %d", time.Since(started), at, i+1)
			}
			time.Sleep(100 * time.Millisecond)
		}
		b.ok(b.log.Wait(t.Context(), func() bool { return b.log.Committed("d", "in", 0) == 201 }))
		if took := time.Since(started); took > 10*time.Second {
			t.Errorf("the others of the partition had to wait for %v", took)
		}
		wantValues(t, "dead letters", b.log.Records("d.dlq"), []string{"loop"})
		b.finish()
	})
}

func TestTooManyFailuresStopTheDeployment(t *testing.T) {
	mixed := func(n, every int) []string { // one of every is bad
		list := numbers(n, "a%d")
		for i := every - 1; i < n; i += every {
			list[i] = "bad"
		}
		return list
	}
	for _, c := range []struct {
		name  string
		limit deploy.FailureLimit
		in    []string
		err   error
		stops bool
		most  int // dead letters
	}{
		{"half of them", deploy.FailureLimit{}, mixed(2000, 2), errBad, true, 100},
		{"a third of them", deploy.FailureLimit{}, mixed(2000, 3), errBad, false, 666},
		{"a third of them, where a tenth is too many", deploy.FailureLimit{Percent: 10}, mixed(2000, 3), errBad, true, 100},
		{"all of them, which is allowed", deploy.FailureLimit{Percent: 100}, mixed(500, 1), errBad, false, 500},
		{"all of them, but few", deploy.FailureLimit{}, mixed(90, 1), errBad, false, 90},
		{"every fifth traps, where a tenth is too many", deploy.FailureLimit{Percent: 10}, mixed(2000, 5), &host.Trap{Kind: host.TrapFault, Detail: "unreachable"}, true, 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, 1, failing("bad", c.err))
				b.set = func(w *worker.Config) { w.FailureLimit = c.limit }
				b.log.AppendTo("in", 0, c.in...)
				w := b.start()
				synctest.Wait()
				phase, reason := w.Phase()
				letters := len(b.log.Records("d.dlq"))
				if stopped := phase == worker.PhaseFailed; stopped != c.stops || letters > c.most {
					t.Fatalf("phase is %s (%s) with %d dead letters", phase, reason, letters)
				}
				if c.stops {
					at := b.log.Committed("d", "in", 0)
					if c.in[at] != "bad" || letters != deploy.MinFailures-1 {
						t.Errorf("it stopped before %q with %d dead letters, want the record that was too much and %d", c.in[at], letters, deploy.MinFailures-1)
					}
					for _, text := range []string{"100 of ", c.err.Error(), fmt.Sprintf("offset %d of in partition 0", at), "resume"} {
						if !strings.Contains(reason, text) {
							t.Errorf("reason %q does not tell %q", reason, text)
						}
					}
				}
				b.finish()
			})
		})
	}
}

// A module that hangs on each record never has a hundred failures in a minute.
func TestAModuleThatFailsSlowlyIsStoppedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, func(*workertest.Call) error {
			time.Sleep(time.Second)
			return &host.Trap{Kind: host.TrapWallTime, Detail: "slow"}
		})
		b.set = func(c *worker.Config) { c.Retries = deploy.DefaultRetries }
		b.log.AppendTo("in", 0, numbers(1000, "a%d")...)
		w := b.start()
		<-w.Done()
		if phase, reason := w.Phase(); phase != worker.PhaseFailed || !strings.Contains(reason, "100 records in a row") {
			t.Errorf("phase is %s: %s", phase, reason)
		}
		if n := len(b.log.Records("d.dlq")); n != deploy.MinFailures-1 {
			t.Errorf("%d dead letters", n)
		}
		b.finish()
	})
}

// What is read again is not another failure.
func TestFailuresOfAbortedTransactionsDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, failing("bad", errBad))
		refused := 0
		b.log.SetFault(func(op, _ string) error {
			if op == "commit" && refused < 10 {
				refused++
				return fmt.Errorf("connection reset by peer")
			}
			return nil
		})
		for range 40 {
			b.log.AppendTo("in", 0, "a", "bad")
		}
		w := b.start()
		b.ok(b.log.Wait(t.Context(), func() bool { return b.log.Committed("d", "in", 0) == 80 }))
		synctest.Wait()
		if s := w.Snapshot(); s.Phase != worker.PhaseRunning || !strings.Contains(s.Notice, "40 of 80 records of the last 1m0s failed, the newest at offset 79") {
			t.Errorf("snapshot is %+v", s)
		}
		if n := len(b.log.Records("d.dlq")); n != 40 || b.stats.Rejected.Load() != 40 {
			t.Errorf("%d dead letters, %d counted, want 40", n, b.stats.Rejected.Load())
		}
		b.finish()
	})
}

// Poison at any place of any transaction leads to one dead letter, whatever happens to commits.
func TestOneDeadLetterForARecordWhateverHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, failing("bad", &host.Trap{Kind: host.TrapFault, Detail: "unreachable"}))
		n := 0
		b.log.SetFault(func(op, _ string) error {
			if op != "commit" {
				return nil
			}
			if n++; n%3 != 0 {
				return fmt.Errorf("connection reset by peer")
			}
			return nil
		})
		b.set = func(c *worker.Config) { c.Retries, c.CommitBytes = 1, 2000 }
		var in, want []string
		for i := range 300 {
			in = append(in, fmt.Sprintf("a%d", i))
			if i%17 == 0 {
				in[i] = fmt.Sprintf("bad%d", i)
				want = append(want, in[i])
			}
		}
		b.log.AppendTo("in", 0, in...)
		b.start()
		b.ok(b.log.Wait(t.Context(), func() bool { return b.log.Committed("d", "in", 0) == 300 }))
		letters := b.log.Records("d.dlq")
		wantValues(t, "dead letters", letters, want)
		wantHeaders(t, letters[1], map[string]string{deadletter.HeaderOffset: "17", deadletter.HeaderKind: "trap/fault"})
		if n := len(b.log.Records("out")); n != 300-len(want) {
			t.Errorf("%d outputs", n)
		}
		if s := b.workers[0].Snapshot(); len(s.Partitions) != 1 || s.Partitions[0].Committed != 300 || s.Partitions[0].DeadLetters != int64(len(want)) {
			t.Errorf("snapshot is %+v", s)
		}
		b.finish()
	})
}
