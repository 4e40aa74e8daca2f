// Package topic holds the live topics of a broker: what exists, its
// partitions, what can be read of them and who waits for more. Bytes enter a
// log only through Partition.Append and leave only through Partition.Read;
// nobody below or here knows what a request, a consumer group or a guest is.
//
// Durability is commitlog's: Append returns with the bytes in the page cache
// and visible to readers; WaitDurable returns after the (shared) fsync.
//
// Everything is safe for concurrent use.
package topic

import (
	"errors"
	"log/slog"
	"time"

	"github.com/millstream-io/millstream/broker/commitlog"
	"github.com/millstream-io/millstream/broker/vfs"
)

// Errors of this package; commitlog's (offset out of range, corrupt, failed) pass through it.
var (
	ErrUnknownTopic     = errors.New("unknown topic")
	ErrUnknownPartition = errors.New("unknown partition")
	ErrExists           = errors.New("topic already exists")
	ErrInvalidName      = errors.New("invalid topic name")
	ErrInvalidConfig    = errors.New("invalid topic config")
	ErrInvalidPartition = errors.New("invalid number of partitions")
	// ErrTooManyPartitions says that all topics together have as many as they may (Options.MaxPartitions).
	ErrTooManyPartitions = errors.New("too many partitions")
	// ErrInvalidBatch: the batch breaks the format's rules (record count, offsets, attributes, control bit from a client).
	ErrInvalidBatch = errors.New("invalid record batch")
	// ErrMessageTooLarge: a batch is larger than max.message.bytes.
	ErrMessageTooLarge = errors.New("message too large")
	// ErrNoTransaction: a client sends a batch of a transaction that the coordinator knows nothing of.
	ErrNoTransaction = errors.New("batch belongs to no ongoing transaction")
	// ErrInvalidTimestamp: message.timestamp.before/after.max.ms is broken.
	ErrInvalidTimestamp = errors.New("invalid timestamp")
)

// ID is a topic id (a random UUID, never reused).
type ID [16]byte

// Info describes a topic. Configs holds only what was set for this topic.
type Info struct {
	ID         ID
	Name       string
	Partitions int
	Configs    map[string]string
	// Internal topics are the system's own (names beginning with two underscores).
	Internal bool
}

// Options open the topics of a broker.
type Options struct {
	FS     vfs.FS
	Dir    string
	Logger *slog.Logger
	// Defaults are the broker's values of topic configs, by Kafka's topic config names.
	Defaults map[string]string
	// DefaultPartitions is the partition count of a topic created without one.
	DefaultPartitions int
	// MaxPartitions bounds the partitions of all topics together; default 50,000.
	MaxPartitions int
	// MaxProducers bounds the producer ids that all partitions together remember; default 500,000
	// (about 100 MB). Beyond it partitions forget those that have been silent for longest.
	MaxProducers int
	// CleanInterval lies between two rounds of retention and compaction; default 15 s.
	CleanInterval time.Duration
	// Reserve is room on the disk for what makes room: retention, deletions; nil: none.
	Reserve *commitlog.Reserve
}

// Appended says where a batch went.
type Appended struct {
	BaseOffset    int64
	LastOffset    int64
	LogAppendTime time.Time // zero when the topic keeps the producer's timestamps
	LogStart      int64
}

// Origin tells Append who wrote a batch, and so what has to be checked.
type Origin int

const (
	// FromClient: nothing is trusted; everything is checked, records are counted.
	FromClient Origin = iota
	// FromTransaction: as FromClient, and the caller has seen to it that the batch
	// belongs to an ongoing transaction of which this partition is a part.
	FromTransaction
	// FromBroker: built by this process with package record; format checks are left out.
	FromBroker
)

// Offsets are the positions of a partition that readers care about.
type Offsets struct {
	LogStart      int64
	HighWatermark int64 // consumers read below it
	LastStable    int64 // read_committed consumers read below it
	LogEnd        int64
}

// ReadOptions say what to read.
type ReadOptions struct {
	Offset   int64
	MaxBytes int // soft: at least one batch is returned if there is any
	// Committed limits the read to the last stable offset instead of the high watermark.
	Committed bool
}
