package worker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/worker"
	"github.com/millstream-io/millstream/runtime/worker/workertest"
)

// padded are values of about a KiB, so that a fetch has some 180 of them.
func padded(n int) []string {
	list := numbers(n, "a%d-")
	for i := range list {
		list[i] += strings.Repeat("x", 1000)
	}
	return list
}

func upper(list []string) []string {
	list = slices.Clone(list)
	for i := range list {
		list[i] = strings.ToUpper(list[i])
	}
	return list
}

func TestWhatATransactionIsMadeOf(t *testing.T) {
	const records = 4000 // about 22 fetches
	for _, c := range []struct {
		name      string
		set       func(*worker.Config)
		perCall   time.Duration
		low, high int64
	}{
		{"all there is to read", func(*worker.Config) {}, 0, 1, 1},
		{"as many bytes as are allowed", func(c *worker.Config) { c.CommitBytes = 1 << 20 }, 0, 4, 5},
		{"what comes within the interval", func(*worker.Config) {}, 30 * time.Millisecond, 5, 7},
		{"a fetch, at least once", func(c *worker.Config) { c.Group.Delivery = engine.AtLeastOnce }, 0, 20, 25},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				batch := uint64(0)
				b := newBench(t, 1, func(call *workertest.Call) error {
					if call.Batch.Seed != batch {
						batch = call.Batch.Seed
						time.Sleep(c.perCall)
					}
					return workertest.Upper(call)
				})
				b.set = c.set
				in := padded(records)
				b.log.AppendTo("in", 0, in...)
				b.start()
				b.ok(b.log.Wait(t.Context(), func() bool { return b.log.Committed("d", "in", 0) == records }))
				wantValues(t, "out", b.log.Records("out"), upper(in))
				if n := b.stats.Commits.Load(); n < c.low || n > c.high {
					t.Errorf("%d transactions, want %d to %d", n, c.low, c.high)
				}
				b.finish()
			})
		})
	}
}

func TestALoneRecordIsCommittedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, workertest.Upper)
		b.start()
		started := time.Now()
		for i := range 10 {
			b.log.AppendTo("in", 0, "a")
			synctest.Wait()
			if at := b.log.Committed("d", "in", 0); at != int64(i)+1 || time.Since(started) > 0 {
				t.Errorf("after %v the committed offset is %d, want %d at once", time.Since(started), at, i+1)
			}
		}
		b.finish()
	})
}

func TestStopCommitsWhatIsInHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, func(call *workertest.Call) error {
			time.Sleep(time.Millisecond)
			return workertest.Upper(call)
		})
		b.set = func(c *worker.Config) { c.CommitInterval = time.Hour }
		in := padded(2000)
		b.log.AppendTo("in", 0, in...)
		w := b.start()
		time.Sleep(700 * time.Millisecond) // the fourth fetch
		b.ok(w.Stop(t.Context()))
		at := b.log.Committed("d", "in", 0)
		if at < 200 || at >= 2000 {
			t.Errorf("committed offset is %d, want some fetches", at)
		}
		wantValues(t, "out", b.log.Records("out"), upper(in[:at]))
		b.finish()
	})
}

// The record whose output is refused spoils a transaction of many fetches.
func TestARefusalLateInATransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, workertest.Upper)
		b.log.SetMaxMessageBytes("out", 1100)
		in := padded(2000)
		large := strings.Repeat("y", 1200)
		var want []string
		for i := range in {
			if i%700 == 699 || i == 1500 || i == 1501 {
				in[i] = large
				continue
			}
			want = append(want, strings.ToUpper(in[i]))
		}
		b.log.AppendTo("in", 0, in...)
		b.start()
		b.ok(b.log.Wait(t.Context(), func() bool { return b.log.Committed("d", "in", 0) == 2000 }))
		synctest.Wait()
		wantValues(t, "out", b.log.Records("out"), want)
		wantValues(t, "dead letters", b.log.Records("d.dlq"), []string{large, large, large, large})
		if n := b.stats.RecordsIn.Load(); n != 2000 {
			t.Errorf("counted %d records, want each once", n)
		}
		if n := b.stats.Aborts.Load(); n != 4 {
			t.Errorf("%d transactions aborted, want one for each refusal", n)
		}
		b.finish()
	})
}

// While a transaction cannot be aborted nobody knows where to read on.
func TestNothingIsReadBeforeAnAbortWentWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, workertest.Upper)
		failures := 0
		b.log.SetFault(func(op, _ string) error {
			if failures < 6 && (op == "commit" || op == "abort") {
				failures++
				return fmt.Errorf("connection reset by peer")
			}
			return nil
		})
		b.log.AppendTo("in", 0, numbers(10, "a%d")...)
		b.start()
		b.ok(b.log.Wait(t.Context(), func() bool { return b.log.Committed("d", "in", 0) == 10 }))
		synctest.Wait()
		wantValues(t, "out", b.log.Records("out"), numbers(10, "A%d"))
		if failures != 6 {
			t.Errorf("%d failures were met", failures)
		}
		b.finish()
	})
}
