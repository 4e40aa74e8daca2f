package topic

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/millstream-io/millstream/broker/vfs"
)

// A broker's directory holds one directory per partition, <topic>-<index>,
// and after a clean stop the mark.
const cleanMark = "clean-shutdown"

// strayTag marks the directory of a partition that was in the way of a new one and that nobody claims.
const strayTag = ".stray-"

// maxNameBytes is the longest topic name.
const maxNameBytes = 249

// ValidateName refuses what Kafka refuses: empty, ".", "..", over 249 characters, anything but [a-zA-Z0-9._-].
func ValidateName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: it is empty", ErrInvalidName)
	case name == "." || name == "..":
		return fmt.Errorf("%w: it cannot be %q", ErrInvalidName, name)
	case len(name) > maxNameBytes:
		return fmt.Errorf("%w: %d characters, at most %d", ErrInvalidName, len(name), maxNameBytes)
	}
	for _, c := range []byte(name) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return fmt.Errorf("%w: %q: only letters, digits, '.', '_' and '-' are allowed", ErrInvalidName, name)
		}
	}
	return nil
}

// layout is the data directory.
type layout struct {
	fs     vfs.FS
	dir    string
	logger *slog.Logger
}

func (l *layout) partition(topic string, index int32) string {
	return filepath.Join(l.dir, topic+"-"+strconv.Itoa(int(index)))
}

// takeCleanMark reports whether the last stop was clean, and removes the mark
// before anything is loaded: should loading be interrupted, the next start
// must not trust it.
func (l *layout) takeCleanMark() (bool, error) {
	if err := l.fs.MkdirAll(l.dir); err != nil {
		return false, fmt.Errorf("create data directory: %w", err)
	}
	path := filepath.Join(l.dir, cleanMark)
	if err := l.fs.Remove(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return false, fmt.Errorf("remove mark of clean shutdown: %w", err)
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return false, fmt.Errorf("remove mark of clean shutdown: %w", err)
	}
	return true, nil
}

func (l *layout) setCleanMark() error {
	f, err := l.fs.Create(filepath.Join(l.dir, cleanMark))
	if err != nil {
		return fmt.Errorf("mark clean shutdown: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("mark clean shutdown: %w", err)
	}
	return l.fs.SyncDir(l.dir)
}

// remove deletes the first partitions of a topic, durably.
func (l *layout) remove(topic string, partitions int) error {
	for i := range partitions {
		if err := l.fs.RemoveAll(l.partition(topic, int32(i))); err != nil {
			return fmt.Errorf("delete topic %q: %w", topic, err)
		}
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return fmt.Errorf("delete topic %q: %w", topic, err)
	}
	return nil
}

// setAside renames directories that are in the way of new partitions. Data that no topic claims is never deleted and never adopted.
func (l *layout) setAside(name string, first, end int) error {
	present, err := l.fs.List(l.dir)
	if err != nil {
		return fmt.Errorf("look for old data of topic %q: %w", name, err)
	}
	for i := first; i < end; i++ {
		dir := l.partition(name, int32(i))
		if _, found := slices.BinarySearch(present, filepath.Base(dir)); !found {
			continue
		}
		id := newID()
		aside := dir + strayTag + fmt.Sprintf("%x", id[:4])
		if err := l.fs.Rename(dir, aside); err != nil {
			return fmt.Errorf("set aside %s, which no topic claims: %w", dir, err)
		}
		l.logger.Warn("directory of a partition that no topic claims was set aside", "directory", dir, "now", aside)
	}
	return nil
}
