package segment

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/vfs"
)

const dir = "/log"

func batch(ts int64, values ...string) []byte {
	var w record.Builder
	w.Reset(nil, record.None)
	for _, v := range values {
		w.Append(ts, nil, []byte(v), nil, 0)
	}
	return w.Finish()
}

func options(fs vfs.FS) Options { return Options{FS: fs, Dir: dir, IndexIntervalBytes: 1} }

func newMem(t testing.TB) *vfs.Mem {
	t.Helper()
	mem := vfs.NewMem()
	if err := mem.MkdirAll(dir); err != nil {
		t.Fatal(err)
	}
	return mem
}

func create(t testing.TB, o Options, base int64) *Segment {
	t.Helper()
	s, err := Create(o, base)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func add(t testing.TB, s *Segment, b []byte) {
	t.Helper()
	if _, err := s.Append(b, s.NextOffset(), 0); err != nil {
		t.Fatal(err)
	}
}

// sealedSegment has batches at offsets base, base+1 …, with those timestamps.
func sealedSegment(t testing.TB, o Options, base int64, timestamps ...int64) *Segment {
	t.Helper()
	s := create(t, o, base)
	for i, ts := range timestamps {
		add(t, s, batch(ts, fmt.Sprint("v", i)))
	}
	s.Seal(0)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	return s
}

func fileBytes(t testing.TB, fs vfs.FS, path string) []byte {
	t.Helper()
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && size > 0 {
		t.Fatal(err)
	}
	return b
}

// hexLine is one line of an example: position, bytes, and what they mean.
var hexLine = regexp.MustCompile(`(?m)^([0-9a-f]{4})  ((?:[0-9a-f]{2} ?)+)`)

// example decodes the code block behind a heading of FORMAT.md that names a file.
func example(t *testing.T, doc, name string) []byte {
	t.Helper()
	_, block, ok := strings.Cut(doc, "`"+name+"`:\n\n```")
	if !ok {
		t.Fatalf("FORMAT.md has no example of %s", name)
	}
	block, _, _ = strings.Cut(block, "```")
	var out []byte
	for _, m := range hexLine.FindAllStringSubmatch(block, -1) {
		var at int
		fmt.Sscanf(m[1], "%x", &at)
		b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(m[2]), " ", ""))
		if err != nil || at < len(out) {
			t.Fatalf("bad line %q: %v", m[0], err)
		}
		out = append(append(out, make([]byte, at-len(out))...), b...)
	}
	return out
}

// TestFormatExample: the files in FORMAT.md are those that the code writes, and it reads them.
func TestFormatExample(t *testing.T) {
	doc, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	mem := newMem(t)
	o := options(mem)
	s := create(t, o, 7)
	add(t, s, batch(1000, "hello", "world"))
	add(t, s, batch(1002, "!"))
	s.Seal(0)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	s.Close()
	other := newMem(t)
	for _, suffix := range []string{LogSuffix, IndexSuffix, TimeIndexSuffix} {
		name := FileName(7, suffix)
		want, got := example(t, string(doc), name), fileBytes(t, mem, filepath.Join(dir, name))
		if !slices.Equal(got, want) {
			t.Errorf("%s is written as\n%s", name, dump(got))
		}
		f, err := other.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		f.WriteAt(want, 0)
	}
	s, err = Open(options(other), 7)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !s.Complete() || s.NextOffset() != 10 || s.MaxTimestamp() != 1002 {
		t.Fatalf("complete %v, next %d, max timestamp %d", s.Complete(), s.NextOffset(), s.MaxTimestamp())
	}
	b, _, err := s.Read(nil, 9, 1, 10, Place{})
	if err != nil {
		t.Fatal(err)
	}
	if h, _ := record.ParseHeader(b); h.BaseOffset != 9 {
		t.Fatalf("read at offset 9: batch at %d", h.BaseOffset)
	}
}

// dump writes bytes as in FORMAT.md, without lines of zeros.
func dump(b []byte) string {
	var out strings.Builder
	for at := 0; at < len(b); at += 16 {
		line := b[at:min(at+16, len(b))]
		if slices.ContainsFunc(line, func(c byte) bool { return c != 0 }) || at+16 >= len(b) {
			fmt.Fprintf(&out, "%04x  % x\n", at, line)
		}
	}
	return out.String()
}

func TestParseFileName(t *testing.T) {
	for _, c := range []struct {
		name string
		base int64
		ok   bool
	}{
		{"00000000000000004711.log", 4711, true},
		{"09223372036854775807.log", 1<<63 - 1, true},
		{"09223372036854775808.log", 0, false},
		{"99999999999999999999.log", 0, false},
		{"0000000000000000471x.log", 0, false},
		{"4711.log", 0, false},
		{"00000000000000004711.log.deleted", 0, false},
		{"00000000000000004711.index", 0, false},
	} {
		base, ok := ParseFileName(c.name, LogSuffix)
		if ok != c.ok || ok && (base != c.base || FileName(base, LogSuffix) != c.name) {
			t.Errorf("%s: %d %v", c.name, base, ok)
		}
	}
}

// TestSeek reads at every offset of segments in memory, on disk, reopened, and without indexes.
func TestSeek(t *testing.T) {
	for _, interval := range []int{1, 200, 1 << 20} {
		mem := newMem(t)
		o := options(mem)
		o.IndexIntervalBytes = interval
		s := create(t, o, 100)
		for i := range 50 {
			add(t, s, batch(int64(i), "a", fmt.Sprint(i)))
		}
		check := func(state string, s *Segment) {
			t.Helper()
			for offset := int64(90); offset < 200; offset++ {
				b, place, err := s.Read(nil, max(offset, 100), 1, 200, Place{})
				if err != nil {
					t.Fatalf("%s, offset %d: %v", state, offset, err)
				}
				h, err := record.ParseHeader(b)
				if err != nil || h.BaseOffset != max(offset, 100)&^1 {
					t.Fatalf("%s, offset %d: batch at %d, %v", state, offset, h.BaseOffset, err)
				}
				if place.Offset != h.LastOffset()+1 {
					t.Fatalf("%s, offset %d: place %+v", state, offset, place)
				}
			}
			if b, _, err := s.Read(nil, 200, 1, 300, Place{}); err != nil || len(b) != 0 {
				t.Fatalf("%s: %d bytes behind the end, %v", state, len(b), err)
			}
		}
		check("in memory", s)
		s.Seal(0)
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
		check("on disk", s)
		s.Close()
		s, err := Open(o, 100)
		if err != nil || !s.Complete() {
			t.Fatalf("reopened: %v", err)
		}
		check("reopened", s)
		s.Close()
		if err := RemoveIndexes(o, 100); err != nil {
			t.Fatal(err)
		}
		if s, err = Open(o, 100); err != nil || s.Complete() {
			t.Fatalf("without indexes: %v", err)
		}
		if r, err := s.Recover(t.Context(), false); err != nil || r.Batches != 50 {
			t.Fatalf("without indexes: %+v %v", r, err)
		}
		check("rebuilt", s)
		s.Close()
	}
}

func TestOffsetForTimestamp(t *testing.T) {
	timestamps := []int64{50, 10, 60, 55, 70, 70, 65, 90}
	for _, state := range []string{"in memory", "on disk"} {
		mem := newMem(t)
		s := create(t, options(mem), 1000)
		for _, ts := range timestamps {
			add(t, s, batch(ts, "v"))
		}
		if state == "on disk" {
			s.Seal(0)
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		for from := int64(1000); from < 1008; from++ {
			for ts := int64(0); ts < 95; ts++ {
				want := int64(-1)
				for i, have := range timestamps {
					if have >= ts && 1000+int64(i) >= from {
						want = 1000 + int64(i)
						break
					}
				}
				offset, found, ok, err := s.OffsetForTimestamp(ts, from)
				if err != nil || ok != (want >= 0) || ok && (offset != want || found != timestamps[want-1000]) {
					t.Fatalf("%s, from %d, timestamp %d: offset %d, timestamp %d, %v, %v, want offset %d", state, from, ts, offset, found, ok, err, want)
				}
			}
		}
		if ts, err := s.MaxTimestampFrom(1003); err != nil || ts != 90 {
			t.Fatalf("%d %v", ts, err)
		}
		s.Close()
	}
}

// TestDamagedIndex flips every byte of the index files: lookups give the right answer all the same.
func TestDamagedIndex(t *testing.T) {
	timestamps := []int64{10, 20, 30, 40, 50, 60}
	build := newMem(t)
	sealedSegment(t, options(build), 0, timestamps...).Close()
	for _, suffix := range []string{IndexSuffix, TimeIndexSuffix} {
		path := filepath.Join(dir, FileName(0, suffix))
		for at := range int64(len(fileBytes(t, build, path))) {
			mem := build.Clone()
			f, err := mem.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			var b [1]byte
			f.ReadAt(b[:], at)
			b[0] ^= 0xff
			f.WriteAt(b[:], at)
			s, err := Open(options(mem), 0)
			if errors.Is(err, ErrVersion) {
				continue
			}
			if err != nil {
				t.Fatalf("%s byte %d: %v", suffix, at, err)
			}
			if !s.Complete() {
				if _, err := s.Recover(t.Context(), false); err != nil {
					t.Fatalf("%s byte %d: %v", suffix, at, err)
				}
			}
			for i, ts := range timestamps {
				offset, _, ok, err := s.OffsetForTimestamp(ts-5, 0)
				if err != nil || !ok || offset != int64(i) {
					t.Fatalf("%s byte %d, timestamp %d: offset %d %v %v", suffix, at, ts-5, offset, ok, err)
				}
				data, _, err := s.Read(nil, int64(i), 1, 6, Place{})
				if h, _ := record.ParsePrefix(data); err != nil || h.BaseOffset != int64(i) {
					t.Fatalf("%s byte %d: read at %d gives %d %v", suffix, at, i, h.BaseOffset, err)
				}
			}
			s.Close()
		}
	}
}

// TestRecover cuts a torn tail, but nothing that was synced.
func TestRecover(t *testing.T) {
	one := int64(len(batch(1, "v0")))
	for _, c := range []struct {
		name   string
		damage func(b []byte) []byte
		synced int // batches
		cut    bool
		next   int64
		err    error
	}{
		{"nothing", func(b []byte) []byte { return b }, 1, true, 4, nil},
		{"last byte missing", func(b []byte) []byte { return b[:len(b)-1] }, 1, true, 3, nil},
		{"only a header's part", func(b []byte) []byte { return b[:3*one+20] }, 1, true, 3, nil},
		{"zeros at the end", func(b []byte) []byte { clear(b[3*one:]); return b }, 1, true, 3, nil},
		{"a hole before the last", func(b []byte) []byte { clear(b[2*one : 3*one]); return b }, 1, true, 2, nil},
		{"bit behind the mark", func(b []byte) []byte { b[3*one-1] ^= 1; return b }, 1, true, 2, nil},
		{"bit behind the mark, proven synced", func(b []byte) []byte { b[3*one-1] ^= 1; return b }, 1, false, 0, ErrCorrupt},
		{"shorter than the mark", func(b []byte) []byte { return b[:one] }, 2, true, 0, ErrCorrupt},
	} {
		t.Run(c.name, func(t *testing.T) {
			mem := newMem(t)
			s := create(t, options(mem), 0)
			for i := range 4 {
				add(t, s, batch(int64(i), fmt.Sprint("v", i)))
				if i+1 == c.synced {
					if err := s.Sync(); err != nil {
						t.Fatal(err)
					}
				}
			}
			s.Close()
			path := filepath.Join(dir, FileName(0, LogSuffix))
			data := c.damage(fileBytes(t, mem, path))
			f, err := mem.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			f.WriteAt(data, 0)
			f.Truncate(int64(len(data)))
			s, err = Open(options(mem), 0)
			if err == nil {
				defer s.Close()
				if s.SyncedBytes() != int64(c.synced)*one {
					t.Fatalf("%d bytes synced", s.SyncedBytes())
				}
				_, err = s.Recover(t.Context(), c.cut)
			}
			if !errors.Is(err, c.err) {
				t.Fatalf("%v, want %v", err, c.err)
			}
			if err != nil {
				if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "position") {
					t.Fatalf("the error does not say where: %v", err)
				}
				return
			}
			if s.NextOffset() != c.next || s.SizeBytes() != c.next*one || int64(len(fileBytes(t, mem, path))) != c.next*one {
				t.Fatalf("next offset %d, %d bytes", s.NextOffset(), s.SizeBytes())
			}
		})
	}
}

// TestFutureVersionIsRefused: what a newer program wrote is neither read nor rebuilt.
func TestFutureVersionIsRefused(t *testing.T) {
	mem := newMem(t)
	sealedSegment(t, options(mem), 0, 1).Close()
	f, err := mem.Open(filepath.Join(dir, FileName(0, IndexSuffix)))
	if err != nil {
		t.Fatal(err)
	}
	f.WriteAt([]byte{2}, 7)
	if _, err := Open(options(mem), 0); !errors.Is(err, ErrVersion) {
		t.Fatalf("%v", err)
	}
}

// TestReadersKeepFilesOpen: a segment that left its log can be read to the end by who has it.
func TestReadersKeepFilesOpen(t *testing.T) {
	s := sealedSegment(t, options(newMem(t)), 0, 1, 2)
	if !s.Acquire() {
		t.Fatal("cannot acquire")
	}
	s.Close()
	if b, _, err := s.Read(nil, 1, 1, 2, Place{}); err != nil || len(b) == 0 {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	s.Release()
	if s.Acquire() {
		t.Fatal("a closed segment was acquired")
	}
}

// TestDeleteHorizonIsKept: the mark tells of tombstones that are to go, and a damaged mark does not count.
func TestDeleteHorizonIsKept(t *testing.T) {
	mem := newMem(t)
	s, err := CreateSparse(options(mem), 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, horizon := range []int64{500, 400, 600} {
		var b record.Builder
		b.Reset(nil, record.None)
		b.Append(1, []byte("k"), nil, nil, 0)
		plain := b.Finish()
		h, err := record.ParseHeader(plain)
		if err != nil {
			t.Fatal(err)
		}
		h.BaseOffset = int64(i)
		h.SetDeleteHorizon(horizon)
		b.ResetFrom(nil, h)
		b.AppendAt(&record.Record{Offset: int64(i), Timestamp: 1, Key: []byte("k")})
		if err := s.AppendAsIs(b.Finish()); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Finish(3, true); err != nil {
		t.Fatal(err)
	}
	s.Close()
	reopened := func() *Segment {
		o := options(mem)
		o.Sparse = true
		s, err := Open(o, 0)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s = reopened()
	if DeleteHorizon(s) != 400 || !s.Complete() {
		t.Fatalf("horizon %d, complete %v", DeleteHorizon(s), s.Complete())
	}
	s.Close()
	index, err := mem.Open(filepath.Join(dir, FileName(0, IndexSuffix)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := index.WriteAt([]byte{0xff}, markPositions[1]+markBytes+3); err != nil {
		t.Fatal(err)
	}
	s = reopened()
	defer s.Close()
	if s.Complete() {
		t.Fatal("a damaged mark counts")
	}
	if _, err := s.Recover(t.Context(), true); err != nil || DeleteHorizon(s) != 400 {
		t.Fatalf("horizon %d after recovery, %v", DeleteHorizon(s), err)
	}
}

// TestCreateOnFullDisk: each append to a full disk may try anew to begin a segment; that leaves no file open.
func TestCreateOnFullDisk(t *testing.T) {
	mem := newMem(t)
	mem.SetCapacity(0)
	pool := vfs.NewPool(mem, 100)
	for range 3 {
		if _, err := Create(options(pool), 0); !errors.Is(err, vfs.ErrNoSpace) {
			t.Fatalf("without a byte left: %v", err)
		}
	}
	if n := pool.OpenFiles(); n != 0 {
		t.Errorf("%d files are still open", n)
	}
}
