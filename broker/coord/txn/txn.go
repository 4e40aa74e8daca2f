// Package txn coordinates transactions: which producer owns a transactional
// id, which partitions its transaction has reached, and how it ends. It is a
// state machine whose every change is a record of the internal topic
// __transaction_state, in Kafka's own stored format (KIP-98, KIP-360, KIP-890).
//
// Durability: the decision to commit or abort is durable before anything of
// it can be seen, and what was decided is carried out however often the
// broker stops in between: markers that are missing are written when it
// starts. A transaction that began but is on no record (a power cut took the
// record and left the batches) is taken up again if its producer is known, and
// aborted otherwise; no partition waits for it for ever.
//
// Producers in the broker's own process use a Writer, which spares two of the
// four waits for the disk that a client's transaction has.
//
// A batch of a transaction is appended while the transaction is held (Within),
// so that none can follow the decision: a late request never lands in the
// next transaction, whatever the version of the client.
//
// Concurrency: everything is safe for concurrent use; one transactional id
// never waits for another, and nothing is held while the disk is waited for.
package txn

import (
	"errors"
	"log/slog"
	"time"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/topic"
)

// StateTopic is the name of the internal topic with the journal.
const StateTopic = "__transaction_state"

// Errors that a producer can get; package kafka maps them to Kafka's codes.
var (
	// ErrFenced says that another producer has taken over the transactional id.
	ErrFenced = errors.New("producer is fenced")
	// ErrUnknownProducer says that the transactional id is unknown or belongs to another producer id.
	ErrUnknownProducer = errors.New("producer id does not belong to the transactional id")
	// ErrInvalidState says that the transaction cannot do that now.
	ErrInvalidState = errors.New("invalid transaction state")
	// ErrNotInTransaction says that the partition was not added to the transaction.
	ErrNotInTransaction = errors.New("partition is not part of the transaction")
	// ErrConcurrent says that the last transaction is still being ended: try again.
	ErrConcurrent  = errors.New("transaction is being ended")
	ErrInvalidID   = errors.New("invalid transactional id")
	ErrInvalidTime = errors.New("invalid transaction timeout")
	ErrNotFound    = errors.New("transactional id not found")
	ErrTooManyIDs  = errors.New("too many transactional ids")
	// ErrTooManyPartitions says that all open transactions together have as many partitions as they may.
	ErrTooManyPartitions = errors.New("too many partitions in open transactions")
	ErrClosed            = errors.New("coordinator is closed")
	errForeignRecord     = errors.New("not an entry of the transaction journal")
	// ErrJournal says that the journal took no record (disk full or failed).
	ErrJournal = errors.New("journal of the transactions refused the write")
)

// Options open a coordinator. Zero values mean the defaults.
type Options struct {
	Topics *topic.Topics
	// Offsets are the groups' offsets, which can be part of a transaction.
	Offsets Offsets
	Logger  *slog.Logger
	// MaxTimeout bounds the timeout that a producer may ask for; default 15 min (transaction.max.timeout.ms).
	MaxTimeout time.Duration
	// Expiration is how long an idle transactional id is remembered; default 7 days (transactional.id.expiration.ms).
	Expiration time.Duration
	// MaxIDs bounds the transactional ids; default 100,000.
	MaxIDs int
	// MaxPartitions bounds the partitions of all open transactions together; default 1,000,000.
	MaxPartitions int
	// JournalPartitions is the partition count of StateTopic when it is created; default 4.
	JournalPartitions int
}

// Offsets is what the coordinator needs of the group coordinator.
type Offsets interface {
	// TransactionPartition is the partition of the offsets topic that a group's offsets are in.
	TransactionPartition(group string) Partition
	// EndTransaction ends a producer's transaction in a partition of the offsets
	// topic, which is durable when that partition is up to end. It does nothing if the producer has none open there.
	EndTransaction(partition int32, producerID int64, epoch int16, m record.Marker) (end int64, err error)
}

// Partition names a partition.
type Partition = group.TopicPartition

// Producer is a producer id with its epoch; -1, -1 is none.
type Producer struct {
	ID    int64
	Epoch int16
}

// NoProducer stands for a producer that has no id yet.
var NoProducer = Producer{-1, -1}

// Version is what a client knows of transactions (the feature transaction.version).
type Version int16

const (
	// V1: partitions are added by AddPartitionsToTxn, epochs grow when a producer is initialized.
	V1 Version = 0
	// V2: writing adds a partition, and the epoch grows with every transaction (KIP-890).
	V2 Version = 2
)

// Listing is one row of ListTransactions.
type Listing struct {
	ID       string
	Producer int64
	State    State
	Started  time.Time // zero: no transaction is open
}

// Description is what DescribeTransactions tells.
type Description struct {
	Listing
	Epoch      int16
	Timeout    time.Duration
	Partitions []Partition // by topic and number
}
