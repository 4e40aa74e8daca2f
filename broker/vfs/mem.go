package vfs

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Mem is a file system in memory that knows what a crash would leave: see
// CrashClone. All its files share one lock, which is enough for tests.
type Mem struct {
	mu    sync.Mutex
	root  *memNode
	locks map[string]bool
	// limit is the capacity in bytes; negative means none.
	limit int64
	used  int64
}

var _ FS = (*Mem)(nil)

// NewMem returns an empty file system without a limit.
func NewMem() *Mem {
	return &Mem{root: newDir(), locks: map[string]bool{}, limit: -1}
}

// SetCapacity limits the bytes in all files; a write beyond it is cut short
// and fails with ErrNoSpace. Negative means no limit.
func (m *Mem) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.limit = bytes
}

// memNode is a file or a directory, in its present state and in the state
// that is sure to survive a crash; the changes between the two are kept in order.
type memNode struct {
	dir bool

	data    []byte // of a file
	durable []byte
	writes  []memWrite

	names        map[string]*memNode // of a directory
	durableNames map[string]*memNode
	changes      []nameChange
}

// memWrite is a write that was not synced, or (data nil) a change of the size to offset.
type memWrite struct {
	offset int64
	data   []byte
}

// nameChange is a change of a directory that was not synced: it removes old
// and sets name; either may be empty.
type nameChange struct {
	old, name string
	node      *memNode
}

func newDir() *memNode {
	return &memNode{dir: true, names: map[string]*memNode{}, durableNames: map[string]*memNode{}}
}

func (c nameChange) apply(names map[string]*memNode) {
	if c.old != "" {
		delete(names, c.old)
	}
	if c.name != "" {
		names[c.name] = c.node
	}
}

func (n *memNode) change(c nameChange) {
	c.apply(n.names)
	n.changes = append(n.changes, c)
}

func (w memWrite) apply(b []byte) []byte {
	end := w.offset + int64(len(w.data))
	if w.data == nil && end < int64(len(b)) {
		return b[:end]
	}
	if end > int64(len(b)) {
		b = append(b, make([]byte, end-int64(len(b)))...)
	}
	copy(b[w.offset:], w.data)
	return b
}

func notExist(op, path string) error { return &fs.PathError{Op: op, Path: path, Err: fs.ErrNotExist} }

// find returns the node of a path, or nil. The caller holds the lock.
func (m *Mem) find(path string) *memNode {
	n := m.root
	for _, part := range split(path) {
		if n == nil || !n.dir {
			return nil
		}
		n = n.names[part]
	}
	return n
}

func split(path string) []string {
	path = filepath.Clean(path)
	if path == "." {
		return nil
	}
	return strings.FieldsFunc(path, func(r rune) bool { return r == filepath.Separator })
}

// parent returns the directory of a path and the last part of it.
func (m *Mem) parent(op, path string) (*memNode, string, error) {
	d := m.find(filepath.Dir(path))
	if d == nil || !d.dir {
		return nil, "", notExist(op, path)
	}
	return d, filepath.Base(path), nil
}

func (m *Mem) Create(path string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, name, err := m.parent("create", path)
	if err != nil {
		return nil, err
	}
	n := d.names[name]
	switch {
	case n == nil:
		n = &memNode{}
		d.change(nameChange{name: name, node: n})
	case n.dir:
		return nil, &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	default:
		m.resize(n, 0)
	}
	return &memFile{fs: m, node: n, path: path}, nil
}

func (m *Mem) Open(path string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.find(path)
	if n == nil || n.dir {
		return nil, notExist("open", path)
	}
	return &memFile{fs: m, node: n, path: path}, nil
}

func (m *Mem) Remove(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.find(path)
	if n == nil {
		return notExist("remove", path)
	}
	if n.dir && len(n.names) > 0 {
		return &fs.PathError{Op: "remove", Path: path, Err: fmt.Errorf("directory not empty")}
	}
	return m.unlink(path)
}

func (m *Mem) RemoveAll(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.find(path) == nil {
		return nil
	}
	return m.unlink(path)
}

func (m *Mem) unlink(path string) error {
	d, name, err := m.parent("remove", path)
	if err != nil {
		return err
	}
	m.used -= d.names[name].bytes()
	d.change(nameChange{old: name})
	return nil
}

func (n *memNode) bytes() int64 {
	total := int64(len(n.data))
	for _, c := range n.names {
		total += c.bytes()
	}
	return total
}

func (m *Mem) Rename(oldPath, newPath string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, oldName, err := m.parent("rename", oldPath)
	if err != nil {
		return err
	}
	to, newName, err := m.parent("rename", newPath)
	if err != nil {
		return err
	}
	n := from.names[oldName]
	if n == nil {
		return notExist("rename", oldPath)
	}
	if replaced := to.names[newName]; replaced != nil && replaced != n {
		m.used -= replaced.bytes()
	}
	if from == to {
		if oldName != newName {
			from.change(nameChange{old: oldName, name: newName, node: n})
		}
		return nil
	}
	from.change(nameChange{old: oldName})
	to.change(nameChange{name: newName, node: n})
	return nil
}

func (m *Mem) MkdirAll(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.root
	for _, part := range split(path) {
		c := n.names[part]
		if c == nil {
			c = newDir()
			n.names[part] = c
			n.sync() // as OS does: no earlier change, such as the renaming of a directory that had this name, can undo it
		}
		if !c.dir {
			return &fs.PathError{Op: "mkdir", Path: path, Err: fs.ErrExist}
		}
		n = c
	}
	return nil
}

func (m *Mem) List(path string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.find(path)
	if n == nil || !n.dir {
		return nil, notExist("list", path)
	}
	return slices.Sorted(maps.Keys(n.names)), nil
}

func (m *Mem) SyncDir(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.find(path)
	if n == nil || !n.dir {
		return notExist("sync", path)
	}
	n.sync()
	return nil
}

// sync makes the names in a directory durable.
func (n *memNode) sync() {
	n.durableNames = maps.Clone(n.names)
	n.changes = nil
}

type memLock struct {
	fs   *Mem
	path string
	once sync.Once
}

func (l *memLock) Close() error {
	l.once.Do(func() {
		l.fs.mu.Lock()
		defer l.fs.mu.Unlock()
		delete(l.fs.locks, l.path)
	})
	return nil
}

func (m *Mem) Lock(path string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	path = filepath.Clean(path)
	if m.locks[path] {
		return nil, fmt.Errorf("%s: %w", path, ErrLocked)
	}
	m.locks[path] = true
	return &memLock{fs: m, path: path}, nil
}

func (m *Mem) FreeBytes(string) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.limit < 0 {
		return 1 << 50, nil
	}
	return max(m.limit-m.used, 0), nil
}

// resize changes the size of a file. The caller holds the lock.
func (m *Mem) resize(n *memNode, size int64) {
	w := memWrite{offset: size}
	m.used += size - int64(len(n.data))
	n.data = w.apply(n.data)
	n.writes = append(n.writes, w)
}
