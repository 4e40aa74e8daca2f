package vfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/gofrs/flock"
)

// OS is the file system of the operating system.
type OS struct{}

var _ FS = OS{}

// wrap adds ErrNoSpace to what the system says about a full disk or a used-up quota.
func wrap(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

func (OS) open(path string, flags int) (File, error) {
	f, err := os.OpenFile(path, flags, 0o640)
	if err != nil {
		return nil, wrap(err)
	}
	return &osFile{f: f}, nil
}

func (fs OS) Create(path string) (File, error) {
	return fs.open(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
}

func (fs OS) Open(path string) (File, error) { return fs.open(path, os.O_RDWR) }

func (OS) Remove(path string) error { return wrap(os.Remove(path)) }

func (OS) RemoveAll(path string) error { return wrap(os.RemoveAll(path)) }

func (OS) Rename(oldPath, newPath string) error { return wrap(os.Rename(oldPath, newPath)) }

func (fs OS) MkdirAll(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(path)
	if parent != path {
		if err := fs.MkdirAll(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, 0o750); err != nil && !errors.Is(err, os.ErrExist) {
		return wrap(err)
	}
	return fs.SyncDir(parent)
}

func (OS) List(path string) ([]string, error) {
	d, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func (OS) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return syncDir(d)
}

func (OS) Lock(path string) (io.Closer, error) {
	l := flock.New(path, flock.SetPermissions(0o640))
	ok, err := l.TryLock()
	if err != nil {
		return nil, wrap(err)
	}
	if !ok {
		return nil, fmt.Errorf("%s: %w", path, ErrLocked)
	}
	return l, nil
}

func (OS) FreeBytes(path string) (int64, error) { return freeBytes(path) }

type osFile struct{ f *os.File }

func (f *osFile) ReadAt(b []byte, off int64) (int, error) { return f.f.ReadAt(b, off) }

func (f *osFile) WriteAt(b []byte, off int64) (int, error) {
	n, err := f.f.WriteAt(b, off)
	if err != nil {
		err = wrap(err)
	}
	return n, err
}

func (f *osFile) Sync() error { return wrap(dataSync(f.f)) }

func (f *osFile) WriteOut(off, n int64) { writeOut(f.f, off, n) }

func (f *osFile) Size() (int64, error) {
	info, err := f.f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f *osFile) Truncate(size int64) error { return wrap(f.f.Truncate(size)) }

func (f *osFile) Close() error { return f.f.Close() }

func (f *osFile) Path() string { return f.f.Name() }
