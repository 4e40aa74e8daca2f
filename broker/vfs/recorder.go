package vfs

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"sync"
)

// Recorder wraps a file system and keeps every operation that can change what
// a crash would leave, in the order in which they were done. A Player does
// them again elsewhere, so that each moment of a run can be looked at as often
// as needed. It keeps all data in memory: it is for tests.
type Recorder struct {
	FS FS

	mu      sync.Mutex
	changes []Change
	files   int
}

var _ FS = (*Recorder)(nil)

// Change is one recorded operation.
type Change struct {
	Kind OpKind // one that Mutates, or OpOpen, which only names a file
	Path string // of Rename: the old path
	To   string // of Rename: the new path
	Data []byte // of Write
	At   int64  // of Write: the position; of Truncate: the size
	file int    // of Create, Open and what is done to a file
}

func (c Change) String() string {
	switch c.Kind {
	case OpRename:
		return fmt.Sprintf("%s %s to %s", c.Kind, c.Path, c.To)
	case OpWrite:
		return fmt.Sprintf("%s %s, %d bytes at %d", c.Kind, c.Path, len(c.Data), c.At)
	case OpTruncate:
		return fmt.Sprintf("%s %s to %d", c.Kind, c.Path, c.At)
	}
	return fmt.Sprintf("%s %s", c.Kind, c.Path)
}

// Len is the number of changes so far.
func (r *Recorder) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.changes)
}

// Changes returns what has been recorded so far; it must not be changed.
func (r *Recorder) Changes() []Change {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clip(r.changes)
}

// do does an operation and records it if it succeeded. One at a time is done, so that the order is the true one.
func (r *Recorder) do(c Change, op func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := op(); err != nil {
		return err
	}
	r.changes = append(r.changes, c)
	return nil
}

func (r *Recorder) file(kind OpKind, path string, open func(string) (File, error)) (File, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	r.files++
	r.changes = append(r.changes, Change{Kind: kind, Path: path, file: r.files})
	return &recordedFile{File: f, r: r, number: r.files}, nil
}

func (r *Recorder) Create(path string) (File, error) { return r.file(OpCreate, path, r.FS.Create) }

func (r *Recorder) Open(path string) (File, error) { return r.file(OpOpen, path, r.FS.Open) }

func (r *Recorder) Remove(path string) error {
	return r.do(Change{Kind: OpRemove, Path: path}, func() error { return r.FS.Remove(path) })
}

func (r *Recorder) RemoveAll(path string) error {
	return r.do(Change{Kind: OpRemoveAll, Path: path}, func() error { return r.FS.RemoveAll(path) })
}

func (r *Recorder) Rename(oldPath, newPath string) error {
	return r.do(Change{Kind: OpRename, Path: oldPath, To: newPath}, func() error { return r.FS.Rename(oldPath, newPath) })
}

func (r *Recorder) MkdirAll(path string) error {
	return r.do(Change{Kind: OpMkdirAll, Path: path}, func() error { return r.FS.MkdirAll(path) })
}

func (r *Recorder) SyncDir(path string) error {
	return r.do(Change{Kind: OpSyncDir, Path: path}, func() error { return r.FS.SyncDir(path) })
}

func (r *Recorder) List(path string) ([]string, error) { return r.FS.List(path) }

func (r *Recorder) Lock(path string) (io.Closer, error) { return r.FS.Lock(path) }

func (r *Recorder) FreeBytes(path string) (int64, error) { return r.FS.FreeBytes(path) }

type recordedFile struct {
	File
	r      *Recorder
	number int
}

func (f *recordedFile) WriteAt(b []byte, off int64) (n int, err error) {
	f.r.mu.Lock()
	defer f.r.mu.Unlock()
	if n, err = f.File.WriteAt(b, off); n > 0 {
		f.r.changes = append(f.r.changes, Change{Kind: OpWrite, Path: f.Path(), Data: bytes.Clone(b[:n]), At: off, file: f.number})
	}
	return n, err
}

func (f *recordedFile) Sync() error {
	return f.r.do(Change{Kind: OpSync, Path: f.Path(), file: f.number}, f.File.Sync)
}

func (f *recordedFile) Truncate(size int64) error {
	return f.r.do(Change{Kind: OpTruncate, Path: f.Path(), At: size, file: f.number}, func() error { return f.File.Truncate(size) })
}

// Player does recorded changes in another file system, which must be as the
// recorded one was at first. It is not safe for concurrent use.
type Player struct {
	FS    FS
	files map[int]File
}

// Apply does one change. Files stay open, as they may have been when recorded.
func (p *Player) Apply(c Change) (err error) {
	if p.files == nil {
		p.files = map[int]File{}
	}
	switch c.Kind {
	case OpCreate:
		p.files[c.file], err = p.FS.Create(c.Path)
	case OpOpen:
		p.files[c.file], err = p.FS.Open(c.Path)
	case OpRemove:
		err = p.FS.Remove(c.Path)
	case OpRemoveAll:
		err = p.FS.RemoveAll(c.Path)
	case OpRename:
		err = p.FS.Rename(c.Path, c.To)
	case OpMkdirAll:
		err = p.FS.MkdirAll(c.Path)
	case OpSyncDir:
		err = p.FS.SyncDir(c.Path)
	case OpWrite:
		_, err = p.files[c.file].WriteAt(c.Data, c.At)
	case OpSync:
		err = p.files[c.file].Sync()
	case OpTruncate:
		err = p.files[c.file].Truncate(c.At)
	default:
		err = fmt.Errorf("operation %q cannot be recorded", c.Kind)
	}
	return err
}
