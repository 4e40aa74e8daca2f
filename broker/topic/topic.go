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
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/millstream-io/millstream/broker/record"
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
	// ErrInvalidBatch: the batch breaks the format's rules (record count, offsets, attributes, control bit from a client).
	ErrInvalidBatch = errors.New("invalid record batch")
	// ErrMessageTooLarge: a batch is larger than max.message.bytes.
	ErrMessageTooLarge = errors.New("message too large")
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

// partitionMethods is what the packages above rely on.
type partitionMethods interface {
	Topic() string
	TopicID() ID
	Index() int32
	// Append writes one or more whole batches at the end of the log. Base offsets and epoch (and with LogAppendTime the timestamps) are
	// written into batches in place; the slice is not kept. Readers that wait are woken.
	Append(ctx context.Context, batches []byte, from Origin) (Appended, error)
	// WaitDurable returns once all records below offset survive a power cut.
	WaitDurable(ctx context.Context, offset int64) error
	// Read appends whole batches to dst. An offset equal to the readable end reads nothing; beyond it commitlog.ErrOffsetOutOfRange.
	Read(dst []byte, o ReadOptions) ([]byte, error)
	Offsets() Offsets
	// Notify calls for a non-blocking send on ch at every change of what can be read (append, deletion of the topic), until cancel.
	Notify(ch chan<- struct{}) (cancel func())
	OffsetForTimestamp(ts int64) (offset, timestamp int64, ok bool, err error)
	MaxTimestamp() (offset, timestamp int64, err error)
	DeleteRecords(before int64) (logStart int64, err error)
	LeaderEpoch() int32
	EpochEnd(epoch int32) (endEpoch int32, endOffset int64)
	SizeBytes() int64
}

// topicsMethods is what the packages above rely on.
type topicsMethods interface {
	// Create makes a topic durable and ready. partitions <= 0 means the default.
	Create(ctx context.Context, name string, partitions int, configs map[string]string) (Info, error)
	Delete(ctx context.Context, name string) error
	AddPartitions(ctx context.Context, name string, total int) error
	SetConfigs(ctx context.Context, name string, configs map[string]string) error
	Lookup(name string) (Info, bool)
	LookupID(id ID) (Info, bool)
	List() []Info // sorted by name
	Partition(name string, index int32) (*Partition, error)
	// Watch is told (non-blocking send) when topics are created, deleted or grow.
	Watch(ch chan<- struct{}) (cancel func())
	// ConfigValue returns the effective value of a config: the topic's, else the broker's default.
	ConfigValue(name, key string) (value string, fromTopic bool)
	Close(ctx context.Context) error
}

// Origin of the batch format, so that importers need not name the package for a check.
var _ = record.HeaderBytes
