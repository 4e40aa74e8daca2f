package txn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/vfs"
)

func versions(t *testing.T, f func(t *testing.T, v Version)) {
	for _, v := range []Version{V1, V2} {
		t.Run(fmt.Sprint("version ", v), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, v) })
		})
	}
}

// do writes n to both topics and the group's offset.
func (w *world) do(p Producer, v Version, sequence int32, n int) error {
	err := w.write(p, v, "a", sequence, n)
	if err == nil {
		err = w.write(p, v, "b", sequence, n)
	}
	if err == nil {
		err = w.offset(p, v, n)
	}
	return err
}

func (w *world) want(a, b string, offset int64, state string) {
	w.t.Helper()
	if got := w.committed("a"); got != a {
		w.t.Errorf("topic a: %q, want %q", got, a)
	}
	if got := w.committed("b"); got != b {
		w.t.Errorf("topic b: %q, want %q", got, b)
	}
	if got := w.groupOffset(); got != offset {
		w.t.Errorf("offset %d, want %d", got, offset)
	}
	if got := w.state(); got != state {
		w.t.Errorf("%s, want %s", got, state)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCommitAndAbort(t *testing.T) {
	versions(t, func(t *testing.T, v Version) {
		w := newWorld(t, vfs.NewMem(), Options{})
		ctx := t.Context()
		p := w.init(NoProducer)
		must(t, w.do(p, v, 0, 1))
		w.want("", "", 0, fmt.Sprintf("Ongoing %d/0", p.ID))
		if unstable, err := w.groups.Unstable(groupName); err != nil || !unstable[group.TopicPartition{Topic: "a"}] {
			t.Errorf("unstable %v, %v", unstable, err)
		}
		next, err := w.c.End(ctx, id, p, true, v)
		must(t, err)
		if grown := int16(v / V2); next != (Producer{p.ID, p.Epoch + grown}) {
			t.Errorf("goes on as %v after %v", next, p)
		}
		w.want("1", "1", 1, fmt.Sprintf("CompleteCommit %d/%d", next.ID, next.Epoch))
		sequence := int32(1)
		if v == V2 {
			sequence = 0 // of the new epoch
		}
		must(t, w.do(next, v, sequence, 2))
		last, err := w.c.End(ctx, id, next, false, v)
		must(t, err)
		w.want("1", "1", 1, fmt.Sprintf("CompleteAbort %d/%d", last.ID, last.Epoch))
		if !w.stable() {
			t.Error("something is still open")
		}
		must(t, w.close())
	})
}

// What another producer's arrival finds open is aborted, and the old producer is out.
func TestTakeover(t *testing.T) {
	versions(t, func(t *testing.T, v Version) {
		w := newWorld(t, vfs.NewMem(), Options{})
		old := w.init(NoProducer)
		must(t, w.do(old, v, 0, 1))
		p := w.init(NoProducer)
		if p.ID != old.ID || p.Epoch != old.Epoch+2 || !w.stable() {
			t.Errorf("%v after %v, stable %v", p, old, w.stable())
		}
		if err := w.write(old, v, "a", 1, 2); !errors.Is(err, ErrFenced) {
			t.Errorf("the old producer writes: %v", err)
		}
		if _, err := w.c.End(t.Context(), id, old, true, v); !errors.Is(err, ErrFenced) {
			t.Errorf("the old producer commits: %v", err)
		}
		must(t, w.do(p, v, 0, 3))
		_, err := w.c.End(t.Context(), id, p, true, v)
		must(t, err)
		if got := w.committed("a"); got != "3" {
			t.Errorf("committed %q", got)
		}
		must(t, w.close())
	})
}

func TestTimeout(t *testing.T) {
	versions(t, func(t *testing.T, v Version) {
		fs := vfs.NewMem()
		w := newWorld(t, fs, Options{})
		p := w.init(NoProducer)
		must(t, w.do(p, v, 0, 1))
		time.Sleep(time.Minute - time.Second)
		synctest.Wait()
		w.want("", "", 0, fmt.Sprintf("Ongoing %d/0", p.ID))
		// A stop does not stop the time.
		must(t, w.close())
		w = newWorld(t, fs, Options{})
		synctest.Wait()
		w.want("", "", 0, fmt.Sprintf("Ongoing %d/0", p.ID))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		w.want("", "", 0, fmt.Sprintf("CompleteAbort %d/1", p.ID))
		if !w.stable() {
			t.Error("something is still open")
		}
		if err := w.write(p, v, "a", 1, 2); !errors.Is(err, ErrFenced) {
			t.Errorf("goes on after the timeout: %v", err)
		}
		must(t, w.close())
	})
}

func TestIdleIDsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		w := newWorld(t, fs, Options{Expiration: 24 * time.Hour, MaxIDs: 1})
		w.init(NoProducer)
		if _, err := w.c.InitProducer(t.Context(), "another", NoProducer, time.Minute); !errors.Is(err, ErrTooManyIDs) {
			t.Errorf("one too many: %v", err)
		}
		time.Sleep(26 * time.Hour)
		synctest.Wait()
		if list := w.c.List(); len(list) != 0 {
			t.Errorf("still there: %+v", list)
		}
		if _, err := w.c.InitProducer(t.Context(), "another", NoProducer, time.Minute); err != nil {
			t.Errorf("there is room again: %v", err)
		}
		must(t, w.close())
		w = newWorld(t, fs, Options{})
		if list := w.c.List(); len(list) != 1 || list[0].ID != "another" || list[0].State != StateEmpty {
			t.Errorf("after a restart: %+v", list)
		}
		must(t, w.close())
	})
}

func TestInitProducerRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, vfs.NewMem(), Options{MaxTimeout: time.Minute})
		for _, c := range []struct {
			id      string
			timeout time.Duration
			want    error
		}{{"", time.Second, ErrInvalidID}, {string(make([]byte, 2000)), time.Second, ErrInvalidID}, {"x", time.Hour, ErrInvalidTime}, {"x", 0, ErrInvalidTime}, {"x", -time.Second, ErrInvalidTime}} {
			if _, err := w.c.InitProducer(t.Context(), c.id, NoProducer, c.timeout); !errors.Is(err, c.want) {
				t.Errorf("%.9q, %v: %v, want %v", c.id, c.timeout, err, c.want)
			}
		}
		if _, err := w.c.Describe("x"); !errors.Is(err, ErrNotFound) || len(w.c.List()) != 0 {
			t.Errorf("what was refused is remembered: %v", err)
		}
		if _, err := w.c.Add("x", Producer{1, 0}, V1, Partition{Topic: "a"}); !errors.Is(err, ErrUnknownProducer) {
			t.Errorf("add to what does not exist: %v", err)
		}
		must(t, w.close())
		if _, err := w.c.InitProducer(t.Context(), id, NoProducer, time.Second); !errors.Is(err, ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	})
}

// A decision is carried out when the disk has room again; until then the next transaction waits.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		fs := &vfs.Fault{FS: vfs.NewMem(), Decide: func(op vfs.Op) error {
			if full.Load() && op.Kind == vfs.OpWrite && inTopic(op.Path, "b") {
				return vfs.ErrNoSpace
			}
			return nil
		}}
		w := newWorld(t, fs, Options{})
		p := w.init(NoProducer)
		must(t, w.do(p, V2, 0, 1))
		full.Store(true)
		next, err := w.c.End(t.Context(), id, p, true, V2)
		must(t, err)
		if got := w.state(); got != fmt.Sprintf("PrepareCommit %d/1", p.ID) {
			t.Errorf("%s while the disk is full", got)
		}
		if err := w.write(next, V2, "a", 0, 2); !errors.Is(err, ErrConcurrent) {
			t.Errorf("the next transaction begins: %v", err)
		}
		full.Store(false)
		time.Sleep(2 * retryInterval)
		synctest.Wait()
		w.want("1", "1", 1, fmt.Sprintf("CompleteCommit %d/1", p.ID))
		must(t, w.close())
	})
}

// A full disk that lasts is not logged with each attempt: the log may lie on the same disk.
func TestFullDiskIsNotLoggedAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		fs := &vfs.Fault{FS: vfs.NewMem(), Decide: func(op vfs.Op) error {
			if full.Load() && op.Kind == vfs.OpWrite && inTopic(op.Path, StateTopic) {
				return vfs.ErrNoSpace
			}
			return nil
		}}
		var log strings.Builder
		w := newWorld(t, fs, Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), JournalPartitions: 1})
		must(t, w.do(w.init(NoProducer), V2, 0, 1))
		full.Store(true)
		time.Sleep(10 * time.Minute) // far beyond the transaction's timeout
		synctest.Wait()
		if n := strings.Count(log.String(), "could not be aborted"); n < 1 || n > int(10*time.Minute/troubleInterval) {
			t.Errorf("%d lines in ten minutes:\n%.1000s", n, log.String())
		}
		full.Store(false)
		time.Sleep(2 * retryInterval)
		synctest.Wait()
		if !strings.Contains(log.String(), "timed out and was aborted") {
			t.Errorf("it was not aborted:\n%.1000s", log.String())
		}
		must(t, w.close())
	})
}

// The topic of a partition may be deleted before the transaction ends.
func TestDeletedTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, vfs.NewMem(), Options{})
		p := w.init(NoProducer)
		must(t, w.do(p, V1, 0, 1))
		must(t, w.topics.Delete(t.Context(), "b"))
		_, err := w.c.End(t.Context(), id, p, true, V1)
		must(t, err)
		if got := w.committed("a"); got != "1" || w.groupOffset() != 1 {
			t.Errorf("committed %q, offset %d", got, w.groupOffset())
		}
		must(t, w.close())
	})
}

// An administrator ends what the coordinator knows nothing of.
func TestAbortOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, vfs.NewMem(), Options{})
		p := w.init(NoProducer)
		must(t, w.do(p, V1, 0, 1))
		tp := Partition{Topic: "a", Partition: 0}
		if err := w.c.AbortOpen(t.Context(), tp, Producer{p.ID, p.Epoch - 1}, 0); err == nil {
			t.Error("an old epoch ends the transaction")
		}
		must(t, w.c.AbortOpen(t.Context(), tp, p, 0))
		must(t, w.c.AbortOpen(t.Context(), tp, p, 0)) // again
		must(t, w.c.AbortOpen(t.Context(), Partition{Topic: group.OffsetsTopic, Partition: 0}, p, 0))
		_, err := w.c.End(context.Background(), id, p, true, V1)
		must(t, err)
		if a, b := w.committed("a"), w.committed("b"); a != "" || b != "1" || w.groupOffset() != 0 {
			t.Errorf("committed %q and %q, offset %d", a, b, w.groupOffset())
		}
		must(t, w.close())
	})
}

func TestTooManyPartitionsInTransactions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		w := newWorld(t, fs, Options{MaxPartitions: 3})
		at := func(partitions ...int32) (out []Partition) {
			for _, p := range partitions {
				out = append(out, Partition{Topic: "a", Partition: p})
			}
			return out
		}
		add := func(id string, p Producer, partitions ...int32) error {
			_, err := w.c.Add(id, p, V1, at(partitions...)...)
			return err
		}
		one, err := w.c.InitProducer(t.Context(), "one", NoProducer, time.Minute)
		must(t, err)
		two, err := w.c.InitProducer(t.Context(), "two", NoProducer, time.Minute)
		must(t, err)
		must(t, add("one", one, 0, 1))
		if err := add("two", two, 0, 1); !errors.Is(err, ErrTooManyPartitions) {
			t.Errorf("two more: %v", err)
		}
		must(t, add("two", two, 0))
		must(t, add("one", one, 0, 1)) // they are in it already
		_, err = w.c.End(t.Context(), "one", one, true, V1)
		must(t, err)
		must(t, add("two", two, 1, 2))
		must(t, w.close())
		// What a restart finds counts, and is taken up even if it is too much.
		w = newWorld(t, fs, Options{MaxPartitions: 1})
		if got := w.c.partitions.count.Load(); got != 3 {
			t.Errorf("%d partitions after a restart, want 3", got)
		}
		_, err = w.c.End(t.Context(), "two", two, true, V1)
		must(t, err)
		if got := w.c.partitions.count.Load(); got != 0 {
			t.Errorf("%d partitions of no transaction", got)
		}
		must(t, w.close())
	})
}
