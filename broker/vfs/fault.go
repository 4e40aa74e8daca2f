package vfs

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
)

// OpKind names an operation that Fault can make fail.
type OpKind string

// The operations of FS and File.
const (
	OpCreate    OpKind = "create"
	OpOpen      OpKind = "open"
	OpRemove    OpKind = "remove"
	OpRemoveAll OpKind = "removeall"
	OpRename    OpKind = "rename"
	OpMkdirAll  OpKind = "mkdirall"
	OpList      OpKind = "list"
	OpSyncDir   OpKind = "syncdir"
	OpLock      OpKind = "lock"
	OpRead      OpKind = "read"
	OpWrite     OpKind = "write"
	OpSync      OpKind = "sync"
	OpTruncate  OpKind = "truncate"
)

// Mutates reports whether the operation can change what a crash would leave.
func (k OpKind) Mutates() bool {
	switch k {
	case OpOpen, OpList, OpRead, OpLock:
		return false
	}
	return true
}

// Op is one operation about to happen.
type Op struct {
	Kind OpKind
	Path string // of Rename: the new path
	N    int64  // counts all operations of this Fault, from 1
}

// Ignore is returned by a Decide function to have an operation not done but
// reported as done: a disk that lies.
var Ignore = errors.New("operation is not to be done")

// ShortWrite is returned by a Decide function to have only the first Bytes of
// a write done; the write then fails with Err.
type ShortWrite struct {
	Bytes int
	Err   error
}

func (s ShortWrite) Error() string {
	return fmt.Sprintf("write cut after %d bytes: %v", s.Bytes, s.Err)
}

func (s ShortWrite) Unwrap() error { return s.Err }

// Fault wraps a file system and asks Decide before every operation: nil lets
// it happen, Ignore leaves it out, any other error makes it fail. Decide may
// be called from several goroutines at once.
type Fault struct {
	FS     FS
	Decide func(op Op) error
	n      atomic.Int64
}

var _ FS = (*Fault)(nil)

// FailNth returns a Decide function that lets the n-th operation (from 1) that matches fail with err, once.
func FailNth(n int64, match func(op Op) bool, err error) func(op Op) error {
	var seen atomic.Int64
	return func(op Op) error {
		if match(op) && seen.Add(1) == n {
			return err
		}
		return nil
	}
}

// Count tells how many operations there have been.
func (f *Fault) Count() int64 { return f.n.Load() }

// ask reports whether the operation is to be done.
func (f *Fault) ask(kind OpKind, path string) (do bool, err error) {
	op := Op{Kind: kind, Path: path, N: f.n.Add(1)}
	if f.Decide == nil {
		return true, nil
	}
	err = f.Decide(op)
	if errors.Is(err, Ignore) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%s %s: %w", kind, path, err)
	}
	return true, nil
}

func (f *Fault) file(kind OpKind, path string, open func(string) (File, error)) (File, error) {
	if _, err := f.ask(kind, path); err != nil {
		return nil, err
	}
	file, err := open(path)
	if err != nil {
		return nil, err
	}
	return &faultFile{File: file, fs: f}, nil
}

func (f *Fault) Create(path string) (File, error) { return f.file(OpCreate, path, f.FS.Create) }

func (f *Fault) Open(path string) (File, error) { return f.file(OpOpen, path, f.FS.Open) }

func (f *Fault) do(kind OpKind, path string, op func() error) error {
	if do, err := f.ask(kind, path); !do {
		return err
	}
	return op()
}

func (f *Fault) Remove(path string) error {
	return f.do(OpRemove, path, func() error { return f.FS.Remove(path) })
}

func (f *Fault) RemoveAll(path string) error {
	return f.do(OpRemoveAll, path, func() error { return f.FS.RemoveAll(path) })
}

func (f *Fault) Rename(oldPath, newPath string) error {
	return f.do(OpRename, newPath, func() error { return f.FS.Rename(oldPath, newPath) })
}

func (f *Fault) MkdirAll(path string) error {
	return f.do(OpMkdirAll, path, func() error { return f.FS.MkdirAll(path) })
}

func (f *Fault) List(path string) ([]string, error) {
	if _, err := f.ask(OpList, path); err != nil {
		return nil, err
	}
	return f.FS.List(path)
}

func (f *Fault) SyncDir(path string) error {
	return f.do(OpSyncDir, path, func() error { return f.FS.SyncDir(path) })
}

func (f *Fault) Lock(path string) (io.Closer, error) {
	if _, err := f.ask(OpLock, path); err != nil {
		return nil, err
	}
	return f.FS.Lock(path)
}

func (f *Fault) FreeBytes(path string) (int64, error) { return f.FS.FreeBytes(path) }

type faultFile struct {
	File
	fs *Fault
}

func (f *faultFile) ReadAt(b []byte, off int64) (int, error) {
	if _, err := f.fs.ask(OpRead, f.Path()); err != nil {
		return 0, err
	}
	return f.File.ReadAt(b, off)
}

func (f *faultFile) WriteAt(b []byte, off int64) (int, error) {
	do, err := f.fs.ask(OpWrite, f.Path())
	if do {
		return f.File.WriteAt(b, off)
	}
	var short ShortWrite
	if errors.As(err, &short) {
		_, _ = f.File.WriteAt(b[:min(max(short.Bytes, 0), len(b))], off)
		return 0, err // as os.File does
	}
	if err == nil {
		return len(b), nil
	}
	return 0, err
}

func (f *faultFile) Sync() error {
	return f.fs.do(OpSync, f.Path(), f.File.Sync)
}

// WriteOut is not passed on: where syncs are left out, the disk is to have nothing to do.
func (f *faultFile) WriteOut(int64, int64) {}

func (f *faultFile) Truncate(size int64) error {
	return f.fs.do(OpTruncate, f.Path(), func() error { return f.File.Truncate(size) })
}
