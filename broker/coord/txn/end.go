package txn

import (
	"context"
	"fmt"
	"time"
)

// End commits or aborts the producer's transaction. The decision is durable on
// return, and its markers are, too, unless a partition takes no writes: then
// they follow as soon as it does. It returns the producer to go on with,
// which has another epoch for V2.
func (c *Coordinator) End(ctx context.Context, id string, p Producer, commit bool, v Version) (Producer, error) {
	t, err := c.find(id)
	if err != nil {
		return NoProducer, err
	}
	if err := c.lockSettled(ctx, t); err != nil {
		return NoProducer, err
	}
	done, err := t.end(p, commit, v)
	if err == nil && t.dead {
		err = fmt.Errorf("%w: transactional id %q is unknown", ErrUnknownProducer, id)
	}
	if err == nil && !done {
		err = c.decide(ctx, t, commit, v)
	}
	after, last := t.producer, t.last
	if t.next.ID >= 0 {
		after = t.next
	}
	t.mu.Unlock()
	switch {
	case err != nil:
		return NoProducer, fmt.Errorf("transaction %q: %w", id, err)
	case done:
		err = c.journal.waitDurable(ctx, last)
	default:
		err = c.finish(ctx, t)
	}
	if err != nil {
		return NoProducer, err
	}
	return after, nil
}

// decide writes down how the producer ends its transaction; the lock is held.
func (c *Coordinator) decide(ctx context.Context, t *transaction, commit bool, v Version) error {
	nextID := int64(-1)
	if v == V2 && t.exhausted() {
		var err error
		if nextID, err = c.topics.Metadata().NewProducerID(ctx); err != nil {
			return err
		}
	}
	next := t.prepare(commit, v == V2, nextID, time.Now())
	next.version = v
	return c.change(t, &next)
}

// finish makes a decision durable and carries it out. An error says that the
// decision may not survive. If it cannot be carried out now, it is tried
// again in the background, also after an error: it is in the journal, and nothing else can take its place.
func (c *Coordinator) finish(ctx context.Context, t *transaction) error {
	t.mu.RLock()
	last := t.last
	t.mu.RUnlock()
	// Once it is in the journal it is carried out, whether the caller waits for it or not.
	durable := context.WithoutCancel(ctx)
	if err := c.journal.waitDurable(durable, last); err != nil {
		c.finishLater(t, err)
		return err
	}
	if err := c.carryOut(durable, t); err != nil {
		c.finishLater(t, err)
	}
	return nil
}

// finishLater carries a decision out in the background, as soon as the disk lets it.
func (c *Coordinator) finishLater(t *transaction, why error) {
	c.trouble.warn("transaction is not ended in all partitions yet, trying again", t, why)
	c.spawn(func() {
		ticker := time.NewTicker(retryInterval)
		defer ticker.Stop()
		for {
			select {
			case <-c.ctx.Done():
				return
			case <-ticker.C:
				if c.carryOut(c.ctx, t) == nil {
					c.log.Info("transaction is ended in all partitions", "transactional_id", t.id)
					return
				}
			}
		}
	})
}

// carryOut writes the markers of a prepared transaction that are missing, once
// the decision is durable, and, once they are, that it is complete.
func (c *Coordinator) carryOut(ctx context.Context, t *transaction) error {
	t.mu.RLock()
	m, last := t.metadata, t.last
	t.mu.RUnlock()
	if err := c.journal.waitDurable(ctx, last); err != nil {
		return err
	}
	marked, err := c.markers.end(ctx, &m)
	if err == nil {
		err = settle(ctx, marked)
	}
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	next := t.complete(now)
	if successor, changed, err := next.add(next.producer, t.behind, next.version, now); err == nil && changed {
		next = successor
	}
	if err := c.change(t, &next); err != nil {
		return err
	}
	t.behind = nil
	return nil
}

// lockSettled locks t once the markers of its last transaction survive a power
// cut. Everything that writes to the journal comes through here: what is written there takes the place of the
// decision, and markers that are missing at the next start are written because of the decision.
func (c *Coordinator) lockSettled(ctx context.Context, t *transaction) error {
	for {
		t.mu.Lock()
		marked := t.marked
		if len(marked) == 0 {
			return nil
		}
		t.mu.Unlock()
		if err := settle(ctx, marked); err != nil {
			return fmt.Errorf("transaction %q: flush its markers: %w", t.id, err)
		}
		t.mu.Lock()
		if len(t.marked) > 0 && &t.marked[0] == &marked[0] {
			t.marked = nil
		}
		t.mu.Unlock()
	}
}
