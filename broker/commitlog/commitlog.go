// Package commitlog is one ordered, append-only log of record batches: a row
// of segments in one directory. It appends, reads, rolls, truncates and
// recovers; it knows nothing of topics, requests or groups.
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
// takes the log's own lock). Close waits for nobody.
package commitlog

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/millstream-io/millstream/broker/vfs"
)

// Errors of a log; more detail is wrapped around them.
var (
	// ErrOffsetOutOfRange says that an offset lies before the start or after the end of the log.
	ErrOffsetOutOfRange = errors.New("offset out of range")
	// ErrCorrupt says that stored bytes are damaged; the text names file and position.
	ErrCorrupt = errors.New("log is corrupt")
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
	MinDirtyRatio      float64       // min.cleanable.dirty.ratio; default 0.5
}

// Options open a log.
type Options struct {
	FS     vfs.FS
	Dir    string
	Config Config
	Logger *slog.Logger
	// Clean says that the last stop was clean, so that the tail need not be scanned.
	Clean bool
}

// Appended says where a batch went.
type Appended struct {
	BaseOffset int64
	LastOffset int64
}

// Bounds are the offsets of a log.
type Bounds struct {
	Start int64 // first offset that can be read
	End   int64 // offset of the next record
}

// The methods of Log that the packages above rely on:
//
//	Open(ctx, Options) (*Log, error)
//	(*Log) Append(batches []byte, leaderEpoch int32) (Appended, error)
//	    one or more whole, already checked batches; base offset and leader
//	    epoch are written into them in place (both lie outside the checksum).
//	(*Log) WaitDurable(ctx, offset int64) error
//	    returns when every record below offset survives a power cut.
//	(*Log) Read(dst []byte, offset int64, maxBytes int, upTo int64) ([]byte, error)
//	    appends whole batches to dst, from the one that holds offset, all of
//	    them below upTo; at least one batch if there is any, else as many as
//	    fit in maxBytes. No allocation when dst has room.
//	(*Log) Bounds() Bounds
//	(*Log) OffsetForTimestamp(ts int64) (offset, timestamp int64, ok bool, err error)
//	(*Log) MaxTimestamp() (offset, timestamp int64, err error)
//	(*Log) AdvanceStart(offset int64) error      (DeleteRecords; durable)
//	(*Log) EpochEnd(epoch int32) (endEpoch int32, endOffset int64)
//	(*Log) LastEpoch() int32
//	(*Log) SetConfig(Config)
//	(*Log) SizeBytes() int64
//	(*Log) Close(ctx) error     syncs everything
//	(*Log) Remove() error       closes and deletes the directory
type logMethods interface {
	Append(batches []byte, leaderEpoch int32) (Appended, error)
	WaitDurable(ctx context.Context, offset int64) error
	Read(dst []byte, offset int64, maxBytes int, upTo int64) ([]byte, error)
	Bounds() Bounds
	OffsetForTimestamp(ts int64) (offset, timestamp int64, ok bool, err error)
	MaxTimestamp() (offset, timestamp int64, err error)
	AdvanceStart(offset int64) error
	EpochEnd(epoch int32) (endEpoch int32, endOffset int64)
	LastEpoch() int32
	SetConfig(c Config)
	SizeBytes() int64
	Close(ctx context.Context) error
	Remove() error
}
