package segment

import (
	"errors"
	"math"
	"path/filepath"
	"testing"

	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/vfs"
)

// FuzzIndexFiles opens a good log beside any index files: it reads as it
// should, or says why not. The parts of the index are given one by one, without
// the zeros between them: what is short is tried out and minimised fast.
func FuzzIndexFiles(f *testing.F) {
	mem := newMem(f)
	sealedSegment(f, options(mem), 0, 10, 20, 30, 40).Close()
	index := fileBytes(f, mem, filepath.Join(dir, FileName(0, IndexSuffix)))
	times := fileBytes(f, mem, filepath.Join(dir, FileName(0, TimeIndexSuffix)))
	log := fileBytes(f, mem, filepath.Join(dir, FileName(0, LogSuffix)))
	const whole = math.MaxUint16
	part := func(at int64) []byte { return index[at : at+markBytes+horizonBytes] }
	f.Add(index[:fileHeaderBytes], part(markPositions[0]), part(markPositions[1]), index[indexHeaderBytes:], uint16(whole), times)
	f.Add(index[:fileHeaderBytes], part(markPositions[0]), part(markPositions[1]), []byte{}, uint16(whole), times[:timeHeaderBytes])
	f.Add([]byte{}, []byte{}, []byte{}, []byte{}, uint16(0), []byte{})
	f.Fuzz(func(t *testing.T, header, even, odd, entries []byte, cut uint16, times []byte) {
		index := make([]byte, indexHeaderBytes, indexHeaderBytes+len(entries))
		copy(index[:markPositions[0]], header)
		copy(index[markPositions[0]:markPositions[1]], even)
		copy(index[markPositions[1]:], odd)
		index = append(index, entries...)
		left := newMem(t)
		for _, file := range []struct {
			suffix  string
			content []byte
		}{{LogSuffix, log}, {IndexSuffix, index[:min(len(index), int(cut))]}, {TimeIndexSuffix, times}} {
			created, err := left.Create(filepath.Join(dir, FileName(0, file.suffix)))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := created.WriteAt(file.content, 0); err != nil {
				t.Fatal(err)
			}
		}
		readAll(t, left)
	})
}

// readAll opens a segment of the records 10, 20, 30, 40 whose indexes may be
// damaged, and looks for each record by its offset and by its timestamp.
func readAll(t *testing.T, mem *vfs.Mem) {
	s, err := Open(options(mem), 0)
	if err != nil {
		if !errors.Is(err, ErrVersion) && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("error of no family: %v", err)
		}
		return
	}
	defer s.Close()
	if !s.Complete() {
		if _, err := s.Recover(t.Context(), true); err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
	}
	for offset := range int64(4) {
		if b, _, err := s.Read(nil, offset, 1, 4, Place{}); err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
		} else if h, _ := record.ParsePrefix(b); len(b) > 0 && h.BaseOffset != offset {
			t.Fatalf("read at %d gives %d", offset, h.BaseOffset)
		}
		if _, _, _, err := s.OffsetForTimestamp(offset*10, 0); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
	}
}
