package commitlog

import (
	"context"
	"errors"
	"fmt"

	"github.com/millstream-io/millstream/broker/segment"
	"github.com/millstream-io/millstream/broker/vfs"
)

// WaitDurable returns when every record before offset survives a power cut.
// Whoever comes first syncs for all that have been appended by then; those
// who come meanwhile wait for it, and one of them syncs again if it has to.
//
// When ctx ends, a waiter gives up with its error; the one who syncs does not,
// for a sync cannot be called back. After a failed fsync the error is
// ErrFailed, now and later: nobody can know what reached the disk.
func (l *Log) WaitDurable(ctx context.Context, offset int64) error {
	if end := l.end.Load(); offset > end {
		return fmt.Errorf("%w: %s: offset %d, the log ends at %d", ErrOffsetOutOfRange, l.o.Dir, offset, end)
	}
	for l.durable.Load() < offset {
		if err := l.syncTurn(ctx); err != nil {
			return err
		}
	}
	return nil
}

// WriteOut has the disk begin with what has been appended, ahead of a WaitDurable.
// It makes nothing durable, but costs appends beside it less than a sync.
func WriteOut(l *Log) {
	active := l.segments.Load().active()
	if active.Acquire() {
		segment.WriteOut(active)
		active.Release()
	}
}

// syncTurn syncs, or waits until whoever is syncing is done.
func (l *Log) syncTurn(ctx context.Context) error {
	if err := l.health.usable(); err != nil {
		return err
	}
	l.syncMu.Lock()
	if busy := l.syncing; busy != nil {
		l.syncMu.Unlock()
		select {
		case <-busy:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	done := make(chan struct{})
	l.syncing = done
	l.syncMu.Unlock()
	err := l.sync()
	l.syncMu.Lock()
	l.syncing = nil
	l.syncMu.Unlock()
	close(done)
	return err
}

// sync makes durable what has been appended so far, and completes the indexes
// of sealed segments. One goroutine at a time is here.
func (l *Log) sync() error {
	end := l.end.Load() // before the list: everything before it is in there
	list := *l.segments.Load()
	if err := l.syncDir(); err != nil {
		return err
	}
	first := len(list) - 1
	for first > 0 && list[first-1].BaseOffset() >= l.syncedBase.Load() {
		first--
	}
	for _, s := range list[first:] {
		if !s.Acquire() {
			continue // retention dropped it
		}
		err := s.Sync()
		s.Release()
		if errors.Is(err, vfs.ErrNotOpened) {
			return err // nothing was synced, so nothing has failed
		}
		if err != nil {
			return l.health.fail(err)
		}
	}
	l.syncedBase.Store(list.active().BaseOffset())
	l.durable.Store(end)
	return nil
}

// syncDir makes the names of new segments durable. It comes before their
// content: a segment that says it was synced proves that the ones before it are there.
func (l *Log) syncDir() error {
	if l.dirDirty.Swap(false) {
		if err := l.o.FS.SyncDir(l.o.Dir); err != nil {
			return l.health.fail(err)
		}
	}
	return nil
}
