package txn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/millstream-io/millstream/broker/vfs"
)

func (w *world) writer() *Writer {
	w.t.Helper()
	writer, err := NewWriter(context.Background(), w.c, id, time.Minute)
	if err != nil {
		w.t.Fatal(err)
	}
	return writer
}

// fill writes the text of n to both topics, and n as the group's offset, durably.
func (w *world) fill(by *Writer, n int) error {
	ctx := context.Background()
	offsets := w.groups.TransactionPartition(groupName)
	if err := by.Add(Partition{Topic: "a"}, Partition{Topic: "b"}, offsets); err != nil {
		return err
	}
	p := by.Producer()
	for _, name := range []string{"a", "b"} {
		if err := by.Within(Partition{Topic: name}, func() error { return w.append(name, p, n) }); err != nil {
			return err
		}
	}
	err := by.Within(offsets, func() error {
		_, err := w.groups.CommitInTransaction(group.Identity{Group: groupName, Generation: -1}, p.ID, p.Epoch,
			map[group.TopicPartition]group.Offset{{Topic: "a"}: {Offset: int64(n), LeaderEpoch: -1}})
		return err
	})
	for _, name := range []string{"a", "b", offsets.Topic} {
		if err == nil {
			err = w.part(name).WaitDurable(ctx, w.part(name).Offsets().LogEnd)
		}
	}
	return err
}

// append appends a record with the text of n to a topic, as a Writer's user does.
func (w *world) append(name string, p Producer, n int) error {
	var b record.Builder
	b.Reset(nil, record.None)
	b.Append(time.Now().UnixMilli(), nil, fmt.Append(nil, n), nil, 0)
	b.SetProducer(p.ID, p.Epoch, 0, true)
	_, err := w.part(name).Append(context.Background(), b.Finish(), topic.FromBroker)
	return err
}

// TestWriterCrashAtEveryStep is TestCrashAtEveryStep for a producer in the broker's
// process, whose markers nobody waits for.
func TestWriterCrashAtEveryStep(t *testing.T) {
	for _, lies := range []bool{false, true} {
		r := &recorder{mem: vfs.NewMem(), lies: lies}
		w := newWorld(t, &vfs.Fault{FS: r.mem, Decide: r.decide}, Options{})
		by := w.writer()
		r.on = true
		for n := 1; n <= 5; n++ {
			must(t, w.fill(by, n))
			end := by.Commit
			if n == 3 {
				end = by.Abort
			}
			must(t, end(context.Background()))
			r.mu.Lock()
			r.acknowledged = n
			r.mu.Unlock()
		}
		r.mu.Lock()
		r.on = false
		r.mu.Unlock()
		must(t, w.close())
		problems := 0
		for _, c := range r.crashes {
			for _, problem := range afterCrash(t, c, V2) {
				if problems++; !lies {
					t.Errorf("power cut %s: %s", c.at, problem)
				}
			}
		}
		if len(r.crashes) < 80 || lies && problems == 0 {
			t.Errorf("lies %v: %d problems in %d power cuts: the recorder is broken", lies, problems, len(r.crashes))
		}
	}
}

// TestWriterOwnsItsID: who takes the transactional id over ends what the writer left open, and ends the writer.
func TestWriterOwnsItsID(t *testing.T) {
	w := newWorld(t, vfs.NewMem(), Options{})
	defer w.close()
	by := w.writer()
	must(t, w.fill(by, 1))
	must(t, by.Commit(t.Context()))
	if n := len(slices.Collect(markedTopics(by))); n != 3 {
		t.Errorf("%d markers are not known to be durable, want 3", n)
	}
	must(t, w.fill(by, 2))
	next := w.writer()
	if got := w.committed("a"); got != "1" || !w.stable() {
		t.Errorf("committed is %q, stable %v", got, w.stable())
	}
	for name, err := range map[string]error{
		"Add":    by.Add(Partition{Topic: "a"}),
		"Within": by.Within(Partition{Topic: "a"}, func() error { return nil }),
		"While":  by.While(func() error { return nil }),
		"Commit": by.Commit(t.Context()),
		"Abort":  by.Abort(t.Context()),
	} {
		if !errors.Is(err, ErrFenced) {
			t.Errorf("%s of a writer that was fenced: %v", name, err)
		}
	}
	must(t, next.While(func() error { return nil }))
	must(t, w.fill(next, 3))
	must(t, next.Commit(t.Context()))
	if got := w.committed("b"); got != "1 3" || w.groupOffset() != 3 {
		t.Errorf("committed is %q, offset %d", got, w.groupOffset())
	}
}

func markedTopics(by *Writer) func(func(string) bool) {
	return func(yield func(string) bool) {
		for p := range by.Marked() {
			if !yield(p.Topic()) {
				return
			}
		}
	}
}

// TestWriterTimesOut: a transaction that nobody ends is aborted, though it is on no record.
func TestWriterTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, vfs.NewMem(), Options{})
		defer w.close()
		by := w.writer()
		must(t, w.fill(by, 1))
		must(t, by.Commit(t.Context()))
		must(t, w.fill(by, 2))
		time.Sleep(61 * time.Second)
		if !w.stable() || w.committed("a") != "1" {
			t.Errorf("after a minute: %s, stable %v, committed %q", w.state(), w.stable(), w.committed("a"))
		}
		if err := by.Commit(t.Context()); !errors.Is(err, ErrFenced) && !errors.Is(err, ErrInvalidState) {
			t.Errorf("the late commit: %v", err)
		}
	})
}

// TestDecisionThatIsNotFlushedAtOnce: a decision whose flush fails for the moment (too many open
// files, say) is carried out when the disk answers again, whoever made it; the id is not stuck until the next start.
func TestDecisionThatIsNotFlushedAtOnce(t *testing.T) {
	for name, decide := range map[string]func(*world, *Writer) error{
		"writer": func(_ *world, by *Writer) error { return by.Commit(context.Background()) },
		"client": func(w *world, by *Writer) error {
			_, err := w.c.End(context.Background(), id, by.Producer(), true, V2)
			return err
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			var fails atomic.Bool
			w := newWorld(t, &vfs.Fault{FS: vfs.NewMem(), Decide: func(op vfs.Op) error {
				if fails.Load() && op.Kind == vfs.OpSync && inTopic(op.Path, StateTopic) {
					return vfs.ErrNotOpened
				}
				return nil
			}}, Options{})
			defer w.close()
			by := w.writer()
			must(t, w.fill(by, 1))
			fails.Store(true)
			if err := decide(w, by); !errors.Is(err, ErrJournal) {
				t.Fatalf("%s: commit: %v", name, err)
			}
			time.Sleep(5 * time.Second)
			if got := w.committed("a"); got != "" {
				t.Errorf("%s: %q is seen before the decision survives a power cut", name, got)
			}
			fails.Store(false)
			time.Sleep(5 * time.Second)
			if got := w.committed("a"); got != "1" || !w.stable() {
				t.Errorf("%s: committed is %q, stable %v, the transaction is %s", name, got, w.stable(), w.state())
			}
		})
	}
}

// TestTimeoutBehindMarkersThatAreNotFlushed: a transaction that could not be aborted when its time was over is aborted later.
func TestTimeoutBehindMarkersThatAreNotFlushed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fails atomic.Bool
		w := newWorld(t, &vfs.Fault{FS: vfs.NewMem(), Decide: func(op vfs.Op) error {
			if fails.Load() && op.Kind == vfs.OpSync && inTopic(op.Path, "a") {
				return vfs.ErrNotOpened
			}
			return nil
		}}, Options{})
		defer w.close()
		by := w.writer()
		must(t, w.fill(by, 1))
		must(t, by.Commit(t.Context()))
		must(t, by.Add(Partition{Topic: "b"}))
		fails.Store(true)
		time.Sleep(61 * time.Second)
		fails.Store(false)
		time.Sleep(5 * time.Second)
		if got := w.state(); !strings.HasPrefix(got, StateCompleteAbort.String()) {
			t.Errorf("a minute after it began the transaction is %s", got)
		}
	})
}

// TestWriterUsesUpEpochs: behind the last epoch comes another producer id.
func TestWriterUsesUpEpochs(t *testing.T) {
	w := newWorld(t, vfs.NewMem(), Options{})
	defer w.close()
	by := w.writer()
	by.t.producer.Epoch, by.p.Epoch = lastEpoch-1, lastEpoch-1
	first := by.Producer().ID
	for n := 1; n <= 4; n++ {
		must(t, w.fill(by, n))
		must(t, by.Commit(t.Context()))
	}
	if got := w.committed("a"); got != "1 2 3 4" || by.Producer().ID == first || w.groupOffset() != 4 {
		t.Errorf("committed is %q, producer %v after %d", got, by.Producer(), first)
	}
}

// TestWriterIsForgotten: an id that was not used for days may be somebody else's meanwhile.
func TestWriterIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, vfs.NewMem(), Options{})
		defer w.close()
		by := w.writer()
		must(t, w.fill(by, 1))
		must(t, by.Commit(t.Context()))
		time.Sleep(8 * 24 * time.Hour)
		for name, err := range map[string]error{
			"Add":   by.Add(Partition{Topic: "a"}),
			"While": by.While(func() error { return nil }),
		} {
			if !errors.Is(err, ErrUnknownProducer) {
				t.Errorf("%s after eight idle days: %v", name, err)
			}
		}
		next := w.writer()
		must(t, w.fill(next, 2))
		must(t, next.Commit(t.Context()))
		if got := w.committed("a"); got != "2" { // retention has taken the first
			t.Errorf("committed is %q", got)
		}
	})
}
