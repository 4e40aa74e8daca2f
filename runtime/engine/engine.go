// Package engine is the runtime's port to a log: how a worker joins the
// consumer group of its deployment, reads the partitions it is given, writes
// outputs and commits. Two engines implement it: embedded (the broker in this
// process) and kafka (any cluster, over the network); package enginetest holds
// the contract as tests that both must pass.
//
// A Session owns one input partition for as long as it is assigned. Its life
// is a loop of
//
//	Poll → Begin → Produce… → Commit   (or Abort, and Poll again from the last commit)
//
// With ExactlyOnce a batch is a transaction: outputs and input offset become visible
// and durable together or not at all, whatever is killed, cut or paused in between, and a
// session that has lost its partition without knowing (a zombie) can commit nothing.
// With AtLeastOnce the offset follows the outputs.
//
// Positions are offsets of the next record to read. A committed offset never
// becomes durable before the inputs it stands behind and the outputs it stands
// for: a power cut can lead to work being repeated, never to records being passed
// over. Sessions and the engine itself read committed records only.
//
// A Session is used by one goroutine, except for Done and Close. Members and
// engines are safe for concurrent use. What the calls return in error wraps one of
// this package's errors where a worker has to tell it apart, or is the context's.
package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millstream-io/millstream/sdk/abi"
)

// Errors a worker must tell apart.
var (
	// ErrFenced: the session's partition belongs to another member now; stop, commit nothing.
	ErrFenced = errors.New("fenced: the partition is assigned to another member")
	// ErrAborted: the open batch's transaction was aborted behind the session's back: it took longer than the
	// log lets transactions be open, or the log lost it. Abort, and do the batch again.
	ErrAborted = errors.New("the transaction was aborted")
	// ErrUnknownTopic: an input or output topic does not exist (any more).
	ErrUnknownTopic = errors.New("unknown topic")
	// ErrStorage: the log refused the write (disk full, failed); the batch may be tried again later.
	ErrStorage = errors.New("the log refused the write")
	// ErrNotAllowed: the log belongs to a cluster that does not let this user do it. Trying again helps once somebody
	// has given the right.
	ErrNotAllowed = errors.New("the user of this connection lacks a right on the cluster (kafka-acls --add)")
	// ErrTooLarge: an output record is larger than the topic's max.message.bytes.
	ErrTooLarge = errors.New("output record is too large for its topic")
	// ErrInvalidRecord: an output record breaks a rule of its topic, such as having no key in a compacted one.
	ErrInvalidRecord = errors.New("output record is not valid for its topic")
	// ErrCorrupt: the input's stored bytes are damaged; the text names partition and offset. Nothing was skipped.
	ErrCorrupt = errors.New("the log is damaged")
	// ErrGroupActive: the group has members, which know their positions better.
	ErrGroupActive = errors.New("the group has members")
	// ErrClosed: the member has left.
	ErrClosed = errors.New("engine is closed")
)

// OutputError says which output record a topic cannot take. It wraps
// ErrTooLarge, ErrInvalidRecord or ErrUnknownTopic. The open batch holds what was produced
// before; Abort drops it.
type OutputError struct {
	Input  int // index of the input record in its batch, as abi.Output.Input; -1 for ProduceTo
	Topic  string
	Detail string
	Err    error
}

// Error implements error.
func (e *OutputError) Error() string {
	return fmt.Sprintf("%v: topic %q: %s", e.Err, e.Topic, e.Detail)
}

// Unwrap returns the reason as one of this package's errors.
func (e *OutputError) Unwrap() error { return e.Err }

// Positions are positions by partition of one topic.
type Positions map[int32]int64

// TopicPartition names a partition.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// StartKind says where a group without a committed offset begins.
type StartKind int

// The kinds of start.
const (
	StartLatest StartKind = iota
	StartEarliest
	StartOffset
	StartTimestamp
)

// Start is the start position of a partition without a committed offset.
type Start struct {
	Kind      StartKind
	Offset    int64     // StartOffset; clamped to what the log has
	Timestamp time.Time // StartTimestamp: first record at or after it
}

// TopicStart is where a group begins in the partitions of a topic that it has never committed, as it was found once.
type TopicStart struct {
	// ID of the topic then: one that is made anew has another. Empty where the log has no ids.
	ID string
	// Offsets by partition.
	Offsets []int64
}

// Of is where a group with the start position as given begins in a partition of the topic that has the id now: at the offset
// that was found, or by what it returns instead. All of a partition that came since, or of a topic
// that was made anew, is new to the group: unless it looks for a time, it reads that from the beginning.
func (t TopicStart) Of(partition int32, id string, start Start) Start {
	switch {
	case id == t.ID && partition >= 0 && int(partition) < len(t.Offsets):
		return Start{Kind: StartOffset, Offset: t.Offsets[partition]}
	case start.Kind == StartTimestamp:
		return start
	}
	return Start{Kind: StartEarliest}
}

// TransactionalID is the transactional id under which the owner of a partition
// writes. It follows from the partition, not from the member, so that a new owner fences the old
// one and ends at once what that one left open. Topic names hold no slash, so no two partitions share one.
func TransactionalID(group string, tp TopicPartition) string {
	return fmt.Sprintf("millstream-%s/%s-%d", group, tp.Topic, tp.Partition)
}

// UpdateID is the transactional id under which Engine.Update writes to a topic.
func UpdateID(topic string) string { return "millstream-update-" + topic }

// Delivery says what a batch of outputs and its input offset have to do with each other.
type Delivery int

// The kinds of delivery.
const (
	// ExactlyOnce: they commit in one transaction.
	ExactlyOnce Delivery = iota
	// AtLeastOnce: the offset is committed after the outputs; what lies between is repeated after a failure.
	AtLeastOnce
)

// Group is what a worker wants to join.
type Group struct {
	Name   string // consumer group id
	Client string // client id, shown by group tools
	Inputs []string
	Start  Start
	// Starts say where Start was, by topic, when somebody looked (Engine.Starts): there the group begins, whenever it comes to that.
	Starts map[string]TopicStart
	// Remade is told of partitions whose topic was made anew since the group read from the one before, and which are therefore
	// read as those of a topic that the group does not know. It must not wait for anything; nil: nobody asks.
	Remade   func(TopicPartition)
	Delivery Delivery
}

// Engine is one log.
type Engine interface {
	// Join becomes a member of the group. It returns at once; Next tells the assignments.
	Join(ctx context.Context, g Group) (Member, error)
	// EnsureTopic creates a topic if it does not exist; partitions <= 0 = the default.
	EnsureTopic(ctx context.Context, name string, partitions int, configs map[string]string) error
	// Topics returns the partition count of each of the named topics that exists.
	Topics(ctx context.Context, names []string) (map[string]int, error)
	// Append writes records to a topic outside any session (catalog, logs); they are durable on return.
	Append(ctx context.Context, topic string, records []Record) error
	// Update runs f and appends the records it returns, all or none, unless somebody else, in
	// whatever process, has updated the topic since f began: then nothing is appended and f runs again. What f
	// reads of the topic with ReadAll has everything that was updated before. The records are durable on
	// return. Without records nothing is appended; an error of f is returned as it is.
	Update(ctx context.Context, topic string, f func(ctx context.Context) ([]Record, error)) error
	// ReadAll calls f for every record of a topic (all partitions) from the given positions, or
	// where there is none from the partition's start, to its present end, and returns where
	// that is. The record's slices are valid during the call.
	ReadAll(ctx context.Context, topic string, from Positions, f func(partition int32, r Record) error) (Positions, error)
	// Follow calls f for each record from the given positions on, as records arrive, until
	// ctx ends or f fails; it always returns an error. Partitions without a position are
	// followed from their start, so nil means everything; what ReadAll returned means
	// everything after it, without loss or repetition.
	Follow(ctx context.Context, topic string, from Positions, f func(partition int32, r Record) error) error
	// Lag tells for each partition of the group's inputs where the group is and where the log ends.
	Lag(ctx context.Context, group string, inputs []string) (map[TopicPartition]Position, error)
	// OffsetsAt finds where start is in each partition of the topics; topics that do not exist are left out.
	OffsetsAt(ctx context.Context, topics []string, start Start) (map[TopicPartition]int64, error)
	// Starts finds where start is in the topics, to be kept until a group joins (Group.Starts); topics that do not exist are left out.
	Starts(ctx context.Context, topics []string, start Start) (map[string]TopicStart, error)
	// SetOffsets commits offsets for a group without members, durable on return; the group need not
	// exist. With members it is ErrGroupActive and nothing is changed.
	SetOffsets(ctx context.Context, group string, offsets map[TopicPartition]int64) error
	// Members tells who is in the group; a group that does not exist has none.
	Members(ctx context.Context, group string) ([]GroupMember, error)
	// KeepGroup commits the offsets of a group without members once more, as they are, so that
	// they do not expire: brokers forget those of groups that nobody is in for long
	// (offsets.retention.minutes). With members, or without offsets, it does nothing.
	KeepGroup(ctx context.Context, group string) error
	// ForgetGroup deletes the committed offsets of a group without members; one with members is ErrGroupActive.
	ForgetGroup(ctx context.Context, group string) error
}

// Position is where a group is in a partition.
type Position struct {
	Committed int64 // -1: nothing committed
	LogStart  int64
	LogEnd    int64 // high watermark
}

// GroupMember is a member of a group, wherever it runs.
type GroupMember struct {
	Client     string // client id
	Host       string // as the coordinator sees it; empty for one in the coordinator's process
	Partitions []TopicPartition
}

// Member is a membership in a consumer group. Heartbeats and rejoining happen inside.
type Member interface {
	// Next blocks until the assignment changes (or ctx ends) and returns all
	// sessions that are now owned: those kept are the same values as before, new ones
	// are new. Sessions that are gone have been fenced: their calls return ErrFenced.
	// Before a session is handed to another member, its owner has until the rebalance
	// timeout to Close it; the member waits for that.
	Next(ctx context.Context) ([]Session, error)
	// Leave closes all sessions and leaves the group.
	Leave(ctx context.Context) error
}

// Session is one assigned input partition.
type Session interface {
	Partition() TopicPartition
	// Input is the index of the partition's topic in Group.Inputs.
	Input() int
	// Done is closed when the partition is being taken away: finish or abort the batch and Close.
	Done() <-chan struct{}
	// Poll waits until there are records and returns up to about maxBytes of
	// them. The Fetch is valid until the next Poll. It wakes on append, without polling.
	Poll(ctx context.Context, maxBytes int) (Fetch, error)
	// Ready tells whether Poll would return records without waiting, as far as is known here
	// and now: what it says may be wrong either way, but without a reader's holes and other people's open
	// transactions at the end of the log it is right. It asks nobody and costs next to nothing: a worker ends
	// its transaction when there is nothing more to read.
	Ready() bool
	// Position is the offset that the next Poll begins at: behind the records of the last
	// one, and behind the holes, markers and aborted records that it passed over since, also while it
	// waited. A Poll that returns an error has passed over no record.
	Position() int64
	// Begin opens a batch of outputs: a transaction with ExactlyOnce. outputs are the topics by
	// output index, as the guest's output entries name them; they may be others in every batch, and the slice must not change meanwhile.
	Begin(outputs []string) error
	// Produce adds outputs to the open batch; they are encoded before it returns, so
	// nothing of o is kept. They may be written ahead, so that a batch may be larger than memory: with
	// ExactlyOnce where readers of committed records do not see them, with AtLeastOnce to be seen, and to stay
	// if the batch is aborted. Keys decide the partition (murmur2 like Kafka's default
	// partitioner); without a key the output goes to the partition number of its input modulo the topic's.
	Produce(ctx context.Context, o abi.Outputs) error
	// ProduceTo adds one record for a topic that is not among the outputs (dead letters).
	ProduceTo(ctx context.Context, topic string, r Record) error
	// Commit ends the open batch with the input offset next: the next record to read. With
	// ExactlyOnce outputs and offset are committed and durable on return; with AtLeastOnce the outputs are
	// written, and the offset follows once they are durable. It may be called without Begin or
	// Produce. After ErrStorage the batch is still open: Commit may be called again, or Abort.
	// Whether a commit whose answer got lost has happened is found out before Commit or the next Abort returns.
	Commit(ctx context.Context, next int64) error
	// Abort drops the open batch and goes back to the last committed offset, as the group's coordinator knows it.
	Abort(ctx context.Context) error
	// SeekTo sets the position of the next Poll.
	SeekTo(offset int64)
	// Close drops an open batch, waits for pending commits and gives the partition up. It may be called twice.
	Close(ctx context.Context) error
}

// Record is one record outside the hot path. Nil and empty keys and values differ.
type Record struct {
	Offset    int64
	Timestamp int64 // ms since the epoch
	Key       []byte
	Value     []byte
	Headers   []Header
}

// Header is one record header; a nil value is null.
type Header struct {
	Name  string
	Value []byte
}

// Fetch is a run of consecutive records of one partition (offsets ascend, with
// holes where the log has holes).
type Fetch interface {
	Len() int
	// NextOffset is the position behind record i (for i == Len()-1: behind the whole fetch, holes included).
	NextOffset(i int) int64
	// Encode writes records from index first on into dst in the flat form of
	// the guest ABI (package sdk/abi), as many as fit and at most max; it
	// returns bytes and records written. n == 0 with first < Len() means that
	// the record alone is larger than dst; need then says how large dst must be.
	// It allocates nothing.
	Encode(dst []byte, first, max int) (size, n, need int)
	// Timestamps are the event times of the records, in ms, valid as long as the Fetch.
	Timestamps() []int64
	// Record returns record i as views, valid as long as the Fetch.
	Record(i int) Record
	// MaxTimestamp is the newest event time of the fetch, in ms; for latency metrics.
	MaxTimestamp() int64
}
