package commitlog

import (
	"errors"
	"fmt"
	"log/slog"
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
	size int64
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
	if r.size < reserveBytes {
		r.fill()
	}
	return r
}

// Lend calls f, and again with more room each time, as long as the disk is full and there is some left.
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
	if err == nil && r.size < reserveBytes {
		r.fill()
	}
	return err
}

// give makes the file shorter, and reports whether it could; mu is held.
func (r *Reserve) give() bool {
	if r.size == 0 {
		return false
	}
	f, err := r.fs.Open(r.path)
	if err == nil {
		err = errors.Join(f.Truncate(max(0, r.size-reservePiece)), f.Close())
	}
	if err != nil {
		r.logger.Warn("the reserve of a full disk cannot be used", "file", r.path, "error", err)
		r.size = 0
		return false
	}
	r.size = max(0, r.size-reservePiece)
	return true
}

// fill makes the file as long as it should be, where that leaves others much more; mu is held.
func (r *Reserve) fill() {
	free, err := r.fs.FreeBytes(filepath.Dir(r.path))
	if err == nil && free < 8*reserveBytes {
		return // later, then
	}
	if err == nil {
		err = r.write()
	}
	if err != nil && !errors.Is(err, vfs.ErrNoSpace) {
		r.logger.Warn("no room is reserved for a full disk", "error", fmt.Errorf("write %s: %w", r.path, err))
	}
}

func (r *Reserve) write() error {
	f, err := r.fs.Create(r.path)
	if err != nil {
		return err
	}
	r.size = 0
	if _, err = f.WriteAt(make([]byte, reserveBytes), 0); err != nil {
		return errors.Join(err, f.Truncate(0), f.Close())
	}
	r.size = reserveBytes
	return f.Close()
}
