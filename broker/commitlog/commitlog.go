// Package commitlog is one ordered, append-only log of record batches: a row
// of segments in one directory. It appends, reads, rolls, drops old segments
// and recovers; it knows nothing of topics, requests or groups.
//
// Durability: Append returns when the bytes are in the page cache; they
// survive the end of the process. They survive a power cut once
// WaitDurable has returned nil for their offset. Waiters share one fsync.
// After a failed fsync the log is failed for good (every later Append and
// WaitDurable returns the error): the bytes' fate is unknown and a retry
// would lie. After a full disk it is not: the partial write is cut off and
// the log goes on once there is space.
//
// Concurrency: any number of readers beside one appender at a time (Append
// takes the log's own lock). A reader waits neither for an append nor for an
// fsync; an append does not wait for an fsync. Close waits for the append and
// the fsync in progress, not for readers: files stay open until they are done.
//
// Recovery: Open looks at what was synced (see package segment) and scans
// what lies behind it. What a crash tore there is cut off; the rest is kept.
// Damage before it is ErrCorrupt with file and position, and Open fails: the
// log is not made to look shorter or emptier than it was.
package commitlog

import (
	"errors"
	"log/slog"
	"time"

	"github.com/millstream-io/millstream/broker/segment"
	"github.com/millstream-io/millstream/broker/vfs"
)

// Errors of a log; more detail is wrapped around them.
var (
	// ErrOffsetOutOfRange says that an offset lies before the start or after the end of the log.
	ErrOffsetOutOfRange = errors.New("offset out of range")
	// ErrCorrupt says that stored bytes are damaged; the text names file and position.
	ErrCorrupt = segment.ErrCorrupt
	// ErrFailed says that an fsync failed earlier and the log takes no more writes.
	ErrFailed = errors.New("log has failed")
	// ErrClosed says that the log was closed.
	ErrClosed = errors.New("log is closed")
)

// Config are the settings of a log that may change while it is open. Zero
// means the default of Kafka for sizes and times, and -1 "no limit".
type Config struct {
	SegmentBytes       int64         // segment.bytes; default 1 GiB
	SegmentAge         time.Duration // segment.ms; default 7 days
	IndexIntervalBytes int           // index.interval.bytes; default 4096
	RetentionBytes     int64         // retention.bytes; default -1
	RetentionAge       time.Duration // retention.ms; default 7 days
	DeleteDelay        time.Duration // file.delete.delay.ms; default 60 s
	Compact            bool          // cleanup.policy contains "compact"
	Delete             bool          // cleanup.policy contains "delete"
	TombstoneAge       time.Duration // delete.retention.ms; default 24 h
	MinCompactionLag   time.Duration // min.compaction.lag.ms
	MaxCompactionLag   time.Duration // max.compaction.lag.ms; default no limit
	MinDirtyRatio      float64       // min.cleanable.dirty.ratio; default 0.5
}

// Options open a log.
type Options struct {
	FS     vfs.FS
	Dir    string
	Config Config
	Logger *slog.Logger
	// Clean says that the last stop was clean. The log knows by itself what was
	// synced and scans only what was not; with Clean there should be nothing to
	// scan, and it is logged if there is.
	Clean bool
	// Reserve is what moving the start of the log may use when the disk is full; nil: nothing.
	Reserve *Reserve
}

// Appended says where a batch went.
type Appended struct {
	BaseOffset int64
	LastOffset int64
}

// Defaults of Config, as in Kafka.
const (
	defaultSegmentBytes  = 1 << 30
	defaultSegmentAge    = 7 * 24 * time.Hour
	defaultIndexInterval = 4096
	defaultRetentionAge  = 7 * 24 * time.Hour
	defaultDeleteDelay   = time.Minute
	defaultTombstoneAge  = 24 * time.Hour
	defaultDirtyRatio    = 0.5
)

// withDefaults returns c with its zero values replaced.
func (c Config) withDefaults() Config {
	or := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	or(&c.SegmentAge, defaultSegmentAge)
	or(&c.RetentionAge, defaultRetentionAge)
	or(&c.DeleteDelay, defaultDeleteDelay)
	or(&c.TombstoneAge, defaultTombstoneAge)
	if c.SegmentBytes == 0 {
		c.SegmentBytes = defaultSegmentBytes
	}
	if c.RetentionBytes == 0 {
		c.RetentionBytes = -1
	}
	if c.IndexIntervalBytes == 0 {
		c.IndexIntervalBytes = defaultIndexInterval
	}
	if c.MinDirtyRatio == 0 {
		c.MinDirtyRatio = defaultDirtyRatio
	}
	return c
}

// Bounds are the offsets of a log.
type Bounds struct {
	Start int64 // first offset that can be read
	End   int64 // offset of the next record
}
