package commitlog

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"

	"github.com/millstream-io/millstream/broker/vfs"
)

// What a reserve has, and how much of it is given up at a time.
const (
	reserveBytes = 256 << 10
	reservePiece = 64 << 10
)

// Reserve is room on the disk for what makes room. To move the start of a log (retention, DeleteRecords) a few KiB have to be
// written first, which a full disk does not have: it would stay full. So a file is kept that is cut
// shorter when nothing else helps, and filled up once there is room again. Nil is none. It is safe for concurrent use.
type Reserve struct {
	fs     vfs.FS
	path   string
	logger *slog.Logger

	mu   sync.Mutex
	size int64 // of the file, at least
	told bool  // that something is wrong with it
}

// NewReserve takes over the file at path, or makes it if the disk has room for it.
func NewReserve(fsys vfs.FS, path string, logger *slog.Logger) *Reserve {
	r := &Reserve{fs: fsys, path: path, logger: logger}
	r.mu.Lock()
	defer r.mu.Unlock()
	if f, err := fsys.Open(path); err == nil {
		r.size, _ = f.Size() // what cannot be told is filled up
		_ = f.Close()
	}
	r.fill()
	return r
}

// Lend calls f, and again with more room each time, as long as the disk is full and there is some left. f must not lend itself.
func (r *Reserve) Lend(f func() error) error {
	err := f()
	if r == nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for errors.Is(err, vfs.ErrNoSpace) && r.give() {
		err = f()
	}
	if err == nil {
		r.fill()
	}
	return err
}

// give makes the file shorter, and reports whether it could; mu is held.
func (r *Reserve) give() bool {
	if r.size == 0 {
		return false
	}
	left := max(0, r.size-reservePiece)
	f, err := r.fs.Open(r.path)
	if err == nil {
		err = errors.Join(f.Truncate(left), f.Close())
	}
	if err != nil {
		r.warn("the reserve of a full disk cannot be used", err)
		return false
	}
	r.size = left
	return true
}

// fill makes the file as long as it should be, where that leaves others much more; mu is held.
func (r *Reserve) fill() {
	if r.size >= reserveBytes {
		return
	}
	free, err := r.fs.FreeBytes(filepath.Dir(r.path))
	if err == nil && free < 8*reserveBytes {
		return // later, then
	}
	if err == nil {
		err = r.extend()
	}
	if err == nil {
		r.told = false
	} else if !errors.Is(err, vfs.ErrNoSpace) {
		r.warn("no room is reserved for a full disk", err)
	}
}

// extend writes what the file lacks; what it has stays its own when there is no room for more, as with a quota.
func (r *Reserve) extend() error {
	f, err := r.fs.Open(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = r.fs.Create(r.path)
	}
	if err != nil {
		return err
	}
	if r.size, err = f.Size(); err == nil && r.size < reserveBytes {
		b := make([]byte, reserveBytes-r.size)
		_, _ = rand.NewChaCha8([32]byte{}).Read(b) // a file system that compresses keeps no room for zeros
		if _, err = f.WriteAt(b, r.size); err != nil {
			err = errors.Join(err, f.Truncate(r.size))
		} else {
			r.size = reserveBytes
		}
	}
	return errors.Join(err, f.Close())
}

// warn logs what is wrong, once until it is right again: retention would repeat it for each partition.
func (r *Reserve) warn(what string, err error) {
	if !r.told {
		r.logger.Warn(what, "error", fmt.Errorf("%s: %w", r.path, err))
	}
	r.told = true
}
