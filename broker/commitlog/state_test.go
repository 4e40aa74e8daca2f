package commitlog

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/segment"
	"github.com/millstream-io/millstream/broker/vfs"
)

// model is a log as a table.
type model struct {
	start  int64
	values []string // by offset
	times  []int64
	epochs []epochStart
}

func (m *model) end() int64 { return int64(len(m.values)) }

// TestAgainstModel compares a log with a table over random operations.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mem := vfs.NewMem()
		config := Config{
			SegmentBytes:       rapid.Int64Range(1, 2000).Draw(t, "segment bytes"),
			IndexIntervalBytes: rapid.IntRange(1, 500).Draw(t, "index interval"),
		}
		ctx := context.Background()
		start := func() *Log {
			l, err := Open(ctx, Options{FS: mem, Dir: dir, Config: config})
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		l := start()
		defer func() { l.shut() }()
		m := &model{}
		epoch := int32(0)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"append", "append", "append", "epoch", "roll", "sync", "advance", "close", "kill"}).Draw(t, "step") {
			case "epoch":
				epoch += int32(rapid.IntRange(1, 3).Draw(t, "epochs"))
				fallthrough
			case "append":
				appendRandom(t, l, m, epoch)
			case "roll":
				must(t, l.Roll())
			case "sync":
				must(t, l.WaitDurable(ctx, rapid.Int64Range(0, m.end()).Draw(t, "offset")))
			case "advance":
				offset := rapid.Int64Range(0, m.end()).Draw(t, "start")
				must(t, l.AdvanceStart(offset))
				m.start = max(m.start, offset)
			case "close":
				must(t, l.Close(ctx))
				l = start()
			case "kill": // of the process: nothing written is lost
				l.shut()
				l = start()
			}
			compare(t, l, m)
		}
	})
}

func must(t *rapid.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func appendRandom(t *rapid.T, l *Log, m *model, epoch int32) {
	var data []byte
	base := m.end()
	if n := len(m.epochs); n == 0 || m.epochs[n-1].epoch != epoch {
		m.epochs = append(m.epochs, epochStart{epoch, base})
	}
	for range rapid.IntRange(1, 3).Draw(t, "batches") {
		var w record.Builder
		w.Reset(data, rapid.SampledFrom([]record.Codec{record.None, record.LZ4}).Draw(t, "codec"))
		for range rapid.IntRange(1, 3).Draw(t, "records") {
			value := strings.Repeat("x", rapid.IntRange(0, 100).Draw(t, "size"))
			ts := rapid.Int64Range(0, 50).Draw(t, "timestamp")
			w.Append(ts, nil, []byte(value), nil, 0)
			m.values, m.times = append(m.values, value), append(m.times, ts)
		}
		data = w.Finish()
	}
	a, err := l.Append(data, epoch)
	if err != nil || a != (Appended{base, m.end() - 1}) {
		t.Fatalf("%+v %v, want %d to %d", a, err, base, m.end()-1)
	}
}

func compare(t *rapid.T, l *Log, m *model) {
	if b := l.Bounds(); b != (Bounds{m.start, m.end()}) {
		t.Fatalf("bounds %+v, want %d to %d", b, m.start, m.end())
	}
	got, err := readEntries(l)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{}
	for offset := m.start; offset < m.end(); offset++ {
		want = append(want, fmt.Sprintf("%d=%s", offset, m.values[offset]))
	}
	if !slices.Equal(got, want) && len(got)+len(want) > 0 {
		t.Fatalf("log holds %v, want %v", got, want)
	}
	for _, ts := range []int64{0, 10, 25, 49, 51} {
		found := int64(-1)
		for offset := m.start; offset < m.end() && found < 0; offset++ {
			if m.times[offset] >= ts {
				found = offset
			}
		}
		offset, timestamp, ok, err := l.OffsetForTimestamp(ts)
		if err != nil || ok != (found >= 0) || ok && (offset != found || timestamp != m.times[found]) {
			t.Fatalf("timestamp %d: offset %d with %d, %v %v, want offset %d", ts, offset, timestamp, ok, err, found)
		}
	}
	largest := int64(-1)
	for offset := m.start; offset < m.end(); offset++ {
		if largest < 0 || m.times[offset] > m.times[largest] {
			largest = offset
		}
	}
	if offset, ts, err := l.MaxTimestamp(); err != nil || offset != largest || largest >= 0 && ts != m.times[largest] {
		t.Fatalf("largest timestamp %d at %d, %v, want offset %d", ts, offset, err, largest)
	}
	for i, e := range m.epochs {
		end := m.end()
		if i+1 < len(m.epochs) {
			end = m.epochs[i+1].offset
		}
		if end <= m.start && i+1 < len(m.epochs) {
			continue // forgotten with its records
		}
		if epoch, offset := l.EpochEnd(e.epoch); epoch != e.epoch || offset != end {
			t.Fatalf("epoch %d ends at %d (answered for %d), want %d", e.epoch, offset, epoch, end)
		}
	}
}

func TestEpochs(t *testing.T) {
	mem := vfs.NewMem()
	l := open(t, mem, Config{})
	if l.LastEpoch() != NoEpoch {
		t.Fatalf("an empty log has epoch %d", l.LastEpoch())
	}
	for _, e := range []int32{2, 2, 5, 9} {
		if _, err := l.Append(batch(1, "a", "b"), e); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Append(batch(1, "old"), 5); err == nil {
		t.Fatal("an older epoch is taken")
	}
	check := func(l *Log) {
		t.Helper()
		for _, c := range []struct {
			ask, epoch int32
			offset     int64
		}{{-1, -1, -1}, {0, 0, 0}, {2, 2, 4}, {3, 2, 4}, {5, 5, 6}, {8, 5, 6}, {9, 9, 8}, {10, -1, -1}} {
			if epoch, offset := l.EpochEnd(c.ask); epoch != c.epoch || offset != c.offset {
				t.Errorf("end of epoch %d: %d at %d, want %d at %d", c.ask, epoch, offset, c.epoch, c.offset)
			}
		}
		if l.LastEpoch() != 9 {
			t.Errorf("last epoch %d", l.LastEpoch())
		}
	}
	check(l)
	l.Close(t.Context())
	check(open(t, mem, Config{}))
}

func TestAdvanceStart(t *testing.T) {
	mem := vfs.NewMem()
	l := open(t, mem, Config{SegmentBytes: 200})
	for i := range 10 {
		mustAppend(t, l, batch(int64(i), fmt.Sprint(i)))
	}
	if err := l.AdvanceStart(5); err != nil {
		t.Fatal(err)
	}
	if err := l.AdvanceStart(3); err != nil || l.Bounds().Start != 5 {
		t.Fatalf("going back: %v, start %d", err, l.Bounds().Start)
	}
	if err := l.AdvanceStart(11); !errors.Is(err, ErrOffsetOutOfRange) {
		t.Fatalf("behind the end: %v", err)
	}
	if _, err := l.Read(nil, 4, 100, 10); !errors.Is(err, ErrOffsetOutOfRange) {
		t.Fatalf("read before the start: %v", err)
	}
	expectEntries(t, l, "5=5", "6=6", "7=7", "8=8", "9=9")
	// All of it: the log is empty, offsets go on.
	if err := l.AdvanceStart(10); err != nil {
		t.Fatal(err)
	}
	expectEntries(t, l)
	// The deletion is durable at once, even when the records before it never were.
	l = open(t, mem.CrashClone(0), Config{})
	if b := l.Bounds(); b != (Bounds{10, 10}) {
		t.Fatalf("%+v", b)
	}
	if a := mustAppend(t, l, batch(1, "x")); a.BaseOffset != 10 {
		t.Fatalf("%+v", a)
	}
}

func TestRollByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, vfs.NewMem(), Config{SegmentAge: time.Hour})
		hour := time.Hour.Milliseconds()
		for i, c := range []struct {
			timestamp int64
			segments  int
		}{{1000, 1}, {1000 + hour, 1}, {1001 + hour, 2}, {5, 2}, {1002 + 2*hour, 3}} {
			mustAppend(t, l, batch(c.timestamp, "v"))
			if got := len(l.Segments()); got != c.segments {
				t.Fatalf("append %d: %d segments, want %d", i, got, c.segments)
			}
		}
		// Without timestamps the clock counts.
		l.SetConfig(Config{SegmentAge: time.Minute})
		mustAppend(t, l, batch(-1, "v"))
		segments := len(l.Segments())
		time.Sleep(2 * time.Minute)
		mustAppend(t, l, batch(-1, "v"))
		if got := len(l.Segments()); got != segments+1 {
			t.Fatalf("%d segments, want %d", got, segments+1)
		}
		l.shut()
	})
}

func TestAppendRefuses(t *testing.T) {
	l := open(t, vfs.NewMem(), Config{})
	good := batch(1, "a")
	for name, data := range map[string][]byte{
		"nothing":          {},
		"half a batch":     good[:len(good)-1],
		"rest behind it":   append(slices.Clone(good), 1, 2, 3),
		"an old version":   append(append(slices.Clone(good[:16]), 1), good[17:]...),
		"one and half one": append(slices.Clone(good), good[:65]...),
	} {
		if _, err := l.Append(data, 0); !errors.Is(err, record.ErrCorrupt) && !errors.Is(err, record.ErrTruncated) {
			t.Errorf("%s: %v", name, err)
		}
	}
	expectEntries(t, l)
}

func TestMissingSegmentIsReported(t *testing.T) {
	for name, c := range map[string]Config{"plain": {SegmentBytes: 200}, "compacted": {SegmentBytes: 200, Compact: true}} {
		build := func() *vfs.Mem {
			mem := vfs.NewMem()
			l := open(t, mem, c)
			for i := range 10 {
				mustAppend(t, l, batch(int64(i), fmt.Sprint(i)))
			}
			if c.Compact {
				if _, _, err := l.RewriteSegments(t.Context(), 0, l.Segments()[0].NextOffset, true, func(dst, _ []byte) ([]byte, error) { return dst, nil }); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			return mem
		}
		files, err := build().List(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if !strings.HasSuffix(file, segment.LogSuffix) {
				continue
			}
			for _, alone := range []bool{false, true} { // with its indexes, or only the log
				mem := build()
				for _, suffix := range []string{segment.LogSuffix, segment.IndexSuffix, segment.TimeIndexSuffix} {
					if alone && suffix != segment.LogSuffix {
						continue
					}
					if err := mem.Remove(dir + "/" + strings.TrimSuffix(file, segment.LogSuffix) + suffix); err != nil {
						t.Fatal(err)
					}
				}
				_, err := Open(t.Context(), Options{FS: mem, Dir: dir, Config: c})
				if !errors.Is(err, ErrCorrupt) {
					t.Errorf("%s without %s: %v", name, file, err)
				}
			}
		}
	}
}

func TestReadDoesNotAllocate(t *testing.T) {
	l := openAt(t, vfs.OS{}, t.TempDir(), Config{})
	data := batch(1, strings.Repeat("v", 10_000))
	for range 50 {
		mustAppend(t, l, data)
	}
	buf := make([]byte, 0, 128<<10)
	for name, offsets := range map[string]func() int64{
		"in a row":   func() func() int64 { next := int64(0); return func() int64 { next = (next + 6) % 48; return next } }(),
		"by seeking": func() func() int64 { next := int64(0); return func() int64 { next = (next + 17) % 50; return next } }(),
	} {
		if n := testing.AllocsPerRun(100, func() {
			if _, err := l.Read(buf[:0], offsets(), 64<<10, 50); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// TestConcurrentUse has readers, an appender, a syncer, retention and a rewriter at work at once; it is for the race detector.
func TestConcurrentUse(t *testing.T) {
	l := open(t, vfs.NewMem(), Config{SegmentBytes: 2000, IndexIntervalBytes: 100, DeleteDelay: 1})
	done := make(chan struct{})
	results := make(chan error)
	run := func(f func() error) {
		go func() {
			for {
				select {
				case <-done:
					results <- nil
					return
				default:
				}
				if err := f(); err != nil {
					results <- err
					return
				}
			}
		}()
	}
	reader := func() error {
		_, err := readEntries(l)
		if errors.Is(err, ErrOffsetOutOfRange) {
			return nil // retention was faster
		}
		return err
	}
	run(reader)
	run(reader)
	run(func() error { return l.WaitDurable(t.Context(), l.Bounds().End) })
	run(func() error {
		_, err := l.RemoveDropped()
		if b := l.Bounds(); err == nil && b.End-b.Start > 300 {
			err = l.AdvanceStart(b.End - 100)
		}
		return err
	})
	run(func() error {
		for _, s := range l.Segments() {
			if _, _, err := l.RewriteSegments(t.Context(), s.BaseOffset, s.NextOffset, true, func(dst, b []byte) ([]byte, error) { return append(dst, b...), nil }); err != nil && !strings.Contains(err.Error(), "left the log") {
				return err
			}
			if _, _, _, err := l.OffsetForTimestamp(l.Bounds().End - 50); err != nil {
				return err
			}
		}
		return nil
	})
	for i := range 1500 {
		mustAppend(t, l, batch(int64(i), fmt.Sprint(i)))
	}
	close(done)
	for range 5 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestOpenReadsOnlyTheTail counts how often Open reads log files of a log with many segments.
func TestOpenReadsOnlyTheTail(t *testing.T) {
	mem := vfs.NewMem()
	config := Config{SegmentBytes: 500, IndexIntervalBytes: 100}
	l := open(t, mem, config)
	for i := range 300 {
		mustAppend(t, l, batch(int64(i), strings.Repeat("v", 100)))
	}
	if err := l.WaitDurable(t.Context(), 300); err != nil {
		t.Fatal(err)
	}
	reads := func(mem *vfs.Mem) int {
		n := 0
		fs := &vfs.Fault{FS: mem, Decide: func(op vfs.Op) error {
			if op.Kind == vfs.OpRead && strings.HasSuffix(op.Path, ".log") {
				n++
			}
			return nil
		}}
		if b := open(t, fs, config).Bounds(); b.End < 300 {
			t.Fatalf("%+v", b)
		}
		return n
	}
	if len(l.Segments()) < 50 {
		t.Fatalf("%d segments", len(l.Segments()))
	}
	if n := reads(mem.Clone()); n > 2 {
		t.Errorf("everything was synced, yet %d reads of log files", n)
	}
	mustAppend(t, l, batch(1, "not synced"))
	if n := reads(mem.Clone()); n > 3 {
		t.Errorf("one batch was not synced, and there are %d reads of log files", n)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := reads(mem); n > 2 {
		t.Errorf("%d reads of log files after a clean stop", n)
	}
}

func TestRemove(t *testing.T) {
	mem := vfs.NewMem()
	l := open(t, mem, Config{})
	mustAppend(t, l, batch(1, "a"))
	if err := l.Remove(); err != nil {
		t.Fatal(err)
	}
	if names, err := mem.CrashClone(0).List("/"); err != nil || len(names) != 0 {
		t.Fatalf("%v %v", names, err)
	}
	if _, err := l.Read(nil, 0, 1, 1); !errors.Is(err, ErrClosed) {
		t.Fatalf("%v", err)
	}
}

func FuzzCheckpoint(f *testing.F) {
	c := checkpoint{start: 4711, epochs: []epochStart{{0, 0}, {3, 4000}}}
	f.Add(c.encode())
	f.Add((&checkpoint{}).encode())
	f.Add((&checkpoint{start: 5, epochs: c.epochs, replacing: &offsetRange{10, 900}}).encode())
	f.Add([]byte("millstream log checkpoint 1\nstart -1\ncrc32c 00000000\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseCheckpoint(b)
		if err != nil {
			return
		}
		again, err := parseCheckpoint(c.encode())
		if err != nil || again.start != c.start || !slices.Equal(again.epochs, c.epochs) || !reflect.DeepEqual(again.replacing, c.replacing) {
			t.Fatalf("%+v becomes %+v, %v", c, again, err)
		}
	})
}
