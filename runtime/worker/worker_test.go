package worker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/runtime/deadletter"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/runtime/worker"
	"github.com/millstream-io/millstream/runtime/worker/workertest"
	"github.com/millstream-io/millstream/sdk/abi"
)

// bench is one deployment, "d", from topic in to topic out over a log in memory.
type bench struct {
	t       *testing.T
	log     *workertest.Log
	logs    *worker.Logs
	stats   *worker.Stats
	program *workertest.Program
	onError string
	limits  host.Limits
	set     func(*worker.Config) // nil: as it is
	workers []*worker.Worker
}

func newBench(t *testing.T, partitions int, f workertest.Func) *bench {
	b := &bench{
		t: t, log: workertest.NewLog(), stats: &worker.Stats{}, program: &workertest.Program{Func: f},
		onError: deploy.OnErrorDeadLetter, limits: host.DefaultLimits(),
	}
	for _, name := range []string{"in", "out"} {
		b.ok(b.log.EnsureTopic(t.Context(), name, partitions, nil))
	}
	b.ok(b.log.EnsureTopic(t.Context(), "logs", 1, worker.LogsConfigs()))
	b.ok(worker.EnsureDeadLetters(t.Context(), b.log, "d.dlq", partitions))
	b.logs = worker.NewLogs(b.log, "logs", slog.New(slog.DiscardHandler))
	return b
}

func (b *bench) ok(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) config() worker.Config {
	c := worker.Config{
		Engine: b.log,
		Group:  engine.Group{Name: "d", Inputs: []string{"in"}, Start: engine.Start{Kind: engine.StartEarliest}},
		Release: worker.Release{
			Program: b.program,
			Setup:   host.Setup{Deployment: "d", Inputs: []string{"in"}, Outputs: []string{"out"}}, Outputs: []string{"out"},
			OnError: b.onError, DeadLetters: "d.dlq", Source: deadletter.Source{Deployment: "d", Module: "sha256:m"},
			Limits: b.limits,
		},
		Stats: b.stats, Logs: b.logs, Logger: slog.New(slog.DiscardHandler),
	}
	if b.set != nil {
		b.set(&c)
	}
	return c
}

func (b *bench) start() *worker.Worker {
	b.t.Helper()
	w, err := worker.New(b.t.Context(), b.config())
	b.ok(err)
	w.Start()
	b.workers = append(b.workers, w)
	return w
}

// finish stops everything and checks that no guest is left.
func (b *bench) finish() {
	b.t.Helper()
	for _, w := range b.workers {
		b.ok(w.Stop(context.Background()))
	}
	b.ok(b.logs.Close(context.Background()))
	if n := b.program.Open.Load(); n != 0 {
		b.t.Errorf("%d guests are not closed", n)
	}
	if n := b.log.MemberCount("d"); n != 0 {
		b.t.Errorf("%d members are left in the group", n)
	}
}

func values(records []engine.Record) []string {
	list := make([]string, len(records))
	for i, r := range records {
		list[i] = string(r.Value)
	}
	return list
}

func header(r engine.Record, name string) string {
	for _, h := range r.Headers {
		if h.Name == name {
			return string(h.Value)
		}
	}
	return ""
}

func numbers(n int, format string) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(format, i)
	}
	return list
}

func wantValues(t *testing.T, what string, got []engine.Record, want []string) {
	t.Helper()
	if g := values(got); !slices.Equal(g, want) {
		t.Errorf("%s has %d records %.200q, want %d %.200q", what, len(g), g, len(want), want)
	}
}

func TestRecordsGoThroughInOrderAndAreCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, workertest.Upper)
		b.log.AppendTo("in", 0, numbers(500, "a%d")...)
		w := b.start()
		<-w.Assigned()
		synctest.Wait()
		b.log.AppendTo("in", 0, "late")
		synctest.Wait()
		wantValues(t, "out", b.log.Records("out"), append(numbers(500, "A%d"), "LATE"))
		if at := b.log.Committed("d", "in", 0); at != 501 {
			t.Errorf("committed offset is %d, want 501", at)
		}
		if phase, reason := w.Phase(); phase != worker.PhaseRunning {
			t.Errorf("phase is %s (%s)", phase, reason)
		}
		if in, out := b.stats.RecordsIn.Load(), b.stats.RecordsOut.Load(); in != 501 || out != 501 {
			t.Errorf("counted %d in and %d out, want 501", in, out)
		}
		b.finish()
	})
}

func TestOutputsKeepKeyHeadersAndEventTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, workertest.Upper)
		in := engine.Record{Timestamp: 1234, Key: []byte("k"), Value: []byte("v"), Headers: []engine.Header{{Name: "h", Value: []byte("x")}, {Name: "null"}}}
		b.ok(b.log.Append(t.Context(), "in", []engine.Record{in, {Timestamp: 7}}))
		b.start()
		synctest.Wait()
		got := b.log.Records("out")
		if len(got) != 2 {
			t.Fatalf("out has %d records, want 2", len(got))
		}
		if r := got[0]; r.Timestamp != 1234 || string(r.Key) != "k" || string(r.Value) != "V" || header(r, "h") != "x" || r.Headers[1].Value != nil {
			t.Errorf("output is %+v", r)
		}
		if r := got[1]; r.Timestamp != 7 || r.Key != nil {
			t.Errorf("output of a record without key is %+v", r)
		}
		b.finish()
	})
}

var errBad = errors.New("bad value")

func failing(bad string, err error) workertest.Func {
	return func(c *workertest.Call) error {
		if strings.HasPrefix(string(c.Record.Value), bad) {
			c.Emit(0, []byte("must not be seen"))
			return err
		}
		return workertest.Upper(c)
	}
}

func TestFailedRecordsGetTheErrorPolicy(t *testing.T) {
	trap := &host.Trap{Kind: host.TrapFault, Detail: "unreachable"}
	for _, c := range []struct {
		name, policy string
		err          error
		kind         string
	}{
		{"reject to dead letters", deploy.OnErrorDeadLetter, errBad, deadletter.KindReject},
		{"trap to dead letters", deploy.OnErrorDeadLetter, trap, "trap/fault"},
		{"reject skipped", deploy.OnErrorSkip, errBad, ""},
		{"trap skipped", deploy.OnErrorSkip, trap, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, 1, failing("bad", c.err))
				b.onError = c.policy
				b.log.AppendTo("in", 0, numbers(100, "a%d")...)
				b.log.AppendTo("in", 0, "bad1")
				b.log.AppendTo("in", 0, numbers(300, "b%d")...)
				b.log.AppendTo("in", 0, "bad2", "bad3", "end")
				b.start()
				synctest.Wait()
				wantValues(t, "out", b.log.Records("out"), slices.Concat(numbers(100, "A%d"), numbers(300, "B%d"), []string{"END"}))
				letters := b.log.Records("d.dlq")
				if c.kind == "" {
					wantValues(t, "dead letters", letters, nil)
				} else {
					wantValues(t, "dead letters", letters, []string{"bad1", "bad2", "bad3"})
					wantHeaders(t, letters[0], map[string]string{
						deadletter.HeaderKind: c.kind, deadletter.HeaderReason: c.err.Error(), deadletter.HeaderDeployment: "d", deadletter.HeaderModule: "sha256:m",
						deadletter.HeaderTopic: "in", deadletter.HeaderPartition: "0", deadletter.HeaderOffset: "100",
					})
				}
				if in, failed := b.stats.RecordsIn.Load(), b.stats.Failed(); in != 404 || failed != 3 {
					t.Errorf("counted %d in and %d failed, want 404 and 3", in, failed)
				}
				if at := b.log.Committed("d", "in", 0); at != 404 {
					t.Errorf("committed offset is %d, want 404", at)
				}
				b.finish()
			})
		})
	}
}

func wantHeaders(t *testing.T, r engine.Record, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got := header(r, name); got != value {
			t.Errorf("header %s is %q, want %q", name, got, value)
		}
	}
}

func TestThePolicyStopEndsBehindTheLastGoodRecord(t *testing.T) {
	for _, err := range []error{errBad, &host.Trap{Kind: host.TrapFault, Detail: "unreachable"}} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, 1, failing("bad", err))
			b.onError = deploy.OnErrorStop
			b.log.AppendTo("in", 0, numbers(100, "a%d")...)
			b.log.AppendTo("in", 0, "bad", "c")
			w := b.start()
			<-w.Done()
			wantValues(t, "out", b.log.Records("out"), numbers(100, "A%d"))
			if at := b.log.Committed("d", "in", 0); at != 100 {
				t.Errorf("committed offset is %d, want that of the bad record, 100", at)
			}
			if in, out := b.stats.RecordsIn.Load(), b.stats.RecordsOut.Load(); in != 100 || out != 100 {
				t.Errorf("counted %d in and %d out, want 100", in, out)
			}
			phase, reason := w.Phase()
			if phase != worker.PhaseFailed || !strings.Contains(reason, "offset 100 of in partition 0") || !strings.Contains(reason, err.Error()) {
				t.Errorf("phase is %s: %s", phase, reason)
			}
			b.finish()
		})
	}
}

func TestATrapIsNarrowedDownByHalves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, failing("bad", &host.Trap{Kind: host.TrapFault, Detail: "unreachable"}))
		b.log.AppendTo("in", 0, numbers(700, "a%d")...)
		b.log.AppendTo("in", 0, "bad")
		b.log.AppendTo("in", 0, numbers(323, "b%d")...)
		b.start()
		synctest.Wait()
		// 1,024 records: ten halvings lead to one record, each half is tried once, the record perhaps twice.
		if calls := b.program.Calls.Load(); calls > 22 {
			t.Errorf("%d calls for 1,024 records with one poison, want at most 22", calls)
		}
		if restarts := b.stats.Restarts.Load(); restarts < 11 || restarts > 12 {
			t.Errorf("%d guests were spent, want 11 or 12", restarts)
		}
		b.finish()
	})
}

func TestARecordIsNotBlamedForAGuestThatOthersWoreOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left := 0
		b := newBench(t, 1, func(c *workertest.Call) error {
			if left--; left < 0 {
				return &host.Trap{Kind: host.TrapMemory, Detail: "leaked away"}
			}
			return workertest.Upper(c)
		})
		b.program.Start = func(host.Setup) error { left = 5; return nil }
		b.start()
		for i := range 20 {
			b.log.AppendTo("in", 0, fmt.Sprintf("a%d", i))
			synctest.Wait()
		}
		wantValues(t, "out", b.log.Records("out"), numbers(20, "A%d"))
		b.finish()
	})
}

func TestBatchesFitTheFuelOfACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, workertest.Upper)
		b.program.FuelPerRecord, b.program.FuelPerCall = 1_000, 100_000
		b.limits.FuelPerCall = 100_000
		b.log.AppendTo("in", 0, numbers(5000, "a%d")...)
		b.start()
		synctest.Wait()
		wantValues(t, "out", b.log.Records("out"), numbers(5000, "A%d"))
		if traps := b.stats.Traps.Load(); traps > 12 {
			t.Errorf("%d calls ran out of fuel: batch sizes are not learned", traps)
		}
		if n := b.stats.DeadLetters.Load(); n != 0 {
			t.Errorf("%d dead letters of records that fit the limit", n)
		}
		b.finish()
	})
}

func TestAFullDiskIsWaitedOutWithoutDuplicates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, workertest.Upper)
		refusals := 0
		b.log.SetFault(func(op, topic string) error {
			if op == "commit" && refusals < 5 {
				refusals++
				return fmt.Errorf("%w: no space left on device", engine.ErrStorage)
			}
			return nil
		})
		b.log.AppendTo("in", 0, numbers(10, "a%d")...)
		w := b.start()
		synctest.Wait()
		time.Sleep(200 * time.Millisecond)
		phase, reason := w.Phase()
		if phase != worker.PhaseRetrying || reason != "in partition 0: outputs cannot be written (2 times since 00:00:00Z): "+engine.ErrStorage.Error()+": no space left on device" {
			t.Errorf("while the disk is full the phase is %s: %s", phase, reason)
		}
		b.ok(b.log.Wait(t.Context(), func() bool { return b.log.Committed("d", "in", 0) == 10 }))
		synctest.Wait()
		wantValues(t, "out", b.log.Records("out"), numbers(10, "A%d"))
		if phase, reason := w.Phase(); phase != worker.PhaseRunning {
			t.Errorf("after the disk has room the phase is %s: %s", phase, reason)
		}
		b.finish()
	})
}

func TestADeletedOutputTopicIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, workertest.Upper)
		b.log.DeleteTopic("out")
		b.log.AppendTo("in", 0, "a")
		w := b.start()
		synctest.Wait()
		if phase, reason := w.Phase(); phase != worker.PhaseRetrying || !strings.Contains(reason, `"out"`) {
			t.Errorf("phase is %s: %s", phase, reason)
		}
		b.ok(b.log.EnsureTopic(t.Context(), "out", 1, nil))
		time.Sleep(time.Minute)
		wantValues(t, "out", b.log.Records("out"), []string{"A"})
		b.finish()
	})
}

func TestOutputsTooLargeForTheirTopicAreSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, workertest.Upper)
		b.log.SetMaxMessageBytes("out", 10)
		b.log.AppendTo("in", 0, numbers(100, "a%d")...)
		b.log.AppendTo("in", 0, "large-large-large", "b", "huge-huge-huge-huge")
		b.log.AppendTo("in", 0, numbers(100, "c%d")...)
		b.start()
		synctest.Wait()
		wantValues(t, "out", b.log.Records("out"), slices.Concat(numbers(100, "A%d"), []string{"B"}, numbers(100, "C%d")))
		letters := b.log.Records("d.dlq")
		wantValues(t, "dead letters", letters, []string{"large-large-large", "huge-huge-huge-huge"})
		wantHeaders(t, letters[0], map[string]string{deadletter.HeaderKind: deadletter.KindTooLarge, deadletter.HeaderOffset: "100"})
		if n := b.stats.Refused.Load(); n != 2 {
			t.Errorf("counted %d refused records, want 2", n)
		}
		b.finish()
	})
}

func TestADeadLetterTooLargeForItsTopicIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, failing("bad", errBad))
		b.log.SetMaxMessageBytes("d.dlq", 500)
		b.log.AppendTo("in", 0, "a", "bad"+strings.Repeat("x", 997), "b")
		b.start()
		synctest.Wait()
		wantValues(t, "out", b.log.Records("out"), []string{"A", "B"})
		letters := b.log.Records("d.dlq")
		if len(letters) != 1 || letters[0].Value != nil {
			t.Fatalf("dead letters are %+v", letters)
		}
		wantHeaders(t, letters[0], map[string]string{deadletter.HeaderCut: "1000", deadletter.HeaderKind: deadletter.KindReject, deadletter.HeaderOffset: "1"})
		if n := b.stats.Rejected.Load(); n != 1 {
			t.Errorf("counted %d rejects, want 1", n)
		}
		b.finish()
	})
}

func TestADeletedDeadLetterTopicIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, failing("bad", errBad))
		b.log.DeleteTopic("d.dlq")
		b.log.AppendTo("in", 0, "bad")
		b.start()
		synctest.Wait()
		wantValues(t, "dead letters", b.log.Records("d.dlq"), []string{"bad"})
		b.finish()
	})
}

func TestRecordsLargerThanTheInputArea(t *testing.T) {
	big := strings.Repeat("x", 600<<10)
	t.Run("the area grows", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, 1, workertest.Upper)
			b.log.AppendTo("in", 0, "a", big, "b")
			b.start()
			synctest.Wait()
			wantValues(t, "out", b.log.Records("out"), []string{"A", strings.ToUpper(big), "B"})
			b.finish()
		})
	})
	t.Run("the guest has no room", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, 1, workertest.Upper)
			b.program.MaxInputBytes = 100 << 10
			b.log.AppendTo("in", 0, "a", big, "b")
			b.start()
			synctest.Wait()
			wantValues(t, "out", b.log.Records("out"), []string{"A", "B"})
			wantValues(t, "dead letters", b.log.Records("d.dlq"), []string{big})
			b.finish()
		})
	})
}

func TestPartitionsMoveBetweenWorkersWithoutLossOrRepetition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 4, workertest.Upper)
		first := b.start()
		<-first.Assigned()
		write := func(prefix string) {
			for p := range 4 {
				b.log.AppendTo("in", p, prefix+fmt.Sprint(p))
			}
			synctest.Wait()
		}
		write("one")
		second := b.start()
		<-second.Assigned()
		synctest.Wait()
		owned := 0
		for p := range int32(4) {
			if second.Owns(engine.TopicPartition{Topic: "in", Partition: p}) {
				owned++
			}
		}
		if owned != 2 {
			t.Errorf("the second worker owns %d partitions, want 2", owned)
		}
		write("two")
		b.ok(first.Stop(t.Context()))
		synctest.Wait()
		write("three")
		got := values(b.log.Records("out"))
		slices.Sort(got)
		want := []string{"ONE0", "ONE1", "ONE2", "ONE3", "THREE0", "THREE1", "THREE2", "THREE3", "TWO0", "TWO1", "TWO2", "TWO3"}
		if !slices.Equal(got, want) {
			t.Errorf("out has %q, want %q", got, want)
		}
		b.finish()
	})
}

func TestAWorkerThatLosesItsMembershipJoinsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, workertest.Upper)
		w := b.start()
		b.log.AppendTo("in", 0, "a")
		synctest.Wait()
		b.log.Expel("d")
		time.Sleep(time.Second)
		b.log.AppendTo("in", 0, "b")
		synctest.Wait()
		wantValues(t, "out", b.log.Records("out"), []string{"A", "B"})
		if phase, reason := w.Phase(); phase != worker.PhaseRunning {
			t.Errorf("phase is %s: %s", phase, reason)
		}
		b.finish()
	})
}

func TestAModuleThatDoesNotStartIsRefusedByNew(t *testing.T) {
	b := newBench(t, 1, workertest.Upper)
	b.program.Start = func(host.Setup) error { return &host.SetupError{Message: "no glossary"} }
	_, err := worker.New(t.Context(), b.config())
	if _, ok := errors.AsType[*host.SetupError](err); !ok || !strings.Contains(err.Error(), `deployment "d"`) {
		t.Errorf("error is %v", err)
	}
	b.finish()
}

func TestAWorkerThatNeverStartedStops(t *testing.T) {
	b := newBench(t, 1, workertest.Upper)
	w, err := worker.New(t.Context(), b.config())
	b.ok(err)
	b.workers = append(b.workers, w)
	b.finish()
}

func TestAModuleThatTrapsOnEverythingIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, failing("bad", &host.Trap{Kind: host.TrapFault, Detail: "unreachable"}))
		b.log.AppendTo("in", 0, numbers(3000, "bad%d")...)
		w := b.start()
		<-w.Done()
		if phase, reason := w.Phase(); phase != worker.PhaseFailed || !strings.Contains(reason, "100 of 100 records failed") {
			t.Errorf("phase is %s: %s", phase, reason)
		}
		if n := len(b.log.Records("d.dlq")); n != 99 {
			t.Errorf("%d dead letters, want those before the one that stopped it, 99", n)
		}
		b.finish()
	})
}

// TestBatchesAreDeterministic runs the same records twice: the guest sees the same seeds, and one clock for a batch.
func TestBatchesAreDeterministic(t *testing.T) {
	run := func() (seeds []uint64) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, 2, func(c *workertest.Call) error {
				var first abi.Record = c.Record
				if first.Offset%10 == 0 {
					seeds = append(seeds, c.Batch.Seed)
				}
				return workertest.Upper(c)
			})
			b.log.AppendTo("in", 0, numbers(10, "a%d")...)
			b.start()
			synctest.Wait()
			b.log.AppendTo("in", 1, numbers(10, "b%d")...)
			synctest.Wait()
			b.log.AppendTo("in", 0, numbers(10, "c%d")...)
			synctest.Wait()
			b.finish()
		})
		return seeds
	}
	first, second := run(), run()
	if len(first) != 3 || !slices.Equal(first, second) {
		t.Errorf("seeds are %x, then %x", first, second)
	}
	if first[0] == first[1] || first[0] == first[2] {
		t.Errorf("batches of other partitions or offsets have the same seed: %x", first)
	}
}
