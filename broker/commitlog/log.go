package commitlog

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millstream-io/millstream/broker/segment"
)

// Log is one ordered log of batches.
//
// Locks are taken in this order: appendMu, metaMu, listMu. Readers take none
// of them: they load the end, then the list of segments, in which everything
// before that end is found, because Append publishes in the opposite order.
type Log struct {
	o      Options
	config atomic.Pointer[Config]

	segments atomic.Pointer[segmentList] // ordered, never empty; the last one is appended to; the slice is never changed
	start    atomic.Int64
	end      atomic.Int64
	durable  atomic.Int64 // everything before it was synced

	// appendMu is held by whoever appends or rolls.
	appendMu  sync.Mutex
	activeAge activeAge
	rollBegun bool // the next append has to roll: see roll

	// metaMu is held by whoever changes the checkpoint or takes segments away.
	metaMu sync.Mutex
	epochs epochList
	doomed []doomed
	// replacing is what takes the place of segments, until all of that is durable.
	replacing *replacement

	// listMu is held for the moment of replacing the list of segments.
	listMu sync.Mutex

	syncMu     sync.Mutex
	syncing    chan struct{} // closed when the sync in progress is over
	dirDirty   atomic.Bool   // a name in the directory is not durable yet
	syncedBase atomic.Int64  // segments with a smaller base need no sync any more

	health health
	places places
}

// doomed is a segment that was taken out of the log; its files are removed after the delay.
type doomed struct {
	base  int64
	since time.Time
}

// Bounds returns the present offsets of the log.
func (l *Log) Bounds() Bounds {
	start := l.start.Load() // first: the start never passes an end that was loaded later
	return Bounds{Start: start, End: l.end.Load()}
}

// Config returns the settings in force, with defaults filled in.
func (l *Log) Config() Config { return *l.config.Load() }

// SetConfig changes the settings. Segments that exist keep their index interval.
func (l *Log) SetConfig(c Config) {
	c = c.withDefaults()
	l.config.Store(&c)
}

// Dir is the directory of the log.
func (l *Log) Dir() string { return l.o.Dir }

// SizeBytes is the size of all segments' log files.
func (l *Log) SizeBytes() int64 {
	var n int64
	for _, s := range *l.segments.Load() {
		n += s.SizeBytes()
	}
	return n
}

func (l *Log) segmentOptions() segment.Options {
	c := l.config.Load()
	return segment.Options{FS: l.o.FS, Dir: l.o.Dir, IndexIntervalBytes: c.IndexIntervalBytes, Logger: l.o.Logger, Sparse: c.Compact,
		CheckEpoch: l.epochs.check}
}

// replaceList stores a changed copy of the list of segments.
func (l *Log) replaceList(change func(list segmentList) segmentList) {
	l.listMu.Lock()
	defer l.listMu.Unlock()
	list := change(slices.Clone(*l.segments.Load()))
	l.segments.Store(&list)
}

// Close syncs everything and closes the files once nobody reads them. A
// failed log is closed without a sync; its error is returned.
func (l *Log) Close(ctx context.Context) error {
	l.appendMu.Lock()
	defer l.appendMu.Unlock()
	if l.health.closed.Load() {
		return nil
	}
	err := l.WaitDurable(ctx, l.end.Load())
	if err == nil {
		err = l.syncTurn(ctx) // all is durable, but the last segments may have to be completed
	}
	if err == nil {
		err = finishReplacement(l)
	}
	l.shut()
	return err
}

func (l *Log) shut() {
	l.metaMu.Lock()
	defer l.metaMu.Unlock()
	if l.health.closed.Swap(true) {
		return
	}
	for _, s := range *l.segments.Load() {
		s.Close()
	}
}

// Remove closes the log and deletes its directory, durably.
func (l *Log) Remove() error {
	l.appendMu.Lock()
	defer l.appendMu.Unlock()
	l.shut()
	return errors.Join(l.o.FS.RemoveAll(l.o.Dir), l.o.FS.SyncDir(filepath.Dir(l.o.Dir)))
}
