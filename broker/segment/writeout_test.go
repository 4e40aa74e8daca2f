package segment

import (
	"slices"
	"testing"

	"github.com/millstream-io/millstream/broker/vfs"
)

// hinted notes what a file system is asked to write out.
type hinted struct {
	vfs.FS
	ranges [][2]int64 // from, to
}

func (h *hinted) Create(path string) (vfs.File, error) {
	f, err := h.FS.Create(path)
	return &hintedFile{f, h}, err
}

type hintedFile struct {
	vfs.File
	fs *hinted
}

func (f *hintedFile) WriteOut(off, n int64) {
	f.fs.ranges = append(f.fs.ranges, [2]int64{off, off + n})
}

// TestWriteOut: whole pages are asked for once, the last one not before it is full.
func TestWriteOut(t *testing.T) {
	fs := &hinted{FS: newMem(t)}
	s := create(t, options(fs), 0)
	defer s.Close()
	big := string(make([]byte, 5000))
	WriteOut(s)
	add(t, s, batch(1, "small"))
	WriteOut(s)
	add(t, s, batch(1, big))
	WriteOut(s)
	WriteOut(s)
	add(t, s, batch(1, big))
	WriteOut(s)
	if want := [][2]int64{{0, 4096}, {4096, 8192}}; !slices.Equal(fs.ranges, want) {
		t.Errorf("asked for %v, want %v", fs.ranges, want)
	}
}
