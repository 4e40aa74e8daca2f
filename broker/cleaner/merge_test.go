package cleaner

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/broker/commitlog"
	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/vfs"
)

// tiny fills n segments with one record each, of distinct keys.
func tiny(t fataler, l *commitlog.Log, n int) (all []string) {
	for i := range n {
		pairs(t, l, nil, fmt.Sprintf("k%03d=v", i))
		roll(t, l)
		all = append(all, fmt.Sprintf("%d:k%03d=v", i, i))
	}
	return all
}

func TestSmallSegmentsAreMerged(t *testing.T) {
	mem := vfs.NewMem()
	config := commitlog.Config{Compact: true, MinDirtyRatio: 0.01}
	l := open(t, mem, config)
	all := tiny(t, l, 100)
	one := l.Segments()[0].SizeBytes
	config.SegmentBytes = 30 * one
	l.SetConfig(config)
	clean(t, New(Options{}), l)
	expect(t, l, all...)
	if n := len(l.Segments()); n != 5 { // four of thirty and the active one
		t.Fatalf("%d segments", n)
	}
	for _, s := range l.Segments() {
		if s.SizeBytes > config.SegmentBytes || s.Compacted == s.Active {
			t.Errorf("%+v", s)
		}
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	l = open(t, mem, config)
	expect(t, l, all...)
	l.Close(t.Context())
}

// TestMergeFailsAndGoesOn lets each operation of a merge fail. The same log then finishes it, and so does one that was opened after a power cut.
func TestMergeFailsAndGoesOn(t *testing.T) {
	config := commitlog.Config{Compact: true, MinDirtyRatio: 0.01}
	want := []string{"6:k0=6", "7:k1=7"}
	for n := int64(1); ; n++ {
		mem := vfs.NewMem()
		fs := &vfs.Fault{FS: mem}
		l := open(t, fs, config)
		for i := range 8 {
			pairs(t, l, nil, fmt.Sprintf("k%d=%d", i%2, i))
			if i%2 == 1 {
				roll(t, l)
			}
		}
		if err := l.WaitDurable(t.Context(), 8); err != nil {
			t.Fatal(err)
		}
		before := fs.Count()
		fs.Decide = vfs.FailNth(n, func(op vfs.Op) bool { return op.Kind.Mutates() }, fmt.Errorf("write: %w", vfs.ErrNoSpace))
		_, err := New(Options{}).Clean(t.Context(), l, nil)
		fs.Decide = nil
		if err == nil && fs.Count() < before+n {
			break
		}
		for seed := range uint64(8) {
			after := open(t, mem.CrashClone(seed), config)
			clean(t, New(Options{}), after)
			expect(t, after, want...)
			after.Close(t.Context())
		}
		clean(t, New(Options{}), l)
		expect(t, l, want...)
		if n := len(l.Segments()); n != 2 {
			t.Fatalf("%d segments after operation %d failed", n, n)
		}
		if err := l.AdvanceStart(7); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		l = open(t, mem, config)
		if b := l.Bounds(); b != (commitlog.Bounds{Start: 7, End: 8}) {
			t.Fatalf("%+v", b)
		}
		l.Close(t.Context())
		if n > 200 {
			t.Fatal("never without a failure")
		}
	}
}

// TestLargeLogTakesTurns: while a large log is compacted step by step, a small one is not kept waiting.
func TestLargeLogTakesTurns(t *testing.T) {
	config := commitlog.Config{Compact: true, MinDirtyRatio: 0.01, SegmentBytes: 300}
	large, small := open(t, vfs.NewMem(), config), open(t, vfs.NewMem(), config)
	for i := range 60 {
		pairs(t, large, nil, fmt.Sprintf("k%d=%d", i%3, i))
	}
	roll(t, large)
	second := open(t, vfs.NewMem(), config) // large, too
	for i := range 30 {
		pairs(t, second, nil, fmt.Sprintf("k%d=%d", i%3, i))
	}
	roll(t, second)
	c := New(Options{StepBytes: 500})
	steps := 0
	for ; clean(t, c, large).More; steps++ {
		pairs(t, small, nil, "a=1", "a=2")
		roll(t, small)
		if r := clean(t, c, small); r.CompactedBytes == 0 || r.More {
			t.Fatalf("step %d: %+v", steps, r)
		}
		if r := clean(t, c, second); r.More || r.CompactedBytes > 0 {
			t.Fatalf("two large logs at once: %+v", r)
		}
		if steps > 1000 {
			t.Fatal("never done")
		}
	}
	if steps < 10 {
		t.Errorf("done after %d steps", steps)
	}
	expect(t, large, "57:k0=57", "58:k1=58", "59:k2=59")
	// A log that goes away in the middle leaves the way free.
	if !clean(t, c, second).More {
		t.Fatal("second log is not large")
	}
	second.Close(t.Context())
	third := open(t, vfs.NewMem(), config)
	for i := range 30 {
		pairs(t, third, nil, fmt.Sprintf("k%d=%d", i%3, i))
	}
	roll(t, third)
	for clean(t, c, third).More {
	}
	expect(t, third, "27:k0=27", "28:k1=28", "29:k2=29")
	for _, l := range []*commitlog.Log{large, small, third} {
		l.Close(t.Context())
	}
}

// TestMaxCompactionLag: a log that nobody writes to any more is compacted in time, whatever share of it is dirty.
func TestMaxCompactionLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, vfs.NewMem(), commitlog.Config{Compact: true, MinDirtyRatio: 1, MaxCompactionLag: time.Hour})
		c := New(Options{})
		pairs(t, l, nil, "a=1", "a=2", "b=1")
		time.Sleep(50 * time.Minute)
		clean(t, c, l)
		expect(t, l, "0:a=1", "1:a=2", "2:b=1")
		time.Sleep(20 * time.Minute)
		pairs(t, l, nil, "b=2") // rolls: the batch is younger than the segment by more than the lag
		clean(t, c, l)
		expect(t, l, "1:a=2", "2:b=1", "3:b=2")
		time.Sleep(70 * time.Minute)
		clean(t, c, l)
		expect(t, l, "1:a=2", "3:b=2")
		if r := clean(t, c, l); r.CompactedBytes != 0 {
			t.Fatalf("nothing was due, yet %+v", r)
		}
		l.Close(t.Context())
	})
}

// TestForgottenProducers: the last batch of a producer stays, emptied, until the producer is forgotten.
func TestForgottenProducers(t *testing.T) {
	l := open(t, vfs.NewMem(), commitlog.Config{Compact: true, MinDirtyRatio: 0.01})
	c := New(Options{})
	known := map[int64]bool{7: true, 8: true}
	round := func(want ...string) {
		t.Helper()
		roll(t, l)
		if _, err := c.Clean(t.Context(), l, func(id int64) bool { return known[id] }); err != nil {
			t.Fatal(err)
		}
		expect(t, l, want...)
	}
	for _, id := range []int64{7, 8} {
		pairs(t, l, func(w *record.Builder) { w.SetProducer(id, 0, 0, false) }, "a=1")
	}
	pairs(t, l, nil, "a=2")
	round("0-0", "1-1", "2:a=2")
	delete(known, 7)
	pairs(t, l, nil, "a=3")
	round("1-1", "3:a=3")
	l.Close(t.Context())
}

// TestCompactAndDelete: what compaction has left goes by age, also behind a segment that it has emptied.
func TestCompactAndDelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, vfs.NewMem(), commitlog.Config{Compact: true, Delete: true, MinDirtyRatio: 0.01, RetentionAge: time.Hour, SegmentBytes: 150})
		c := New(Options{})
		for _, r := range []string{"a=1", "b=1", "a=2", "b=2", "c=1"} {
			pairs(t, l, nil, r)
			roll(t, l)
		}
		clean(t, c, l)
		expect(t, l, "2:a=2", "3:b=2", "4:c=1")
		if b := l.Bounds(); b != (commitlog.Bounds{Start: 0, End: 5}) {
			t.Fatalf("%+v", b)
		}
		if first := l.Segments()[0]; first.SizeBytes > 150 {
			t.Fatalf("%+v", first)
		}
		time.Sleep(30 * time.Minute)
		pairs(t, l, nil, "d=1")
		time.Sleep(40 * time.Minute)
		clean(t, c, l)
		expect(t, l, "5:d=1")
		l.Close(t.Context())
	})
}
