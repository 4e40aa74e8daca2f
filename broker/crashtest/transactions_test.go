package crashtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/coord/txn"
	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/topic"
)

const (
	transactionalID    = "transactor"
	transactionTimeout = 10 * time.Minute
)

// transact writes to one to three partitions and commits, aborts, or leaves it at that.
func (w *world) transact() error {
	c := w.b.Transactions()
	if w.fence == (txn.Producer{}) {
		p, err := c.InitProducer(w.ctx, transactionalID, txn.NoProducer, transactionTimeout)
		if err != nil {
			return w.goOn(err)
		}
		w.fence = p
	}
	p := w.fence
	w.fence = txn.Producer{} // until it is known how it ended
	x := w.oracle.beginning()
	done := map[place]bool{}
	for range 1 + w.rng.IntN(3) {
		at := w.anyPlace()
		if at.topic == "" || done[at] || w.oracle.lives[at.life].compact {
			continue
		}
		done[at] = true
		if err := w.writeWithin(x, p, at); err != nil {
			return w.goOn(err)
		}
	}
	decision := w.rng.IntN(6)
	switch {
	case len(done) == 0: // nothing has begun
		w.fence = p
		return nil
	case decision == 0:
		return nil
	}
	w.oracle.mark(func(now int) { x.ending, x.commit = now, decision > 2 })
	next, err := c.End(w.ctx, transactionalID, p, decision > 2, txn.V2)
	if err != nil {
		return w.goOn(err)
	}
	w.oracle.mark(func(now int) { x.ended = now })
	w.fence = next
	return nil
}

// writeWithin appends a batch of a transaction and waits until it is durable.
func (w *world) writeWithin(x *transaction, p txn.Producer, at place) error {
	log, err := w.b.Topics().Partition(at.topic, at.partition)
	if err != nil {
		return err
	}
	tp := txn.Partition{Topic: at.topic, Partition: at.partition}
	if _, err := w.b.Transactions().Add(transactionalID, p, txn.V2, tp); err != nil {
		return err
	}
	messages := w.messages(at)
	batch := batchOf(&w.build, time.Now(), messages, &producerState{id: p.ID, epoch: p.Epoch, transactional: true})
	a := w.oracle.trying(at, messages, nil)
	a.txn = x
	var got topic.Appended
	err = w.b.Transactions().Within(transactionalID, p, tp, func() (err error) {
		got, err = log.Append(w.ctx, batch, topic.FromTransaction)
		return err
	})
	if err != nil {
		return err
	}
	if err := log.WaitDurable(w.ctx, got.LastOffset+1); err != nil {
		return err
	}
	w.oracle.acknowledge(a, got.BaseOffset)
	return nil
}

// judgeTransactions looks with the eyes of a reader of committed records:
// what was committed is seen, nothing else is, and no transaction in part.
func (e *expectation) judgeTransactions(ctx context.Context, b *broker.Broker) error {
	// What is open when the broker starts stays so until its producer comes back or its time is over.
	for tries := 1; ; tries++ {
		_, err := b.Transactions().InitProducer(ctx, transactionalID, txn.NoProducer, transactionTimeout)
		if err == nil {
			break
		}
		if !errors.Is(err, txn.ErrConcurrent) || tries == 1000 {
			return fmt.Errorf("initialize a transactional producer: %w", err)
		}
		<-time.After(time.Millisecond) // by the clock of today the transaction of the workload is over; it is being aborted
	}
	type tally struct{ seen, all int }
	tallies := map[*transaction]*tally{}
	for at, l := range e.logs {
		if !e.alive(b, l.life) {
			continue
		}
		p, err := b.Topics().Partition(at.topic, at.partition)
		if err != nil {
			continue // judged before
		}
		visible, err := committed(p)
		if err != nil {
			return fmt.Errorf("%s-%d: %w", at.topic, at.partition, err)
		}
		for id, m := range l.messages {
			if m.attempt == nil || !m.acked || m.offset < p.Offsets().LogStart || l.life.compact {
				continue
			}
			x := m.attempt.txn
			if x == nil {
				if !visible[id] {
					return fmt.Errorf("%s-%d: %s, of no transaction, cannot be seen by readers of committed records", at.topic, at.partition, id)
				}
				continue
			}
			if tallies[x] == nil {
				tallies[x] = &tally{}
			}
			tallies[x].all++
			if visible[id] {
				tallies[x].seen++
			}
		}
	}
	for x, n := range tallies {
		switch commit := x.commit && x.ending <= e.at; {
		case n.seen > 0 && !commit:
			return fmt.Errorf("%d records of a transaction that was not committed can be seen", n.seen)
		case n.seen < n.all && commit && x.ended <= e.acks:
			return fmt.Errorf("%d of %d records of a committed transaction cannot be seen", n.all-n.seen, n.all)
		case n.seen > 0 && n.seen < n.all:
			return fmt.Errorf("a transaction is torn: %d of %d records can be seen", n.seen, n.all)
		}
	}
	return nil
}

// committed returns the ids that a reader of committed records sees.
func committed(p *topic.Partition) (map[string]bool, error) {
	bounds, visible := p.Offsets(), map[string]bool{}
	var buf, scratch []byte
	for at := bounds.LogStart; at < bounds.LastStable; {
		var err error
		if buf, err = p.Read(buf[:0], topic.ReadOptions{Offset: at, MaxBytes: 1 << 20, Committed: true}); err != nil {
			return nil, err
		}
		if len(buf) == 0 {
			break
		}
		aborted := p.Aborted(buf)
		for rest := buf; len(rest) > 0; {
			h, err := record.ParseHeader(rest)
			if err != nil {
				return nil, err
			}
			hidden := h.Control()
			for _, a := range aborted {
				hidden = hidden || a.Has(&h)
			}
			it, grown, err := record.Iterate(rest[:h.Size()], scratch, 1<<20)
			if err != nil {
				return nil, err
			}
			scratch = grown
			for r := (record.Record{}); !hidden && it.Next(&r); {
				visible[messageID(&r)] = true
			}
			at, rest = h.LastOffset()+1, rest[h.Size():]
		}
	}
	return visible, nil
}
