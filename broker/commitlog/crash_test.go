package commitlog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/millstream-io/millstream/broker/segment"
	"github.com/millstream-io/millstream/broker/vfs"
)

// history is what a workload did to a log, as far as a crash may be judged by it.
type history struct {
	values   []string // by offset, the batch in flight included
	acked    int64    // everything before it was reported durable
	start    int64    // reported start
	maxStart int64    // start that may be reached, were an advance in flight
}

// check opens what a crash left and compares it with the history.
func (h *history) check(t testing.TB, fs vfs.FS, c Config) error {
	l, err := Open(t.Context(), Options{FS: fs, Dir: dir, Config: c})
	if err != nil {
		return fmt.Errorf("the log does not open: %w", err)
	}
	defer l.shut()
	b := l.Bounds()
	if b.Start < h.start || b.Start > h.maxStart {
		return fmt.Errorf("start %d, want %d to %d", b.Start, h.start, h.maxStart)
	}
	if b.End < h.acked {
		return fmt.Errorf("the log ends at %d, %d were acknowledged", b.End, h.acked)
	}
	want := []string{}
	for offset := b.Start; offset < b.End; offset++ {
		if offset >= int64(len(h.values)) {
			return fmt.Errorf("offset %d was never appended", offset)
		}
		want = append(want, fmt.Sprintf("%d=%s", offset, h.values[offset]))
	}
	got, err := readEntries(l)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("the log holds %v, want %v", got, want)
	}
	// It goes on, and what it then acknowledges is there after a second crash.
	if _, err := l.Append(batch(1000, "after"), 9); err != nil {
		return fmt.Errorf("append after recovery: %w", err)
	}
	return l.WaitDurable(t.Context(), b.End+1)
}

// crashConfig makes segments of about three batches, with an index entry for each batch.
var crashConfig = Config{SegmentBytes: 400, IndexIntervalBytes: 1}

// runWorkload does a little of everything. each is called before every operation that changes the disk.
func runWorkload(t testing.TB, mem *vfs.Mem, seed uint64, ignoreSync bool, each func(h *history)) {
	rng := rand.New(rand.NewPCG(seed, 7))
	h := &history{}
	busy := false
	fs := &vfs.Fault{FS: mem}
	fs.Decide = func(op vfs.Op) error {
		if op.Kind.Mutates() && !busy {
			busy = true
			each(h)
			busy = false
		}
		if ignoreSync && op.Kind == vfs.OpSync {
			return vfs.Ignore
		}
		return nil
	}
	l, err := Open(t.Context(), Options{FS: fs, Dir: dir, Config: crashConfig})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { l.shut() }()
	epoch := int32(0)
	for step := range 14 {
		switch rng.IntN(8) {
		case 0:
			h.maxStart = h.start + rng.Int64N(int64(len(h.values))-h.start+1)
			if err := l.AdvanceStart(h.maxStart); err != nil {
				t.Fatal(err)
			}
			h.start = h.maxStart
		case 1:
			if err := l.Roll(); err != nil {
				t.Fatal(err)
			}
		case 2:
			if err := l.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			h.acked = int64(len(h.values))
			if l, err = Open(t.Context(), Options{FS: fs, Dir: dir, Config: crashConfig, Clean: true}); err != nil {
				t.Fatal(err)
			}
		case 3:
			epoch++
			fallthrough
		default:
			var data []byte
			for range 1 + rng.IntN(3) {
				value := fmt.Sprintf("v%d.%s", step, strings.Repeat("x", rng.IntN(200)))
				h.values = append(h.values, value, value+"'")
				data = append(data, batch(int64(len(h.values)), value, value+"'")...)
			}
			if _, err := l.Append(data, epoch); err != nil {
				t.Fatal(err)
			}
			if rng.IntN(2) == 0 {
				if err := l.WaitDurable(t.Context(), int64(len(h.values))); err != nil {
					t.Fatal(err)
				}
				h.acked = int64(len(h.values))
			}
		}
	}
	each(h)
}

// TestCrashStates takes power away before every operation of many workloads.
func TestCrashStates(t *testing.T) {
	workloads, states := uint64(8), 0
	if testing.Short() {
		workloads = 5
	}
	for seed := range workloads {
		mem := vfs.NewMem()
		op := 0
		runWorkload(t, mem, seed, false, func(h *history) {
			op++
			for _, crash := range []uint64{0, uint64(op)*4 + 1, uint64(op)*4 + 2, uint64(op)*4 + 3} {
				states++
				left := mem.CrashClone(crash)
				if err := h.check(t, left, crashConfig); err != nil {
					t.Fatalf("workload %d, crash before operation %d, seed %d: %v", seed, op, crash, err)
				}
				again := left.CrashClone(crash)
				after := &history{values: append(slices.Clone(h.values), "after"), start: h.start, maxStart: h.maxStart}
				l, err := Open(t.Context(), Options{FS: again, Dir: dir, Config: crashConfig})
				if err != nil {
					t.Fatalf("workload %d, second crash after operation %d, seed %d: %v", seed, op, crash, err)
				}
				got, err := readEntries(l)
				if err != nil || len(got) == 0 || !strings.HasSuffix(got[len(got)-1], "=after") {
					t.Fatalf("workload %d, second crash after operation %d, seed %d: %v, %v of %v", seed, op, crash, err, got, after.values)
				}
				l.shut()
			}
		})
	}
	t.Logf("%d crash states", states)
}

// TestCrashTestCanFail is the control: on a disk that only says it synced, acknowledged records are lost, and the check sees it.
func TestCrashTestCanFail(t *testing.T) {
	seen := 0
	for seed := range uint64(5) {
		mem := vfs.NewMem()
		runWorkload(t, mem, seed, true, func(h *history) {
			if h.check(t, mem.CrashClone(0), crashConfig) != nil {
				seen++
			}
		})
	}
	if seen < 10 {
		t.Fatalf("only %d losses seen without syncs", seen)
	}
}

// TestCrashDuringRecovery: recovery that is itself cut short at any operation is done again, with the same result.
func TestCrashDuringRecovery(t *testing.T) {
	for seed := range uint64(6) {
		mem := vfs.NewMem()
		op := 0
		runWorkload(t, mem, seed, false, func(h *history) {
			if op++; op%3 != 0 {
				return
			}
			left := mem.CrashClone(uint64(op))
			inner := 0
			fs := &vfs.Fault{FS: left}
			fs.Decide = func(o vfs.Op) error {
				if o.Kind.Mutates() {
					inner++
					if err := h.check(t, left.CrashClone(uint64(inner)), crashConfig); err != nil {
						t.Fatalf("workload %d, crash before operation %d and before operation %d of the recovery: %v", seed, op, inner, err)
					}
				}
				return nil
			}
			l, err := Open(t.Context(), Options{FS: fs, Dir: dir, Config: crashConfig})
			if err != nil {
				t.Fatal(err)
			}
			l.shut()
		})
	}
}

// TestEveryOperationFails lets every single disk operation of a workload fail once, in every way.
func TestEveryOperationFails(t *testing.T) {
	kinds := map[string]error{
		"EIO":        errors.New("input/output error"),
		"full":       fmt.Errorf("write: %w", vfs.ErrNoSpace),
		"cut short":  vfs.ShortWrite{Bytes: 100, Err: vfs.ErrNoSpace},
		"cut by EIO": vfs.ShortWrite{Bytes: 1, Err: errors.New("input/output error")},
	}
	cases := 0
	for name, fault := range kinds {
		for n := int64(1); ; n++ {
			mem := vfs.NewMem()
			fs := &vfs.Fault{FS: mem, Decide: vfs.FailNth(n, func(op vfs.Op) bool { return op.Kind != vfs.OpList }, fault)}
			h := &history{}
			faultyWorkload(t, fs, h)
			if fs.Count() < n {
				break
			}
			cases++
			for _, crash := range []uint64{0, uint64(n)} {
				if err := h.check(t, mem.CrashClone(crash), crashConfig); err != nil {
					t.Fatalf("%s at operation %d, crash %d: %v", name, n, crash, err)
				}
			}
			if err := h.check(t, mem, crashConfig); err != nil {
				t.Fatalf("%s at operation %d, restart: %v", name, n, err)
			}
		}
	}
	t.Logf("%d cases", cases)
}

// faultyWorkload goes on after errors as a broker does; what failed may be there or not.
func faultyWorkload(t testing.TB, fs vfs.FS, h *history) {
	l, err := Open(t.Context(), Options{FS: fs, Dir: dir, Config: crashConfig})
	if err != nil {
		return
	}
	defer l.shut()
	for step := range 8 {
		end := l.Bounds().End
		value := fmt.Sprintf("v%d.%s", step, strings.Repeat("y", 150))
		h.values = append(h.values[:end], value)
		_, err := l.Append(batch(end, value), 0)
		if err != nil {
			if l.Bounds().End != end {
				t.Fatalf("a failed append moved the end to %d", l.Bounds().End)
			}
			continue
		}
		if got, err := readEntries(l); err == nil && len(got) > 0 && got[len(got)-1] != fmt.Sprintf("%d=%s", end, value) {
			t.Fatalf("last record %s", got[len(got)-1])
		}
		failed := l.health.failure.Load() != nil
		if err := l.WaitDurable(t.Context(), end+1); err == nil {
			if failed {
				t.Fatal("a failed log acknowledges")
			}
			h.acked = end + 1
		} else if err := l.WaitDurable(t.Context(), end+1); err == nil {
			t.Fatal("a record is durable although its sync failed")
		}
		if step == 5 {
			h.maxStart = 2
			if l.AdvanceStart(2) == nil {
				h.start = 2
			}
		}
	}
	if l.Close(t.Context()) == nil {
		h.acked = l.Bounds().End
	}
}

func TestFailedSyncIsForGood(t *testing.T) {
	boom := errors.New("input/output error")
	mem := vfs.NewMem()
	fs := &vfs.Fault{FS: mem}
	l := open(t, fs, Config{})
	mustAppend(t, l, batch(1, "safe"))
	if err := l.WaitDurable(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, batch(1, "lost"))
	fs.Decide = vfs.FailNth(1, func(op vfs.Op) bool { return op.Kind == vfs.OpSync }, boom)
	for range 2 {
		if err := l.WaitDurable(t.Context(), 2); !errors.Is(err, ErrFailed) || !errors.Is(err, boom) {
			t.Fatalf("%v, want ErrFailed with its cause", err)
		}
	}
	if _, err := l.Append(batch(1, "x"), 0); !errors.Is(err, ErrFailed) {
		t.Fatalf("append after a failed sync: %v", err)
	}
	if err := l.WaitDurable(t.Context(), 1); err != nil {
		t.Fatalf("what was durable before stays so: %v", err)
	}
	expectEntries(t, l, "0=safe", "1=lost")
	if err := l.Close(t.Context()); !errors.Is(err, ErrFailed) {
		t.Fatalf("close: %v", err)
	}
	expectEntries(t, open(t, mem.CrashClone(0), Config{}), "0=safe")
}

// A new segment of which only the log file could be created must not be
// overtaken by an append to the old one: after a restart both would hold its offset.
func TestHalfDoneRoll(t *testing.T) {
	mem := vfs.NewMem()
	fs := &vfs.Fault{FS: mem}
	l := open(t, fs, Config{SegmentBytes: 200})
	mustAppend(t, l, batch(1, strings.Repeat("a", 50)))
	fs.Decide = vfs.FailNth(1, func(op vfs.Op) bool {
		return op.Kind == vfs.OpCreate && strings.HasSuffix(op.Path, segment.IndexSuffix)
	},
		fmt.Errorf("create: %w", vfs.ErrNoSpace))
	if _, err := l.Append(batch(2, strings.Repeat("b", 150)), 0); !errors.Is(err, vfs.ErrNoSpace) {
		t.Fatalf("append that needs a new segment on a full disk: %v", err)
	}
	mustAppend(t, l, batch(2, "c"))
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	expectEntries(t, open(t, mem, Config{}), "0="+strings.Repeat("a", 50), "1=c")
}

func TestFullDisk(t *testing.T) {
	mem := vfs.NewMem()
	l := open(t, mem, Config{})
	mustAppend(t, l, batch(1, "a"))
	mem.SetCapacity(capacityFor(mem, l, 5000))
	big := batch(2, strings.Repeat("z", 10_000))
	for range 3 {
		if _, err := l.Append(slices.Clone(big), 0); !errors.Is(err, vfs.ErrNoSpace) {
			t.Fatalf("append to a full disk: %v", err)
		}
	}
	expectEntries(t, l, "0=a")
	mem.SetCapacity(-1)
	mustAppend(t, l, big)
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := entries(t, open(t, mem, Config{})); len(got) != 2 {
		t.Fatalf("%d records", len(got))
	}
}

// TestFullDiskKeepsNothingRefused: of two batches in one write the disk takes the first. It was refused with the other,
// and is not there after a crash either.
func TestFullDiskKeepsNothingRefused(t *testing.T) {
	mem := vfs.NewMem()
	l := open(t, mem, Config{})
	mustAppend(t, l, batch(1, "a"))
	mem.SetCapacity(capacityFor(mem, l, 5000))
	two := append(batch(2, "b"), batch(3, strings.Repeat("z", 10_000))...)
	if _, err := l.Append(two, 0); !errors.Is(err, vfs.ErrNoSpace) {
		t.Fatalf("append to a full disk: %v", err)
	}
	if free, _ := mem.FreeBytes(l.Dir()); free != 5000 {
		t.Errorf("%d bytes are free, 5000 were: the part that was written is still there", free)
	}
	l.shut() // as a process does that is killed
	expectEntries(t, open(t, mem, Config{}), "0=a")
}

// capacityFor returns the capacity that leaves free bytes.
func capacityFor(mem *vfs.Mem, l *Log, free int64) int64 {
	mem.SetCapacity(1 << 30)
	left, _ := mem.FreeBytes(l.Dir())
	return 1<<30 - left + free
}

// TestDamage flips bytes all over a synced log: nothing wrong is ever read, and nothing is missing without an error.
func TestDamage(t *testing.T) {
	build := func() *vfs.Mem {
		mem := vfs.NewMem()
		l := open(t, mem, crashConfig)
		for i := range 10 {
			mustAppend(t, l, batch(int64(i), fmt.Sprint("value", i)))
			if err := l.WaitDurable(t.Context(), l.Bounds().End); err != nil {
				t.Fatal(err)
			}
		}
		l.shut() // no clean end
		return mem
	}
	mem := build()
	want := entries(t, open(t, mem.Clone(), crashConfig))
	names, err := mem.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	silent, reported, harmless := 0, 0, 0
	for _, name := range names {
		f, err := mem.Open(dir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		size, _ := f.Size()
		for at := range size {
			damaged := mem.Clone()
			g, err := damaged.Open(dir + "/" + name)
			if err != nil {
				t.Fatal(err)
			}
			var b [1]byte
			g.ReadAt(b[:], at)
			b[0] ^= byte(1 << (at % 8))
			g.WriteAt(b[:], at)
			l, err := Open(t.Context(), Options{FS: damaged, Dir: dir, Config: crashConfig})
			var got []string
			if err == nil {
				got, err = readEntries(l)
				l.shut()
			}
			switch {
			case err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, segment.ErrVersion):
				t.Fatalf("%s byte %d: %v", name, at, err)
			case err != nil:
				if !strings.Contains(err.Error(), name[:20]) {
					t.Fatalf("%s byte %d: the error names another file: %v", name, at, err)
				}
				reported++
			case slices.Equal(got, want):
				harmless++
				if strings.HasSuffix(name, segment.LogSuffix) {
					t.Fatalf("%s byte %d: damage of the log not seen", name, at)
				}
			default:
				silent++
				t.Errorf("%s byte %d: read %v without an error", name, at, got)
			}
		}
	}
	t.Logf("reported %d, harmless %d, silent %d", reported, harmless, silent)
	if reported < 100 {
		t.Error("hardly any damage was reported")
	}
}
