// Package embedded is the engine over the broker in the same process: no
// socket, no client library. Batches are read from the page cache, decoded
// straight into the guest's flat form, and outputs are encoded straight into
// record batches that are written with one append per output partition and
// commit.
//
// Its members are true members of the consumer group, side by side with any
// Kafka client: they speak the consumer protocol ("cooperative-sticky", and
// "range" where a foreign member knows nothing better), and assign for everybody
// when they lead. They hear of a rebalance at once instead of with their next heartbeat.
//
// Exactly once: a batch is one of Kafka's own transactions, made through the
// broker's coordinator, so every reader of committed records, in this process or over the
// network, sees all of it or nothing. Outputs are written ahead while the guest works. Commit waits
// until inputs, outputs and the offset survive a power cut, all at the same time, and only then
// writes the decision; when that is durable, Commit returns. The producer of a partition is
// initialized when its session opens, which fences the last owner's; the offset goes with the
// member's id and generation (KIP-447). A batch without outputs is a plain commit of the offset.
//
// At least once: Commit returns with the outputs visible to readers and in the page
// cache. A committer of each session then waits until the inputs and the outputs
// survive a power cut, and only then hands the offset to the group's
// coordinator: at once when the session was idle, else after about 100 ms or
// 16 MiB of outputs, so that a busy session shares its flushes. With 64 MiB of
// outputs behind, Commit waits for the disk.
//
// Memory of a session: one read buffer of the size asked for in Poll, what its
// compressed batches decompress to, and up to about 4 MiB of outputs that are not written yet.
package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/millstream-io/millstream/broker/commitlog"
	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/coord/txn"
	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/millstream-io/millstream/runtime/engine"
)

// Options of an engine; the zero value is good for use.
type Options struct {
	// Logger takes what goes wrong and, at the debug level, every assignment; nil: nobody.
	Logger *slog.Logger
	// SessionTimeout and RebalanceTimeout are those of a member, as Kafka's
	// session.timeout.ms and max.poll.interval.ms; defaults 30 s and 60 s. The latter is also how long
	// a session whose partition is being taken away has to close.
	SessionTimeout, RebalanceTimeout time.Duration
	// TransactionTimeout is how long a batch with exactly-once delivery may be open; default 5 min, at most the broker's
	// transaction.max.timeout.ms. A batch that takes longer is aborted and done again (engine.ErrAborted).
	TransactionTimeout time.Duration
}

type embedded struct {
	topics  *topic.Topics
	groups  *group.Coordinator
	txns    *txn.Coordinator
	log     *slog.Logger
	session time.Duration
	rejoin  time.Duration
	// transaction is the timeout of transactions, and ahead how many bytes of outputs a session collects.
	transaction time.Duration
	ahead       int
	// spread chooses the partition of records without a key that Append writes.
	spread atomic.Uint32
	// updating holds a token while somebody updates a topic.
	updating chan struct{}
}

// New returns the engine over a broker's topics, groups and transactions.
func New(topics *topic.Topics, groups *group.Coordinator, txns *txn.Coordinator, o Options) engine.Engine {
	return &embedded{
		topics: topics, groups: groups, txns: txns,
		log:     cmp.Or(o.Logger, slog.New(slog.DiscardHandler)),
		session: cmp.Or(o.SessionTimeout, 30*time.Second),
		rejoin:  cmp.Or(o.RebalanceTimeout, 60*time.Second),

		transaction: cmp.Or(o.TransactionTimeout, 5*time.Minute),
		ahead:       aheadBytes,
		updating:    make(chan struct{}, 1),
	}
}

// Join becomes a member of the group.
func (e *embedded) Join(_ context.Context, g engine.Group) (engine.Member, error) {
	if g.Name == "" {
		return nil, fmt.Errorf("join: %w: it is empty", group.ErrInvalidGroupID)
	}
	if len(g.Inputs) == 0 {
		return nil, fmt.Errorf("join group %q: it has no inputs", g.Name)
	}
	return newMember(e, g), nil
}

// explained reports whether err is one of the engine's errors already.
func explained(err error) bool {
	for _, is := range []error{engine.ErrFenced, engine.ErrAborted, engine.ErrUnknownTopic, engine.ErrStorage,
		engine.ErrTooLarge, engine.ErrInvalidRecord, engine.ErrCorrupt, engine.ErrClosed} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}

// explain wraps what the broker says in the engine's errors.
func explain(err error) error {
	var is error
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), explained(err):
		return err
	case refused(err):
		is = engine.ErrAborted
	case errors.Is(err, topic.ErrUnknownTopic), errors.Is(err, topic.ErrUnknownPartition):
		is = engine.ErrUnknownTopic
	case errors.Is(err, topic.ErrMessageTooLarge):
		is = engine.ErrTooLarge
	case errors.Is(err, commitlog.ErrCorrupt), errors.Is(err, record.ErrCorrupt),
		errors.Is(err, record.ErrTruncated), errors.Is(err, record.ErrTooLarge):
		is = engine.ErrCorrupt
	case errors.Is(err, commitlog.ErrClosed), errors.Is(err, group.ErrClosed), errors.Is(err, txn.ErrClosed):
		is = engine.ErrClosed
	default:
		is = engine.ErrStorage
	}
	return fmt.Errorf("%w: %w", is, err)
}
