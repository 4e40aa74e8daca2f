package txn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millstream-io/millstream/broker/commitlog"
	"github.com/millstream-io/millstream/broker/producer"
	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/topic"
)

// ignoreLost passes over partitions that are gone or damaged.
func ignoreLost(err error) error {
	if errors.Is(err, topic.ErrUnknownTopic) || errors.Is(err, topic.ErrUnknownPartition) || errors.Is(err, commitlog.ErrCorrupt) {
		return nil
	}
	return err
}

// recover carries out what was decided before the last stop, finds what is
// open in the partitions without being on record, and starts the timers.
func (c *Coordinator) recover(ctx context.Context) error {
	owners := make(map[int64]*transaction, len(c.byID))
	for _, t := range c.byID {
		if t.state.prepared() {
			if err := c.finish(ctx, t); err != nil {
				return fmt.Errorf("end transaction %q: %w", t.id, err)
			}
		}
		t.mu.RLock()
		owners[t.producer.ID] = t
		t.mu.RUnlock()
	}
	for _, part := range c.topics.Partitions() {
		for _, open := range part.OpenTransactions() {
			if err := c.recoverOpen(ctx, part, open, owners[open.ProducerID]); err != nil {
				return fmt.Errorf("open transaction of producer %d in %s-%d: %w", open.ProducerID, part.Topic(), part.Index(), err)
			}
		}
	}
	now := time.Now()
	for _, t := range c.byID {
		t.mu.Lock()
		if t.state == StateOngoing {
			c.startTimer(t, max(0, t.started.Add(t.timeout).Sub(now)))
		}
		t.mu.Unlock()
	}
	return nil
}

// recoverOpen takes up a transaction that is open in a partition. Its record
// may have been lost with a power cut that left its batches, which then were
// not acknowledged: their producer may send them again, find them there, and
// commit, so they must stay part of the transaction. Nobody can commit
// those of an unknown producer or of an epoch that is over.
func (c *Coordinator) recoverOpen(ctx context.Context, part *topic.Partition, open producer.Info, t *transaction) error {
	tp := Partition{Topic: part.Topic(), Partition: part.Index()}
	p := Producer{open.ProducerID, open.Epoch}
	if t != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		switch {
		case t.state.prepared() && t.ends(p.Epoch):
			return nil // its markers are being written
		case t.state.prepared() && t.owns(p) == nil:
			t.behind = append(t.behind, tp)
			return nil
		}
		if next, changed, err := t.add(p, []Partition{tp}, t.version, time.Now()); err == nil {
			if !changed {
				return nil
			}
			return c.change(t, &next)
		}
	}
	c.log.Warn("aborting a transaction that nobody can end", "topic", tp.Topic, "partition", tp.Partition,
		"producer_id", open.ProducerID, "epoch", open.Epoch, "first_offset", open.FirstOpen)
	return c.markers.abort(ctx, part, p, record.Marker{})
}

// startTimer aborts the transaction after its timeout; the lock is held.
func (c *Coordinator) startTimer(t *transaction, timeout time.Duration) {
	t.stopTimer()
	round := t.round
	t.timer = time.AfterFunc(timeout, func() { c.spawn(func() { c.timedOut(t, round) }) })
}

// timedOut aborts a transaction whose producer has not ended it in time, with
// the next epoch, so that the producer cannot go on with it.
func (c *Coordinator) timedOut(t *transaction, round int64) {
	if err := c.lockSettled(c.ctx, t); err != nil {
		c.trouble.warn("transaction timed out and could not be aborted, trying again", t, err)
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.round == round {
			c.startTimer(t, retryInterval)
		}
		return
	}
	if t.round != round || t.state != StateOngoing {
		t.mu.Unlock()
		return
	}
	timeout := t.timeout
	next := t.prepare(false, true, -1, time.Now())
	err := c.change(t, &next)
	if err != nil {
		c.startTimer(t, retryInterval)
	} else {
		c.ended.timeouts.Add(1)
	}
	t.mu.Unlock()
	if err == nil {
		err = c.finish(c.ctx, t)
	}
	if err != nil {
		c.trouble.warn("transaction timed out and could not be aborted, trying again", t, err)
		return
	}
	c.log.Info("transaction timed out and was aborted", "transactional_id", t.id, "timeout", timeout)
}

// expireLoop forgets transactional ids that nobody has used for long.
func (c *Coordinator) expireLoop() {
	ticker := time.NewTicker(expiryInterval)
	defer ticker.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-ticker.C:
			c.expire(time.Now())
		}
	}
}

func (c *Coordinator) expire(now time.Time) {
	for _, t := range c.all() {
		if c.lockSettled(c.ctx, t) != nil {
			continue // its partition has failed; it is remembered
		}
		if !t.dead && t.state.idle() && t.producer.Epoch >= 0 && now.Sub(t.updated) >= c.expiration {
			if _, err := c.journal.append(t.id, nil); err != nil {
				c.log.Warn("transactional id could not be forgotten", "transactional_id", t.id, "error", err)
			} else {
				c.forget(t)
			}
		}
		t.mu.Unlock()
	}
}

// AbortOpen ends what a producer has left open in a partition, whatever is on
// record of it: an administrator's way out (WriteTxnMarkers). Durable on return.
func (c *Coordinator) AbortOpen(ctx context.Context, tp Partition, p Producer, coordinatorEpoch int32) error {
	part, err := c.topics.Partition(tp.Topic, tp.Partition)
	if err != nil {
		return err
	}
	switch epoch, _, open := part.OpenTransaction(p.ID); {
	case !open:
		return part.WaitDurable(ctx, part.Offsets().LogEnd)
	case p.Epoch < epoch:
		return fmt.Errorf("%w: producer %d has epoch %d there, not %d", producer.ErrFenced, p.ID, epoch, p.Epoch)
	}
	return c.markers.abort(ctx, part, p, record.Marker{CoordinatorEpoch: coordinatorEpoch})
}
