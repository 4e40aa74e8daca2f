package vfs

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
)

type memFile struct {
	fs     *Mem
	node   *memNode
	path   string
	closed bool // guarded by fs.mu
}

func (f *memFile) lock(op string) error {
	f.fs.mu.Lock()
	if f.closed {
		f.fs.mu.Unlock()
		return &fs.PathError{Op: op, Path: f.path, Err: fs.ErrClosed}
	}
	return nil
}

func (f *memFile) ReadAt(b []byte, off int64) (int, error) {
	if err := f.lock("read"); err != nil {
		return 0, err
	}
	defer f.fs.mu.Unlock()
	if off < 0 {
		return 0, &fs.PathError{Op: "read", Path: f.path, Err: fs.ErrInvalid}
	}
	if off >= int64(len(f.node.data)) {
		if len(b) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	n := copy(b, f.node.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.lock("write"); err != nil {
		return 0, err
	}
	defer f.fs.mu.Unlock()
	if off < 0 {
		return 0, &fs.PathError{Op: "write", Path: f.path, Err: fs.ErrInvalid}
	}
	if len(b) == 0 {
		return 0, nil
	}
	n := len(b)
	var err error
	if m := f.fs; m.limit >= 0 {
		grows := max(off+int64(n)-int64(len(f.node.data)), 0)
		if missing := m.used + grows - m.limit; missing > 0 && grows > 0 {
			n = max(n-int(min(missing, grows)), 0)
			err = fmt.Errorf("write %s: %w", f.path, ErrNoSpace)
		}
	}
	if n > 0 {
		w := memWrite{offset: off, data: bytes.Clone(b[:n])}
		before := len(f.node.data)
		f.node.data = w.apply(f.node.data)
		f.fs.used += int64(len(f.node.data) - before)
		f.node.writes = append(f.node.writes, w)
	}
	if err != nil {
		return 0, err // as os.File does
	}
	return n, nil
}

func (f *memFile) Sync() error {
	if err := f.lock("sync"); err != nil {
		return err
	}
	defer f.fs.mu.Unlock()
	for _, w := range f.node.writes {
		f.node.durable = w.apply(f.node.durable)
	}
	f.node.writes = nil
	return nil
}

func (f *memFile) WriteOut(int64, int64) {}

func (f *memFile) Size() (int64, error) {
	if err := f.lock("stat"); err != nil {
		return 0, err
	}
	defer f.fs.mu.Unlock()
	return int64(len(f.node.data)), nil
}

func (f *memFile) Truncate(size int64) error {
	if err := f.lock("truncate"); err != nil {
		return err
	}
	defer f.fs.mu.Unlock()
	if size < 0 {
		return &fs.PathError{Op: "truncate", Path: f.path, Err: fs.ErrInvalid}
	}
	f.fs.resize(f.node, size)
	return nil
}

func (f *memFile) Close() error {
	if err := f.lock("close"); err != nil {
		return err
	}
	defer f.fs.mu.Unlock()
	f.closed = true
	return nil
}

func (f *memFile) Path() string { return f.path }
