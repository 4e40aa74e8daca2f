package commitlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const dir = "/log"

// batch builds one batch of records that carry the given values, with timestamps from ts on.
func batch(ts int64, values ...string) []byte {
	var w record.Builder
	w.Reset(nil, record.None)
	for i, v := range values {
		w.Append(ts+int64(i), []byte("k"), []byte(v), nil, 0)
	}
	return w.Finish()
}

func open(t testing.TB, fs vfs.FS, c Config) *Log { return openAt(t, fs, dir, c) }

func openAt(t testing.TB, fs vfs.FS, dir string, c Config) *Log {
	t.Helper()
	l, err := Open(t.Context(), Options{FS: fs, Dir: dir, Config: c})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.shut() })
	return l
}

func mustAppend(t testing.TB, l *Log, b []byte) Appended {
	t.Helper()
	a, err := l.Append(b, 0)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// entries reads the whole log batch by batch as "offset=value".
func entries(t testing.TB, l *Log) []string {
	t.Helper()
	out, err := readEntries(l)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func readEntries(l *Log) ([]string, error) {
	b := l.Bounds()
	var out []string
	for offset := b.Start; offset < b.End; {
		data, err := l.Read(nil, offset, 200, b.End)
		if err != nil {
			return out, err
		}
		if len(data) == 0 {
			return out, fmt.Errorf("nothing at offset %d of %+v", offset, b)
		}
		for len(data) > 0 {
			h, err := record.ParseHeader(data)
			if err != nil {
				return out, err
			}
			if err := record.CheckCRC(data); err != nil {
				return out, err
			}
			it, _, err := record.Iterate(data, nil, 1<<20)
			if err != nil {
				return out, err
			}
			var r record.Record
			for it.Next(&r) {
				if r.Offset >= offset {
					out = append(out, fmt.Sprintf("%d=%s", r.Offset, r.Value))
				}
			}
			offset = h.LastOffset() + 1
			data = data[h.Size():]
		}
	}
	return out, nil
}

func expectEntries(t testing.TB, l *Log, want ...string) {
	t.Helper()
	if got := entries(t, l); !slices.Equal(got, want) {
		t.Fatalf("log holds %v, want %v", got, want)
	}
}

func TestAppendReadReopen(t *testing.T) {
	fs := vfs.NewMem()
	l := open(t, fs, Config{})
	expectEntries(t, l)
	if a := mustAppend(t, l, batch(10, "a", "b")); a != (Appended{0, 1}) {
		t.Fatalf("%+v", a)
	}
	if a := mustAppend(t, l, slices.Concat(batch(12, "c"), batch(13, "d", "e"))); a != (Appended{2, 4}) {
		t.Fatalf("%+v", a)
	}
	want := []string{"0=a", "1=b", "2=c", "3=d", "4=e"}
	expectEntries(t, l, want...)
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(batch(1, "x"), 0); !errors.Is(err, ErrClosed) {
		t.Fatalf("append to a closed log: %v", err)
	}
	if _, err := l.Read(nil, 0, 100, 5); !errors.Is(err, ErrClosed) {
		t.Fatalf("read of a closed log: %v", err)
	}
	l = open(t, fs, Config{})
	expectEntries(t, l, want...)
	if b := l.Bounds(); b != (Bounds{0, 5}) {
		t.Fatalf("%+v", b)
	}
	mustAppend(t, l, batch(20, "f"))
	expectEntries(t, l, append(want, "5=f")...)
}

func TestRead(t *testing.T) {
	l := open(t, vfs.NewMem(), Config{SegmentBytes: 300, IndexIntervalBytes: 1})
	for i := range 20 {
		mustAppend(t, l, batch(int64(i), fmt.Sprintf("%02d", i), "x"))
	}
	one := len(batch(1, "00", "x"))
	if n := len(l.Segments()); n < 5 {
		t.Fatalf("%d segments", n)
	}
	for _, c := range []struct {
		offset   int64
		maxBytes int
		upTo     int64
		first    int64
		batches  int
	}{
		{0, 0, 40, 0, 1},
		{0, one, 40, 0, 1},
		{0, one + 1, 40, 0, 1},
		{0, 2 * one, 40, 0, 2},
		{1, 2 * one, 40, 0, 2},
		{1, 2 * one, 3, 0, 1},
		{1, 2 * one, 2, 0, 1},
		{0, 2 * one, 1, 0, 0},
		{5, 1 << 20, 40, 4, 1}, // the last batch of its segment
		{39, 1 << 20, 40, 38, 1},
		{40, 1 << 20, 40, 0, 0},
	} {
		prefix := []byte("kept")
		out, err := l.Read(prefix, c.offset, c.maxBytes, c.upTo)
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		if !bytes.HasPrefix(out, prefix) {
			t.Fatalf("%+v: %q lost", c, prefix)
		}
		out = out[len(prefix):]
		if len(out) != c.batches*one {
			t.Errorf("%+v: %d bytes, want %d", c, len(out), c.batches*one)
			continue
		}
		if h, _ := record.ParseHeader(append(out, make([]byte, 100)...)); c.batches > 0 && h.BaseOffset != c.first {
			t.Errorf("%+v: first batch at %d", c, h.BaseOffset)
		}
	}
	for _, offset := range []int64{-1, 41} {
		if _, err := l.Read(nil, offset, 100, 100); !errors.Is(err, ErrOffsetOutOfRange) {
			t.Errorf("read at %d: %v", offset, err)
		}
	}
}

func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		started := make(chan struct{}, 10)
		fs := &vfs.Fault{FS: vfs.NewMem()}
		l, err := Open(t.Context(), Options{FS: fs, Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer l.shut()
		fs.Decide = func(op vfs.Op) error {
			if op.Kind == vfs.OpSync {
				started <- struct{}{}
				<-release
			}
			return nil
		}
		mustAppend(t, l, batch(1, "a"))
		results := make(chan error, 10)
		wait := func(offset int64) { results <- l.WaitDurable(t.Context(), offset) }
		go wait(1)
		<-started
		// While the disk is busy the log is appended to and read.
		for range 5 {
			mustAppend(t, l, batch(1, "b"))
		}
		if n := len(entries(t, l)); n != 6 {
			t.Fatalf("%d records are readable", n)
		}
		for offset := int64(2); offset <= 6; offset++ {
			go wait(offset)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		if err := l.WaitDurable(short, 6); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a waiter that gives up: %v", err)
		}
		cancel()
		release <- struct{}{}
		<-started // one sync for the five
		release <- struct{}{}
		for range 6 {
			if err := <-results; err != nil {
				t.Fatal(err)
			}
		}
		if len(started) != 0 {
			t.Fatalf("%d syncs too many", len(started))
		}
		if err := l.WaitDurable(t.Context(), 7); !errors.Is(err, ErrOffsetOutOfRange) {
			t.Fatalf("waiting for what nobody wrote: %v", err)
		}
	})
}
