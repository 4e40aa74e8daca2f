package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// ErrNotOpened is returned (wrapped) when a file that a Pool had closed for the
// time being could not be opened again: the operation was not begun.
var ErrNotOpened = errors.New("file could not be opened again")

// Pool wraps a file system and holds at most about Limit of its files open. A
// file that is not used is closed and opened again when it is needed; nobody
// notices but the operating system. A file with writes that were not synced
// stays open, so that a failing write-back is told to the Sync that asks for
// it; a file marked Expendable does not. One whose name is taken away while it
// is in use stays open, too: it could not be found again. Those two kinds may
// exceed the limit.
type Pool struct {
	under FS
	limit int

	// changing is held by who changes names: one at a time, since it locks several files.
	changing sync.Mutex

	// names is held for reading while a name is looked up and for writing while names change.
	names sync.RWMutex

	mu   sync.Mutex
	dirs map[string]map[*pooledFile]struct{} // files in use, by their directory
	ring []*pooledFile                       // those that are open
	hand int
}

var _ FS = (*Pool)(nil)

// NewPool returns a pool over under with room for limit open files, at least one.
func NewPool(under FS, limit int) *Pool {
	return &Pool{under: under, limit: max(limit, 1), dirs: map[string]map[*pooledFile]struct{}{}}
}

// MarkExpendable says that unsynced writes to f may be lost without anybody being told.
func MarkExpendable(f File) {
	if p, ok := f.(*pooledFile); ok {
		p.expendable.Store(true)
	}
}

// OpenFiles is how many files are open at present.
func (p *Pool) OpenFiles() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.ring)
}

// pooledFile is a file in use. Locks are taken in the order Pool.changing, mu, Pool.names, Pool.mu.
type pooledFile struct {
	pool *Pool
	path string // guarded by Pool.names

	mu     sync.RWMutex // held for reading by who uses file
	file   File         // nil: closed for the time being
	closed bool         // by who opened it

	slot       int         // in the ring, guarded by Pool.mu
	used       atomic.Bool // since the hand came by last
	dirty      atomic.Bool // written since the last good Sync
	expendable atomic.Bool
	nameless   atomic.Bool // cannot be opened again
}

func (f *pooledFile) mustStay() bool {
	return f.nameless.Load() || f.dirty.Load() && !f.expendable.Load()
}

func (p *Pool) Create(path string) (File, error) { return p.take(path, p.under.Create) }

func (p *Pool) Open(path string) (File, error) { return p.take(path, p.under.Open) }

func (p *Pool) take(path string, open func(string) (File, error)) (File, error) {
	p.names.RLock()
	defer p.names.RUnlock()
	file, err := open(path)
	if err != nil {
		return nil, err
	}
	f := &pooledFile{pool: p, path: path, file: file}
	p.mu.Lock()
	defer p.mu.Unlock()
	dir := filepath.Dir(path)
	if p.dirs[dir] == nil {
		p.dirs[dir] = map[*pooledFile]struct{}{}
	}
	p.dirs[dir][f] = struct{}{}
	p.enter(f)
	return f, nil
}

// maxEvictionTries bounds the search for a file to close when most of them have to stay open.
const maxEvictionTries = 256

// enter puts a file that was opened into the ring; others leave it for that. The caller holds mu.
func (p *Pool) enter(f *pooledFile) {
	for tries := min(2*len(p.ring), maxEvictionTries); tries > 0 && len(p.ring) >= p.limit; tries-- {
		p.hand = (p.hand + 1) % len(p.ring)
		v := p.ring[p.hand]
		if v.used.Swap(false) || v.mustStay() || !v.mu.TryLock() {
			continue
		}
		if !v.mustStay() {
			_ = v.file.Close() // nothing is lost with it: see mustStay
			v.file = nil
			p.leave(v)
		}
		v.mu.Unlock()
	}
	f.slot = len(p.ring)
	f.used.Store(true)
	p.ring = append(p.ring, f)
}

// leave takes a file out of the ring. The caller holds mu.
func (p *Pool) leave(f *pooledFile) {
	last := len(p.ring) - 1
	p.ring[f.slot] = p.ring[last]
	p.ring[f.slot].slot = f.slot
	p.ring[last] = nil
	p.ring = p.ring[:last]
	p.hand = min(p.hand, max(last-1, 0))
}

// reopen opens the file if it is closed for the time being. The caller holds f.mu and names.
func (f *pooledFile) reopen() error {
	if f.file != nil || f.closed {
		return nil
	}
	file, err := f.pool.under.Open(f.path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotOpened, err)
	}
	f.file = file
	f.pool.mu.Lock()
	defer f.pool.mu.Unlock()
	f.pool.enter(f)
	return nil
}

// use calls op with the open file.
func (f *pooledFile) use(op func(File) error) error {
	file, err := f.hold()
	if err != nil {
		return err
	}
	defer f.mu.RUnlock()
	return op(file)
}

// hold returns the open file, which stays so until mu.RUnlock.
func (f *pooledFile) hold() (File, error) {
	for {
		f.mu.RLock()
		if f.file != nil {
			if !f.used.Load() {
				f.used.Store(true)
			}
			return f.file, nil
		}
		f.mu.RUnlock()
		if err := f.wake(); err != nil {
			return nil, err
		}
	}
}

func (f *pooledFile) wake() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pool.names.RLock()
	defer f.pool.names.RUnlock()
	if f.closed {
		return fmt.Errorf("%s: %w", f.path, fs.ErrClosed)
	}
	return f.reopen()
}

func (f *pooledFile) ReadAt(b []byte, off int64) (int, error) {
	file, err := f.hold()
	if err != nil {
		return 0, err
	}
	defer f.mu.RUnlock()
	return file.ReadAt(b, off)
}

func (f *pooledFile) WriteAt(b []byte, off int64) (int, error) {
	file, err := f.hold()
	if err != nil {
		return 0, err
	}
	defer f.mu.RUnlock()
	f.dirty.Store(true)
	return file.WriteAt(b, off)
}

func (f *pooledFile) Sync() error {
	return f.use(func(file File) error {
		f.dirty.Store(false) // before: what is written meanwhile counts as not synced
		err := file.Sync()
		if err != nil {
			f.dirty.Store(true)
		}
		return err
	})
}

func (f *pooledFile) WriteOut(off, n int64) {
	_ = f.use(func(file File) error {
		file.WriteOut(off, n)
		return nil
	})
}

func (f *pooledFile) Truncate(size int64) error {
	return f.use(func(file File) error {
		f.dirty.Store(true)
		return file.Truncate(size)
	})
}

func (f *pooledFile) Size() (size int64, err error) {
	err = f.use(func(file File) error {
		size, err = file.Size()
		return err
	})
	return size, err
}

func (f *pooledFile) Path() string {
	f.pool.names.RLock()
	defer f.pool.names.RUnlock()
	return f.path
}

func (f *pooledFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pool.names.RLock()
	defer f.pool.names.RUnlock()
	f.pool.mu.Lock()
	defer f.pool.mu.Unlock()
	if f.closed {
		return fmt.Errorf("close %s: %w", f.path, fs.ErrClosed)
	}
	f.closed = true
	f.pool.drop(f)
	if f.file == nil {
		return nil
	}
	f.pool.leave(f)
	file := f.file
	f.file = nil
	return file.Close()
}

// drop forgets a file that is no longer in use or has no name. The caller holds mu.
func (p *Pool) drop(f *pooledFile) {
	dir := filepath.Dir(f.path)
	delete(p.dirs[dir], f)
	if len(p.dirs[dir]) == 0 {
		delete(p.dirs, dir)
	}
}

// inUse returns the files in use with this path, or below it.
func (p *Pool) inUse(path string) []*pooledFile {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []*pooledFile
	for f := range p.dirs[filepath.Dir(path)] {
		if f.path == path {
			out = append(out, f)
		}
	}
	for f := range p.dirs[path] {
		out = append(out, f)
	}
	return out
}

// change does what changes the name of from (to another one, unless to is
// empty). Files in use that lose their name are opened before.
func (p *Pool) change(from, to string, op func() error) error {
	p.changing.Lock()
	defer p.changing.Unlock()
	losing, err := p.pin(from, to)
	defer func() {
		for _, f := range losing {
			f.mu.Unlock()
		}
	}()
	if err != nil {
		return err
	}
	p.names.Lock()
	defer p.names.Unlock()
	moving := p.inUse(from)
	if err := op(); err != nil {
		return err
	}
	for _, f := range losing {
		f.nameless.Store(true)
	}
	if to == "" {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range moving {
		if f.nameless.Load() {
			continue
		}
		p.drop(f)
		f.path = to + f.path[len(from):]
		dir := filepath.Dir(f.path)
		if p.dirs[dir] == nil {
			p.dirs[dir] = map[*pooledFile]struct{}{}
		}
		p.dirs[dir][f] = struct{}{}
	}
	return nil
}

// pin locks and opens the files that lose their name when from is removed (to is empty), or renamed to to.
func (p *Pool) pin(from, to string) (locked []*pooledFile, err error) {
	p.names.RLock()
	path := from
	if to != "" {
		path = to
	}
	files := p.inUse(path)
	p.names.RUnlock()
	for _, f := range files {
		f.mu.Lock()
		locked = append(locked, f)
		if f.closed {
			continue
		}
		p.names.RLock()
		err := f.reopen()
		p.names.RUnlock()
		if err != nil {
			return locked, err
		}
	}
	return locked, nil
}

func (p *Pool) Remove(path string) error {
	return p.change(path, "", func() error { return p.under.Remove(path) })
}

func (p *Pool) RemoveAll(path string) error {
	return p.change(path, "", func() error { return p.under.RemoveAll(path) })
}

func (p *Pool) Rename(oldPath, newPath string) error {
	return p.change(oldPath, newPath, func() error { return p.under.Rename(oldPath, newPath) })
}

func (p *Pool) MkdirAll(path string) error { return p.under.MkdirAll(path) }

func (p *Pool) List(path string) ([]string, error) { return p.under.List(path) }

func (p *Pool) SyncDir(path string) error { return p.under.SyncDir(path) }

func (p *Pool) Lock(path string) (io.Closer, error) { return p.under.Lock(path) }

func (p *Pool) FreeBytes(path string) (int64, error) { return p.under.FreeBytes(path) }
