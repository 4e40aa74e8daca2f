package cleaner

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/millstream-io/millstream/broker/commitlog"
	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func open(t fataler, fs vfs.FS, c commitlog.Config) *commitlog.Log {
	t.Helper()
	l, err := commitlog.Open(context.Background(), commitlog.Options{FS: fs, Dir: "/log", Config: c})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// pairs appends one batch of records written as "key=value"; "key" alone is a tombstone, "=value" has no key.
func pairs(t fataler, l *commitlog.Log, set func(w *record.Builder), records ...string) {
	t.Helper()
	var w record.Builder
	w.Reset(nil, record.Snappy)
	if set != nil {
		set(&w)
	}
	for _, r := range records {
		k, v, ok := strings.Cut(r, "=")
		key, value := []byte(k), []byte(v)
		if !ok {
			value = nil
		}
		if k == "" {
			key = nil
		}
		w.Append(time.Now().UnixMilli(), key, value, nil, 0)
	}
	if _, err := l.Append(w.Finish(), 0); err != nil {
		t.Fatal(err)
	}
}

// content lists the log as "offset:key=value", and batches without records as "offset-offset".
func content(t fataler, l *commitlog.Log) []string {
	t.Helper()
	b := l.Bounds()
	out := []string{}
	err := l.Scan(context.Background(), b.Start, b.End, func(batch []byte) error {
		if err := record.CheckCRC(batch); err != nil {
			return err
		}
		h, err := record.ParseHeader(batch)
		if err != nil {
			return err
		}
		it, _, err := record.Iterate(batch, nil, 1<<20)
		if err != nil {
			return err
		}
		var r record.Record
		n := 0
		for ; it.Next(&r); n++ {
			s := fmt.Sprintf("%d:%s=%s", r.Offset, r.Key, r.Value)
			if r.Value == nil {
				s = strings.TrimSuffix(s, "=")
			}
			out = append(out, s)
		}
		if n == 0 {
			out = append(out, fmt.Sprintf("%d-%d", h.BaseOffset, h.LastOffset()))
		}
		return it.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func expect(t fataler, l *commitlog.Log, want ...string) {
	t.Helper()
	if got := content(t, l); !slices.Equal(got, want) {
		t.Fatalf("log holds %v, want %v", got, want)
	}
}

func roll(t fataler, l *commitlog.Log) {
	t.Helper()
	if err := l.Roll(); err != nil {
		t.Fatal(err)
	}
}

func clean(t fataler, c *Cleaner, l *commitlog.Log) Result {
	t.Helper()
	r, err := c.Clean(context.Background(), l, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRetentionByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		l := open(t, mem, commitlog.Config{Delete: true, RetentionAge: time.Hour, DeleteDelay: time.Minute})
		c := New(Options{})
		pairs(t, l, nil, "a=1")
		roll(t, l)
		time.Sleep(30 * time.Minute)
		pairs(t, l, nil, "b=2")
		roll(t, l)
		pairs(t, l, nil, "c=3")
		clean(t, c, l)
		expect(t, l, "0:a=1", "1:b=2", "2:c=3")
		time.Sleep(31 * time.Minute)
		if r := clean(t, c, l); r.DroppedSegments != 1 {
			t.Fatalf("%+v", r)
		}
		expect(t, l, "1:b=2", "2:c=3")
		files := func() int {
			names, err := mem.List("/log")
			if err != nil {
				t.Fatal(err)
			}
			return len(names)
		}
		before := files()
		time.Sleep(61 * time.Second)
		if r := clean(t, c, l); r.RemovedSegments != 1 || files() != before-3 {
			t.Fatalf("%+v, %d files after %d", r, files(), before)
		}
		// All of it expires, the active segment too; the end stays where it is.
		time.Sleep(time.Hour)
		clean(t, c, l)
		expect(t, l)
		if b := l.Bounds(); b != (commitlog.Bounds{Start: 3, End: 3}) {
			t.Fatalf("%+v", b)
		}
		pairs(t, l, nil, "d=4")
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		l = open(t, mem, commitlog.Config{})
		expect(t, l, "3:d=4")
		l.Close(t.Context())
	})
}

func TestRetentionBySize(t *testing.T) {
	l := open(t, vfs.NewMem(), commitlog.Config{Delete: true, RetentionAge: -1, RetentionBytes: 250})
	c := New(Options{})
	for i := range 6 {
		pairs(t, l, nil, fmt.Sprintf("k=%d", i))
		roll(t, l)
	}
	one := l.Segments()[0].SizeBytes
	clean(t, c, l)
	kept := (250 + one - 1) / one
	if got := l.SizeBytes(); got != kept*one {
		t.Fatalf("%d bytes are left of segments of %d, want %d", got, one, kept*one)
	}
	l.Close(t.Context())
}

func TestCompaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		config := commitlog.Config{Compact: true, TombstoneAge: time.Hour, MinDirtyRatio: 0.01}
		l := open(t, mem, config)
		c := New(Options{})
		pairs(t, l, nil, "a=1", "b=1", "c=1")
		pairs(t, l, nil, "a=2", "=nokey")
		pairs(t, l, nil, "b")
		roll(t, l)
		pairs(t, l, nil, "c=2")
		roll(t, l)
		pairs(t, l, nil, "a=3") // active: does not count
		before := content(t, l)
		clean(t, c, l)
		want := []string{"3:a=2", "5:b", "6:c=2", "7:a=3"}
		expect(t, l, want...)
		if b := l.Bounds(); b != (commitlog.Bounds{Start: 0, End: 8}) {
			t.Fatalf("%+v after %v", b, before)
		}
		// Reading at an offset that is gone gives the next one there is.
		data, err := l.Read(nil, 0, 1, 8)
		if err != nil {
			t.Fatal(err)
		}
		if h, _ := record.ParseHeader(data); h.BaseOffset != 3 {
			t.Fatalf("first batch at %d", h.BaseOffset)
		}
		if r := clean(t, c, l); r.CompactedBytes != 0 {
			t.Fatalf("nothing was dirty, yet %+v", r)
		}
		// The tombstone goes an hour after it was first met, also when the log was opened anew meanwhile and nothing is written.
		time.Sleep(30 * time.Minute)
		roll(t, l)
		clean(t, c, l)
		expect(t, l, "5:b", "6:c=2", "7:a=3")
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		l, c = open(t, mem, config), New(Options{})
		time.Sleep(31 * time.Minute)
		clean(t, c, l)
		expect(t, l, "6:c=2", "7:a=3")
		if r := clean(t, c, l); r.CompactedBytes != 0 {
			t.Fatalf("nothing was due, yet %+v", r)
		}
		pairs(t, l, nil, "d=1")
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		l = open(t, mem, config)
		expect(t, l, "6:c=2", "7:a=3", "8:d=1")
		pairs(t, l, nil, "e=1")
		expect(t, l, "6:c=2", "7:a=3", "8:d=1", "9:e=1")
		l.Close(t.Context())
	})
}

func TestCompactionKeeps(t *testing.T) {
	l := open(t, vfs.NewMem(), commitlog.Config{Compact: true, MinDirtyRatio: 0.01})
	c := New(Options{})
	producer := func(id int64, sequence int32, transactional bool) func(w *record.Builder) {
		return func(w *record.Builder) { w.SetProducer(id, 0, sequence, transactional) }
	}
	pairs(t, l, producer(7, 0, false), "a=1")
	pairs(t, l, producer(7, 1, false), "a=2", "a=3") // the producer's last batch: emptied, not removed
	pairs(t, l, nil, "a=5")
	roll(t, l)
	clean(t, c, l)
	expect(t, l, "1-2", "3:a=5")
	l.Close(t.Context())
}

func TestMinCompactionLagAndDirtyRatio(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, vfs.NewMem(), commitlog.Config{Compact: true, MinCompactionLag: time.Hour, MinDirtyRatio: 0.9})
		c := New(Options{})
		pairs(t, l, nil, "a=1")
		pairs(t, l, nil, "a=2")
		roll(t, l)
		clean(t, c, l)
		expect(t, l, "0:a=1", "1:a=2") // too young
		time.Sleep(2 * time.Hour)
		clean(t, c, l)
		expect(t, l, "1:a=2")
		pairs(t, l, nil, "a=3")
		roll(t, l)
		time.Sleep(2 * time.Hour)
		clean(t, c, l)
		expect(t, l, "1:a=2", "2:a=3") // half of it is dirty, less than nine tenths
		l.Close(t.Context())
	})
}

// TestMoreKeysThanMemory: with a key map of four entries a large segment is done in several rounds.
func TestMoreKeysThanMemory(t *testing.T) {
	l := open(t, vfs.NewMem(), commitlog.Config{Compact: true, MinDirtyRatio: 0.01})
	c := New(Options{MaxKeys: 4})
	for i := range 40 {
		pairs(t, l, nil, fmt.Sprintf("k%02d=%d", i%20, i))
	}
	roll(t, l)
	rounds := 0
	for ; len(content(t, l)) > 20; rounds++ {
		if rounds > 20 {
			t.Fatalf("no progress: %v", content(t, l))
		}
		clean(t, c, l)
	}
	for clean(t, c, l).CompactedBytes > 0 {
		if rounds++; rounds > 30 {
			t.Fatal("never done")
		}
	}
	if got := content(t, l); len(got) != 20 || got[0] != "20:k00=20" {
		t.Fatalf("%v", got)
	}
	l.Close(t.Context())
}

// TestCompactionCrashes takes power away before every operation of a compaction: the log is the old or the new one.
func TestCompactionCrashes(t *testing.T) {
	config := commitlog.Config{Compact: true, MinDirtyRatio: 0.01, IndexIntervalBytes: 1}
	mem := vfs.NewMem()
	fs := &vfs.Fault{FS: mem}
	l := open(t, fs, config)
	for i := range 12 {
		pairs(t, l, nil, fmt.Sprintf("k%d=%d", i%3, i))
		if i%4 == 3 {
			roll(t, l)
		}
	}
	if err := l.WaitDurable(t.Context(), 12); err != nil {
		t.Fatal(err)
	}
	live := func(entries []string) map[string]string {
		m := map[string]string{}
		for _, e := range entries {
			_, kv, _ := strings.Cut(e, ":")
			k, v, _ := strings.Cut(kv, "=")
			m[k] = v
		}
		return m
	}
	want := live(content(t, l))
	states := 0
	fs.Decide = func(op vfs.Op) error {
		if !op.Kind.Mutates() {
			return nil
		}
		for seed := range uint64(8) {
			states++
			crashed := mem.CrashClone(seed * uint64(op.N))
			after := open(t, crashed, config)
			got := content(t, after)
			if m := live(got); fmt.Sprint(m) != fmt.Sprint(want) {
				t.Fatalf("crash before operation %d (%s %s), seed %d: %v, want %v", op.N, op.Kind, op.Path, seed, got, want)
			}
			if b := after.Bounds(); b.End != 12 {
				t.Fatalf("crash before operation %d (%s %s), seed %d: the log ends at %d", op.N, op.Kind, op.Path, seed, b.End)
			}
			clean(t, New(Options{}), after)
			expect(t, after, "9:k0=9", "10:k1=10", "11:k2=11")
			after.Close(t.Context())
		}
		return nil
	}
	clean(t, New(Options{}), l)
	fs.Decide = nil
	expect(t, l, "9:k0=9", "10:k1=10", "11:k2=11")
	l.Close(t.Context())
	if states < 50 {
		t.Fatalf("only %d states", states)
	}
}

// TestCompactionFails lets each operation of a compaction fail: the log goes on, and a later compaction or a restart mends it.
func TestCompactionFails(t *testing.T) {
	config := commitlog.Config{Compact: true, MinDirtyRatio: 0.01}
	for n := int64(1); ; n++ {
		mem := vfs.NewMem()
		fs := &vfs.Fault{FS: mem}
		l := open(t, fs, config)
		for i := range 6 {
			pairs(t, l, nil, fmt.Sprintf("k%d=%d", i%2, i))
		}
		roll(t, l)
		if err := l.WaitDurable(t.Context(), 6); err != nil {
			t.Fatal(err)
		}
		before := fs.Count()
		fs.Decide = vfs.FailNth(n, func(op vfs.Op) bool { return op.Kind.Mutates() }, fmt.Errorf("write: %w", vfs.ErrNoSpace))
		_, err := New(Options{}).Clean(t.Context(), l, nil)
		fs.Decide = nil
		if err == nil && fs.Count() < before+n {
			break
		}
		got := content(t, l)
		if last := got[len(got)-2:]; !slices.Equal(last, []string{"4:k0=4", "5:k1=5"}) {
			t.Fatalf("operation %d failed: %v", n, got)
		}
		l.Close(t.Context())
		l = open(t, mem, config)
		clean(t, New(Options{}), l)
		expect(t, l, "4:k0=4", "5:k1=5")
		l.Close(t.Context())
		if n > 200 {
			t.Fatal("never without a failure")
		}
	}
}

// TestCompactionAgainstModel: after any appends, rolls, compactions and restarts the log's last values are the model's.
func TestCompactionAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mem := vfs.NewMem()
		config := commitlog.Config{Compact: true, MinDirtyRatio: 0.01, TombstoneAge: time.Hour, SegmentBytes: 400}
		l := open(t, mem, config)
		c := New(Options{MaxKeys: rapid.IntRange(1, 20).Draw(t, "max keys")})
		model := map[string]string{}
		for i := range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0:
				clean(t, c, l)
			case 1:
				roll(t, l)
			case 2:
				if err := l.Close(context.Background()); err != nil {
					t.Fatal(err)
				}
				l = open(t, mem, config)
			default:
				var records []string
				for j := range rapid.IntRange(1, 5).Draw(t, "records") {
					k := fmt.Sprint("k", rapid.IntRange(0, 8).Draw(t, "key"))
					if rapid.IntRange(0, 4).Draw(t, "tombstone") == 0 {
						records = append(records, k)
						model[k] = "(deleted)"
					} else {
						v := fmt.Sprintf("%d.%d", i, j)
						records = append(records, k+"="+v)
						model[k] = v
					}
				}
				pairs(t, l, nil, records...)
			}
		}
		got := map[string]string{}
		for _, e := range content(t, l) {
			_, kv, _ := strings.Cut(e, ":")
			k, v, ok := strings.Cut(kv, "=")
			if got[k] = v; !ok {
				got[k] = "(deleted)"
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(model) {
			t.Fatalf("log says %v, model %v", got, model)
		}
		l.Close(context.Background())
	})
}
