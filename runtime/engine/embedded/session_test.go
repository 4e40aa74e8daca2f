package embedded

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
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
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/engine/batch"
	"github.com/millstream-io/millstream/sdk/abi"
)

// oneSession opens a broker over fs with topics "in" and "out" of one and two partitions, and joins.
func oneSession(t *testing.T, fs vfs.FS, delivery engine.Delivery) (*log, engine.Session, engine.Member) {
	t.Helper()
	ctx := context.Background()
	l := openLog(t, fs, "data")
	for name, partitions := range map[string]int{"in": 1, "out": 2} {
		if err := l.engine.EnsureTopic(ctx, name, partitions, nil); err != nil {
			t.Fatal(err)
		}
	}
	m, err := l.engine.Join(ctx, engine.Group{Name: "g", Inputs: []string{"in"},
		Start: engine.Start{Kind: engine.StartEarliest}, Delivery: delivery})
	if err != nil {
		t.Fatal(err)
	}
	sessions, err := m.Next(ctx)
	if err != nil || len(sessions) != 1 {
		t.Fatalf("%d sessions, %v", len(sessions), err)
	}
	return l, sessions[0], m
}

// keyFor finds a key that goes to a partition of two.
func keyFor(partition int) []byte {
	for i := 0; ; i++ {
		if key := fmt.Append(nil, "k", i); batch.PartitionOf(key, 2) == partition {
			return key
		}
	}
}

type outputList []abi.Output

// Next implements abi.Outputs.
func (l *outputList) Next(o *abi.Output) bool {
	if len(*l) == 0 {
		return false
	}
	*o, *l = (*l)[0], (*l)[1:]
	return true
}

// TestCommitAfterRefusedWrite: the disk takes the first partition's outputs and
// not the second's; the second Commit writes what is missing and nothing twice.
func TestCommitAfterRefusedWrite(t *testing.T) {
	for name, delivery := range deliveries {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { commitAfterRefusedWrite(t, delivery) }) })
	}
}

var deliveries = map[string]engine.Delivery{"exactly once": engine.ExactlyOnce, "at least once": engine.AtLeastOnce}

func commitAfterRefusedWrite(t *testing.T, delivery engine.Delivery) {
	var full atomic.Bool
	fs := &vfs.Fault{FS: vfs.NewMem(), Decide: func(op vfs.Op) error {
		if full.Load() && op.Kind == vfs.OpWrite && strings.Contains(op.Path, "out-1") {
			return vfs.ErrNoSpace
		}
		return nil
	}}
	ctx := context.Background()
	l, s, m := oneSession(t, fs, delivery)
	defer l.close(t)
	defer m.Leave(ctx)
	if err := s.Begin([]string{"out"}); err != nil {
		t.Fatal(err)
	}
	outputs := outputList{{Key: keyFor(0), Value: []byte("a")}, {Key: keyFor(1), Value: []byte("b")}}
	if err := s.Produce(ctx, &outputs); err != nil {
		t.Fatal(err)
	}
	full.Store(true)
	if err := s.Commit(ctx, 0); !errors.Is(err, engine.ErrStorage) {
		t.Fatalf("commit on a full disk: %v", err)
	}
	full.Store(false)
	if err := s.Commit(ctx, 0); err != nil {
		t.Fatalf("commit with space again: %v", err)
	}
	got, err := valuesIn(l, "out")
	if err != nil {
		t.Fatal(err)
	}
	if slices.Sort(got); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("the output holds %q", got)
	}
}

// TestOffsetsWaitForFailedFlush: what cannot be made durable is never committed, and the worker is told.
func TestOffsetsWaitForFailedFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		fs := &vfs.Fault{FS: vfs.NewMem(), Decide: func(op vfs.Op) error {
			if broken.Load() && op.Kind == vfs.OpSync && strings.Contains(op.Path, "out-0") {
				return errors.New("input/output error")
			}
			return nil
		}}
		ctx := context.Background()
		l, s, m := oneSession(t, fs, engine.AtLeastOnce)
		defer l.topics.Close(ctx)
		defer l.groups.Close(ctx)
		defer l.txns.Close(ctx)
		l.produce(t, "in", 0, "none", []engine.Record{{Timestamp: 1, Value: []byte("v")}})
		synctest.Wait()
		broken.Store(true)
		if err := s.Begin([]string{"out"}); err != nil {
			t.Fatal(err)
		}
		if err := s.Produce(ctx, &outputList{{Key: keyFor(0), Value: []byte("a")}}); err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(ctx, 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if err := s.Close(ctx); !errors.Is(err, engine.ErrStorage) {
			t.Errorf("close: %v", err)
		}
		lag, err := l.engine.Lag(ctx, "g", []string{"in"})
		if err != nil {
			t.Fatal(err)
		}
		if got := lag[engine.TopicPartition{Topic: "in"}].Committed; got > 0 {
			t.Errorf("offset %d is committed; its output is lost", got)
		}
		_ = m.Leave(ctx)
	})
}

// TestRoundsAreShared: a busy session flushes about ten times a second, not with every commit; the first commit goes at once.
func TestRoundsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flushes atomic.Int32
		fs := &vfs.Fault{FS: vfs.NewMem(), Decide: func(op vfs.Op) error {
			if op.Kind == vfs.OpSync && strings.Contains(op.Path, "out-0") {
				flushes.Add(1)
			}
			return nil
		}}
		ctx := context.Background()
		l, s, m := oneSession(t, fs, engine.AtLeastOnce)
		defer l.close(t)
		defer m.Leave(ctx)
		commit := func(next int64) {
			if err := s.Begin([]string{"out"}); err != nil {
				t.Fatal(err)
			}
			if err := s.Produce(ctx, &outputList{{Key: keyFor(0), Value: []byte("a")}}); err != nil {
				t.Fatal(err)
			}
			if err := s.Commit(ctx, next); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		flushes.Store(0)
		commit(0)
		synctest.Wait()
		if n := flushes.Load(); n != 1 {
			t.Errorf("%d flushes at once after a commit of an idle session, want 1", n)
		}
		for range 100 {
			commit(0)
			time.Sleep(10 * time.Millisecond)
		}
		if n := flushes.Load(); n < 8 || n > 13 {
			t.Errorf("%d flushes in a second of commits, want about 10", n)
		}
	})
}

// TestPositionOutsideTheLog: records that retention removed before they were read are passed over with a warning, not an error.
func TestPositionOutsideTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		l, s, m := oneSession(t, vfs.NewMem(), engine.ExactlyOnce)
		defer l.close(t)
		defer m.Leave(ctx)
		for i := range 10 {
			l.produce(t, "in", 0, "none", []engine.Record{{Timestamp: 1, Value: fmt.Append(nil, i)}})
		}
		p, _ := l.topics.Partition("in", 0)
		if _, err := p.DeleteRecords(6); err != nil {
			t.Fatal(err)
		}
		f, err := s.Poll(ctx, 1<<10)
		if err != nil || f.Record(0).Offset != 6 {
			t.Errorf("first record after the removal: %v", err)
		}
		s.SeekTo(99) // the end of a log that a power cut made shorter
		polled := make(chan string)
		go func() {
			f, err := s.Poll(ctx, 1<<10)
			if err != nil {
				polled <- err.Error()
				return
			}
			polled <- string(f.Record(0).Value)
		}()
		synctest.Wait()
		l.produce(t, "in", 0, "none", []engine.Record{{Timestamp: 1, Value: []byte("next")}})
		if got := <-polled; got != "next" {
			t.Errorf("after a position behind the end came %s", got)
		}
	})
}

// TestDamagedInput: a batch whose checksum is wrong is reported with its place, never passed over.
func TestDamagedInput(t *testing.T) {
	batches := batchOf("none", []engine.Record{{Timestamp: 1, Value: []byte("good")}})
	second := batchOf("none", []engine.Record{{Timestamp: 1, Value: []byte("bad")}})
	record.PutBase(second, 1, 0)
	second[len(second)-2] ^= 1
	f := fetch{raw: append(batches, second...)}
	if err := f.load(0, 1<<20); err != nil || f.Len() != 1 || f.NextOffset(0) != 1 {
		t.Fatalf("%d records before the damage, %v", f.Len(), err)
	}
	f.raw = second
	if err := f.load(1, 1<<20); !errors.Is(err, record.ErrCorrupt) || !strings.Contains(err.Error(), "offset 1") {
		t.Errorf("the damaged batch gives %v", err)
	}
}

// TestLyingCount: a batch that says it holds more records than its bytes can is refused before memory is taken for them.
func TestLyingCount(t *testing.T) {
	b := batchOf("none", []engine.Record{{Timestamp: 1, Value: []byte("v")}})
	binary.BigEndian.PutUint32(b[57:], 1<<30)
	rebuildCRC(b)
	f := fetch{raw: b}
	if err := f.load(0, 1<<20); !errors.Is(err, record.ErrCorrupt) {
		t.Errorf("load: %v", err)
	}
}

// TestCommitOfAMemberThatCannotJoinAgain: when a membership ends for good its sessions end, too, lest a
// commit wait for a generation that will not come.
func TestCommitOfAMemberThatCannotJoinAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s, m := oneSession(t, vfs.NewMem(), engine.ExactlyOnce)
		defer l.close(t)
		defer m.Leave(context.Background())
		l.produce(t, "in", 0, "none", []engine.Record{{Timestamp: 1, Value: []byte("v")}})
		synctest.Wait()
		l.engine.(*embedded).session = 365 * 24 * time.Hour        // more than a group takes
		other := foreign{l: l, protocols: []string{strategyRange}} // which takes no transactional id over
		other.rebalance(t)
		if _, err := m.Next(t.Context()); !errors.Is(err, group.ErrInvalidSession) {
			t.Fatalf("the membership has not ended: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := s.Commit(ctx, 1); !errors.Is(err, engine.ErrFenced) || ctx.Err() != nil {
			t.Errorf("commit: %v", err)
		}
	})
}

// TestTopicIsDeletedDuringACommit: a commit that meets the deletion of its input leaves no offset behind,
// with which the next topic of that name would be passed over.
func TestTopicIsDeletedDuringACommit(t *testing.T) {
	for name, delivery := range deliveries {
		for _, outputs := range []int{0, 1} {
			t.Run(fmt.Sprint(name, " with ", outputs), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { deleteDuringCommit(t, delivery, make(outputList, outputs)) })
			})
		}
	}
}

func deleteDuringCommit(t *testing.T, delivery engine.Delivery, outputs outputList) {
	ctx := context.Background()
	l, s, m := oneSession(t, vfs.NewMem(), delivery)
	defer l.close(t)
	l.produce(t, "in", 0, "none", []engine.Record{{Timestamp: 1, Value: []byte("v")}})
	in, err := l.topics.Partition("in", 0)
	if err == nil {
		err = in.WaitDurable(ctx, 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	for i := range outputs {
		outputs[i].Value = []byte("v")
	}
	if err := errors.Join(s.Begin([]string{"out"}), s.Produce(ctx, &outputs)); err != nil {
		t.Fatal(err)
	}
	m.(*member).cancel() // it has not heard of the deletion
	<-m.(*member).stopped
	if err := errors.Join(l.topics.Delete(ctx, "in"), l.groups.ForgetTopic(ctx, "in")); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(ctx, 1); delivery == engine.ExactlyOnce && !errors.Is(err, engine.ErrUnknownTopic) {
		t.Errorf("commit: %v", err)
	}
	time.Sleep(time.Second)
	if at, err := l.groups.Offsets(ctx, "g", nil); err != nil || len(at) > 0 {
		t.Errorf("the group has %v, %v", at, err)
	}
	_ = s.Close(ctx) // with at-least-once delivery it says that the last offset was not taken
	if err := m.Leave(ctx); err != nil {
		t.Error(err)
	}
}

// TestEverythingInANewTopicIsNew: "latest" is where the group began; a topic that was made since, or made
// again, is read from its start, however soon after its creation something is in it.
func TestEverythingInANewTopicIsNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLog(t, vfs.NewMem(), "data")
		defer l.close(t)
		ctx := context.Background()
		make1 := func(value string) {
			if err := l.engine.EnsureTopic(ctx, "in", 1, nil); err != nil {
				t.Fatal(err)
			}
			l.produce(t, "in", 0, "none", []engine.Record{{Timestamp: 1, Value: []byte(value)}})
		}
		make1("before the group")
		m, err := l.engine.Join(ctx, engine.Group{Name: "g", Inputs: []string{"in", "later"}, Start: engine.Start{Kind: engine.StartLatest}})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Leave(ctx)
		v := serve(m)
		v.partitions()
		if err := errors.Join(l.topics.Delete(ctx, "in"), l.groups.ForgetTopic(ctx, "in")); err != nil {
			t.Fatal(err)
		}
		make1("first of the next topic")
		synctest.Wait()
		if len(v.owned) != 1 {
			t.Fatalf("%d sessions", len(v.owned))
		}
		wait, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		f, err := v.owned[0].Poll(wait, 1000)
		if err != nil || string(f.Record(0).Value) != "first of the next topic" {
			t.Errorf("poll: %v", err)
		}
	})
}

// TestEmptyBatch: compaction leaves batches without records, which only carry offsets on.
func TestEmptyBatch(t *testing.T) {
	var b record.Builder
	b.ResetFrom(nil, record.Header{Magic: 2, BaseOffset: 5, LastOffsetDelta: 4, ProducerID: -1})
	f := fetch{raw: b.Finish()}
	if err := f.load(5, 1<<20); err != nil || f.Len() != 0 || f.next() != 10 {
		t.Errorf("%d records, next offset %d, %v", f.Len(), f.next(), err)
	}
}

// TestCopyAllocatesNothingPerRecord counts over the whole way but for the guest: what is left is a
// commit's, whether a batch has hundreds of records or a thousand times as many.
func TestCopyAllocatesNothingPerRecord(t *testing.T) {
	most := map[engine.Delivery]float64{engine.AtLeastOnce: 40, engine.ExactlyOnce: 80}
	for name, delivery := range deliveries {
		t.Run(name, func(t *testing.T) {
			l := openLog(t, vfs.OS{}, t.TempDir())
			defer l.close(t)
			const records = 20_000
			c, m := startCopy(t, l, delivery, 100, records, []byte("key"))
			defer m.Leave(context.Background())
			if err := l.produceHeaders(t); err != nil {
				t.Fatal(err)
			}
			done := 0
			allocs := testing.AllocsPerRun(20, func() {
				if done >= records/2 {
					c.s.SeekTo(0)
					done = 0
				}
				n, err := c.step(context.Background(), 64<<10)
				if err != nil {
					t.Fatal(err)
				}
				done += n
			})
			if allocs > most[delivery] {
				t.Errorf("%.0f allocations for a batch", allocs)
			}
		})
	}
}

func (l *log) produceHeaders(t *testing.T) error {
	p, err := l.topics.Partition("in", 0)
	if err != nil {
		return err
	}
	b := batchOf("none", []engine.Record{{Timestamp: 1, Value: []byte("v"), Headers: []engine.Header{{Name: "h", Value: []byte("x")}}}})
	_, err = p.Append(context.Background(), b, topic.FromClient)
	return err
}

// rebuildCRC makes a changed batch pass its checksum.
func rebuildCRC(b []byte) {
	binary.BigEndian.PutUint32(b[17:], crcOf(b[21:]))
}

// FuzzLoad: whatever bytes are read, they are views within them or an error.
func FuzzLoad(f *testing.F) {
	f.Add(batchOf("none", []engine.Record{{Timestamp: 1, Key: []byte("k"), Value: []byte("v"), Headers: []engine.Header{{Name: "h"}}}}), int64(0))
	f.Add(batchOf("gzip", []engine.Record{{Timestamp: 1}, {Timestamp: 2, Value: []byte{}}}), int64(1))
	f.Fuzz(func(t *testing.T, b []byte, offset int64) {
		if len(b) > 61 {
			if h, err := record.ParseHeader(b); err == nil {
				rebuildCRC(b[:h.Size()]) // else every mutation ends at the checksum
			}
		}
		x := fetch{raw: bytes.Clone(b)}
		if err := x.load(offset, 1<<20); err != nil {
			return
		}
		dst := make([]byte, 1<<20)
		for first := 0; first < x.Len(); {
			size, n, need := x.Encode(dst, first, x.Len())
			if n == 0 {
				if need <= len(dst) {
					t.Fatalf("nothing was encoded, need %d of %d", need, len(dst))
				}
				return
			}
			for rest := dst[:size]; len(rest) > 0; {
				var r abi.Record
				used, err := abi.ReadRecord(rest, &r)
				if err != nil {
					t.Fatal(err)
				}
				rest = rest[used:]
			}
			first += n
		}
	})
}

func crcOf(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }
