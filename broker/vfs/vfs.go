// Package vfs is the only door of the log to the disk.
//
// Three file systems stand behind one interface: OS for production, Mem for
// tests (it can be cloned as a crash would leave it), and Fault, which wraps
// another one and makes chosen operations fail.
//
// Durability follows POSIX: the bytes of a file survive a crash only after
// Sync, its name only after SyncDir of its directory. A failed Sync means the
// bytes written since the last good one are lost; it is never retried.
package vfs

import (
	"errors"
	"io"
)

// ErrNoSpace is returned (wrapped) when the disk is full.
var ErrNoSpace = errors.New("no space left on device")

// ErrLocked is returned (wrapped) when somebody else holds a lock.
var ErrLocked = errors.New("locked by another process")

// FS is a file system. All methods are safe for concurrent use. Paths use the
// separator of the operating system.
type FS interface {
	// Create opens a new empty file for reading and writing; an existing one is truncated.
	Create(path string) (File, error)
	// Open opens an existing file for reading and writing; errors.Is(err, fs.ErrNotExist) if there is none.
	Open(path string) (File, error)
	// Remove removes a file or an empty directory.
	Remove(path string) error
	// RemoveAll removes a path and what is below it; none there is no error.
	RemoveAll(path string) error
	// Rename replaces newPath atomically; durable after SyncDir.
	Rename(oldPath, newPath string) error
	// MkdirAll creates a directory and its missing parents, and makes the names of those that it created durable, as SyncDir of their parents.
	MkdirAll(path string) error
	// List returns the names in a directory, sorted.
	List(path string) ([]string, error)
	// SyncDir makes creations, renames and removals in the directory durable.
	SyncDir(path string) error
	// Lock takes an exclusive lock for as long as the process lives or until
	// the closer is closed; a second Lock of the same path fails at once.
	Lock(path string) (io.Closer, error)
	// FreeBytes reports the space left for new data in the file system of path.
	FreeBytes(path string) (int64, error)
}

// File is an open file. ReadAt and WriteAt are safe for concurrent use. After an error of WriteAt a part may have been
// written, more than it says: os.File forgets what it wrote before the error.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Sync makes the file's bytes durable (fdatasync where it exists).
	Sync() error
	// WriteOut has the disk begin with n bytes from off on, so that the next Sync waits for less. It is a
	// hint: it promises nothing, and what goes wrong shows in that Sync.
	WriteOut(off, n int64)
	Size() (int64, error)
	Truncate(size int64) error
	Path() string
}
