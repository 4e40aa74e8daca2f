package txn

import (
	"context"
	"fmt"
	"time"
)

// InitProducer gives a transactional id to a producer: the producer id with
// the next epoch, which fences whoever had it and aborts what that one left
// open. expected is what a producer that goes on says it is, else NoProducer.
// Durable on return.
func (c *Coordinator) InitProducer(ctx context.Context, id string, expected Producer, timeout time.Duration) (Producer, error) {
	if id == "" || len(id) > maxIDBytes {
		return NoProducer, fmt.Errorf("%w: %d bytes, 1 to %d are allowed", ErrInvalidID, len(id), maxIDBytes)
	}
	if timeout <= 0 || timeout > c.maxTimeout {
		return NoProducer, fmt.Errorf("%w: %v, at most %v is allowed", ErrInvalidTime, timeout, c.maxTimeout)
	}
	for {
		t, err := c.obtain(id)
		if err != nil {
			return NoProducer, err
		}
		p, again, err := c.initProducer(ctx, t, &expected, timeout)
		if err != nil || !again {
			return p, err
		}
	}
}

// initProducer is one attempt; again says that the state has changed under it and another is due.
func (c *Coordinator) initProducer(ctx context.Context, t *transaction, expected *Producer, timeout time.Duration) (p Producer, again bool, err error) {
	if err := c.lockSettled(ctx, t); err != nil {
		return NoProducer, false, err
	}
	if t.dead {
		t.mu.Unlock()
		return NoProducer, true, nil
	}
	what, err := t.takeOver(*expected)
	if err == nil && what == abortFirst {
		next := t.prepare(false, true, -1, time.Now())
		err = c.change(t, &next)
		if expected.ID >= 0 {
			expected.Epoch = next.producer.Epoch
		}
		t.mu.Unlock()
		if err == nil {
			err = c.finish(ctx, t)
		}
		return NoProducer, true, err
	}
	if err == nil && what != askAgain {
		err = c.give(ctx, t, what, *expected, timeout)
	}
	if err != nil && t.producer.Epoch < 0 {
		c.forget(t)
	}
	p, last := t.producer, t.last
	t.mu.Unlock()
	if err == nil {
		err = c.journal.waitDurable(ctx, last)
	}
	if err != nil {
		return NoProducer, false, err
	}
	return p, false, nil
}

// give makes the next producer the one in force; the lock is held.
func (c *Coordinator) give(ctx context.Context, t *transaction, what takeover, expected Producer, timeout time.Duration) error {
	id := int64(-1)
	if what == newID {
		var err error
		if id, err = c.topics.Metadata().NewProducerID(ctx); err != nil {
			return err
		}
	}
	next := t.initialize(id, expected, timeout, time.Now())
	return c.change(t, &next)
}

// Ticket stands for changes that are not durable yet.
type Ticket struct {
	journal *journal
	at      position
}

// Durable returns once the changes survive a power cut.
func (t Ticket) Durable(ctx context.Context) error {
	if t.journal == nil {
		return nil
	}
	return t.journal.waitDurable(ctx, t.at)
}

// Add makes partitions part of the producer's transaction, which begins with
// the first of them. A producer of V1 must not write before that is durable.
func (c *Coordinator) Add(id string, p Producer, v Version, partitions ...Partition) (Ticket, error) {
	t, err := c.find(id)
	if err != nil {
		return Ticket{}, err
	}
	t.mu.RLock() // few calls bring something new
	_, changed, err := t.add(p, partitions, v, time.Now())
	dead, last := t.dead, t.last
	t.mu.RUnlock()
	switch {
	case dead:
		return Ticket{}, fmt.Errorf("%w: transactional id %q is unknown", ErrUnknownProducer, id)
	case err != nil:
		return Ticket{}, fmt.Errorf("transaction %q: %w", id, err)
	case !changed:
		return Ticket{c.journal, last}, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	next, changed, err := t.add(p, partitions, v, time.Now())
	if err == nil && len(t.marked) > 0 {
		err = fmt.Errorf("%w: markers are not durable yet", ErrConcurrent) // of a Writer, whose producer nobody else has
	}
	if err != nil {
		return Ticket{}, fmt.Errorf("transaction %q: %w", id, err)
	}
	if changed {
		if err := c.partitions.check(len(next.partitions) - len(t.partitions)); err != nil {
			return Ticket{}, fmt.Errorf("transaction %q: %w", id, err)
		}
		if err := c.change(t, &next); err != nil {
			return Ticket{}, err
		}
	}
	return Ticket{c.journal, t.last}, nil
}

// AddOffsets makes the offsets of a group part of the producer's transaction.
func (c *Coordinator) AddOffsets(id string, p Producer, v Version, group string) (Ticket, error) {
	return c.Add(id, p, v, c.offsets.TransactionPartition(group))
}

// Within runs f, which appends to a partition of the producer's transaction:
// the transaction does not end meanwhile. f must not wait for anything.
func (c *Coordinator) Within(id string, p Producer, tp Partition, f func() error) error {
	t, err := c.find(id)
	if err != nil {
		return err
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := t.holds(p, tp); err != nil {
		return fmt.Errorf("transaction %q: %w", id, err)
	}
	return f()
}

// WithinOffsets is Within for the offsets of a group.
func (c *Coordinator) WithinOffsets(id string, p Producer, group string, f func() error) error {
	return c.Within(id, p, c.offsets.TransactionPartition(group), f)
}
