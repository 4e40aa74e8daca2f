package embedded

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millstream-io/millstream/broker/coord/txn"
	"github.com/millstream-io/millstream/broker/topic"
)

// transaction is a transactional producer of this process and what it has
// open. The coordinator hears of a transaction with the first write; until then there
// is nothing to commit or to abort.
type transaction struct {
	txns    *txn.Coordinator
	id      string
	timeout time.Duration
	writer  *txn.Writer
	open    bool // something may have been written
	lost    bool // the producer is not in force any more: init comes first

	joining []txn.Partition
}

func newTransaction(e *embedded, id string) *transaction {
	return &transaction{txns: e.txns, id: id, timeout: e.transaction, lost: true}
}

// init becomes the producer of the transactional id: whoever had it is fenced,
// and what that one left open is aborted on return.
func (t *transaction) init(ctx context.Context) error {
	for pause := 10 * time.Millisecond; ; pause *= 2 {
		w, err := txn.NewWriter(ctx, t.txns, t.id, t.timeout)
		if err == nil {
			t.writer, t.open, t.lost = w, false, false
			return nil
		}
		if !errors.Is(err, txn.ErrConcurrent) || pause > time.Second {
			return fmt.Errorf("take over transactional id %q: %w", t.id, err)
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// join makes partitions part of the transaction.
func (t *transaction) join(partitions ...*outputPartition) error {
	t.joining = t.joining[:0]
	producer := t.writer.Producer()
	for _, p := range partitions {
		if p.joined != producer {
			t.joining = append(t.joining, txn.Partition{Topic: p.partition.Topic(), Partition: p.partition.Index()})
		}
	}
	if len(t.joining) == 0 {
		return nil
	}
	if err := t.add(t.joining...); err != nil {
		return err
	}
	for _, p := range partitions {
		p.joined = producer
	}
	return nil
}

// add is join by name.
func (t *transaction) add(partitions ...txn.Partition) error {
	err := t.writer.Add(partitions...)
	if err == nil {
		t.open = true
	}
	return t.note(err)
}

// append appends batches to a partition of the transaction.
func (t *transaction) append(ctx context.Context, p *topic.Partition, batches []byte) (done topic.Appended, err error) {
	err = t.writer.Within(txn.Partition{Topic: p.Topic(), Partition: p.Index()}, func() (err error) {
		done, err = p.Append(ctx, batches, topic.FromBroker)
		return err
	})
	return done, t.note(err)
}

// end commits or aborts. With a nil error that is durable and seen by every reader.
func (t *transaction) end(ctx context.Context, commit bool) error {
	done := t.writer.Abort
	if commit {
		done = t.writer.Commit
	}
	err := done(ctx)
	if err == nil {
		t.open = false
	}
	return t.note(err)
}

// giveUp aborts what is open, unless somebody else has done so.
func (t *transaction) giveUp(ctx context.Context) error {
	if !t.open || t.lost {
		return nil
	}
	if err := t.end(ctx, false); err != nil && !refused(err) && !errors.Is(err, txn.ErrClosed) {
		return fmt.Errorf("abort the open transaction: %w", explain(err))
	}
	return nil
}

// note notices that the producer is not in force any more.
func (t *transaction) note(err error) error {
	if refused(err) {
		t.lost = true
	}
	return err
}

// refused reports whether err says that the producer is not in force any
// more: another one has taken over, or the coordinator has aborted what took too long.
func refused(err error) bool {
	return errors.Is(err, txn.ErrFenced) || errors.Is(err, txn.ErrUnknownProducer) ||
		errors.Is(err, txn.ErrInvalidState) || errors.Is(err, txn.ErrNotInTransaction)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
