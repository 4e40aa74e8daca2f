package txn

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/topic"
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
// again in the background.
func (c *Coordinator) finish(ctx context.Context, t *transaction) error {
	t.mu.RLock()
	last := t.last
	t.mu.RUnlock()
	// Once it is in the journal it is carried out, whether the caller waits for it or not.
	durable := context.WithoutCancel(ctx)
	if err := c.journal.waitDurable(durable, last); err != nil {
		return err
	}
	if err := c.carryOut(durable, t); err != nil {
		c.log.Warn("transaction is not ended in all partitions yet; it is tried again", "transactional_id", t.id, "error", err)
		c.spawn(func() { c.keepTrying(t) })
	}
	return nil
}

func (c *Coordinator) keepTrying(t *transaction) {
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
}

// carryOut writes the markers of a prepared transaction that are missing and,
// once they are durable, that it is complete.
func (c *Coordinator) carryOut(ctx context.Context, t *transaction) error {
	t.mu.RLock()
	m := t.metadata
	t.mu.RUnlock()
	marked, err := c.mark(ctx, &m)
	if err == nil {
		err = settle(ctx, marked)
	}
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	next := t.complete(time.Now())
	return c.change(t, &next)
}

// marker is where the marker of a transaction ends in a partition.
type marker struct {
	partition *topic.Partition
	end       int64
}

// mark ends a producer's transaction in all its partitions. There is nothing to end in
// one that has no batch of it, that is gone, or that cannot be read any more.
func (c *Coordinator) mark(ctx context.Context, m *metadata) (marked []marker, err error) {
	marked = make([]marker, 0, len(m.partitions))
	var errs []error
	for _, tp := range sorted(m.partitions) {
		part, err := c.topics.Partition(tp.Topic, tp.Partition)
		if err == nil {
			end := part.Offsets().LogEnd // for the marker of an earlier attempt
			if epoch, _, open := part.OpenTransaction(m.producer.ID); open && m.ends(epoch) {
				end, err = c.appendMarker(ctx, part, m.producer, record.Marker{Commit: m.state == StatePrepareCommit})
			}
			if err == nil {
				marked = append(marked, marker{part, end})
			}
		}
		if err = ignoreLost(err); err != nil {
			errs = append(errs, err)
		}
	}
	return marked, errors.Join(errs...)
}

// appendMarker ends a producer's transaction in a partition, which is durable when the partition is up to end.
func (c *Coordinator) appendMarker(ctx context.Context, part *topic.Partition, p Producer, m record.Marker) (end int64, err error) {
	if part.Topic() == group.OffsetsTopic {
		return c.offsets.EndTransaction(part.Index(), p.ID, p.Epoch, m)
	}
	at, err := part.Append(ctx, record.AppendMarker(nil, p.ID, p.Epoch, m, time.Now().UnixMilli()), topic.FromBroker)
	if err != nil {
		return 0, fmt.Errorf("write the marker of %s-%d: %w", part.Topic(), part.Index(), err)
	}
	return at.LastOffset + 1, nil
}

// settle returns once markers survive a power cut; their files are flushed at the same time.
func settle(ctx context.Context, marked []marker) error {
	errs := make([]error, len(marked))
	var wait sync.WaitGroup
	for i := 1; i < len(marked); i++ {
		wait.Go(func() { errs[i] = marked[i].durable(ctx) })
	}
	if len(marked) > 0 {
		errs[0] = marked[0].durable(ctx)
	}
	wait.Wait()
	return errors.Join(errs...)
}

func (m *marker) durable(ctx context.Context) error {
	return ignoreLost(m.partition.WaitDurable(ctx, m.end))
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
