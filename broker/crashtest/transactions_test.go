package crashtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/coord/group"
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
		if w.rng.IntN(2) == 0 {
			at = w.compactPlace()
		}
		if at.topic == "" || done[at] {
			continue
		}
		done[at] = true
		if err := w.writeWithin(x, p, at); err != nil {
			return w.goOn(err)
		}
	}
	if len(done) > 0 && w.rng.IntN(2) == 0 {
		if err := w.commitWithin(x, p); err != nil {
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
	for _, c := range x.offsets {
		w.oracle.committed(c)
	}
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

// commitWithin makes offsets of a group part of a transaction.
func (w *world) commitWithin(x *transaction, p txn.Producer) error {
	name := fmt.Sprint("group", w.rng.IntN(3))
	ticket, err := w.b.Transactions().AddOffsets(transactionalID, p, txn.V2, name)
	if err != nil {
		return err
	}
	offsets := map[group.TopicPartition]group.Offset{}
	for partition := range int32(1 + w.rng.IntN(2)) {
		tp := group.TopicPartition{Topic: "plain", Partition: partition}
		w.groups[tp] += int64(1 + w.rng.IntN(9))
		offsets[tp] = group.Offset{Offset: w.groups[tp], LeaderEpoch: -1}
		c := w.oracle.committing(name, tp, w.groups[tp])
		c.txn = x
		x.offsets = append(x.offsets, c)
	}
	var wait func(context.Context) error
	err = w.b.Transactions().WithinOffsets(transactionalID, p, name, func() (err error) {
		wait, err = w.b.Groups().CommitInTransaction(group.Identity{Group: name, Generation: -1}, p.ID, p.Epoch, offsets)
		return err
	})
	if err != nil {
		return err
	}
	return errors.Join(wait(w.ctx), ticket.Durable(w.ctx))
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
		if err == nil {
			err = l.judgeVisible(visible, p.Offsets().LogStart, tallies)
		}
		if err != nil {
			return fmt.Errorf("%s-%d: %w", at.topic, at.partition, err)
		}
	}
	if err := e.tallyOffsets(ctx, b, tallies); err != nil {
		return err
	}
	for x, n := range tallies {
		switch sure, maybe := x.committed(e.at, e.acks); {
		case n.seen > 0 && !maybe:
			return fmt.Errorf("%d records of a transaction that was not committed can be seen", n.seen)
		case n.seen < n.all && sure:
			return fmt.Errorf("%d of %d records of a committed transaction cannot be seen", n.all-n.seen, n.all)
		case n.seen > 0 && n.seen < n.all:
			return fmt.Errorf("a transaction is torn: %d of %d records and offsets can be seen", n.seen, n.all)
		}
	}
	return nil
}

// tally counts what of a transaction can be seen, and how much there is.
type tally struct{ seen, all int }

func count(tallies map[*transaction]*tally, x *transaction, seen bool) {
	if tallies[x] == nil {
		tallies[x] = &tally{}
	}
	tallies[x].all++
	if seen {
		tallies[x].seen++
	}
}

// judgeVisible looks at the records of one log that readers of committed records see.
func (l *logExpectation) judgeVisible(visible map[string]int64, logStart int64, tallies map[*transaction]*tally) error {
	newest := map[string]int64{}
	for id, offset := range visible {
		if m := l.messages[id]; m != nil {
			newest[m.key] = max(newest[m.key], offset)
		}
	}
	for id, m := range l.messages {
		_, seen := visible[id]
		switch {
		case m.attempt == nil || !m.acked || m.offset < logStart:
		case m.attempt.txn == nil && !l.life.compact && !seen:
			return fmt.Errorf("%s, of no transaction, cannot be seen by readers of committed records", id)
		case m.attempt.txn != nil && (seen || !l.life.compact): // what cannot be seen may have been replaced
			count(tallies, m.attempt.txn, seen)
		}
	}
	if !l.life.compact {
		return nil
	}
	for key, m := range l.lastKey {
		at, seen := newest[key]
		if m.attempt != nil && m.offset >= logStart && !m.tombstone && !l.buried[key] && (!seen || at < m.offset) {
			return fmt.Errorf("%s, the last of its key, cannot be seen by readers of committed records", m.id)
		}
	}
	return nil
}

// tallyOffsets counts the offsets of transactions in doubt, unless others may have replaced them.
func (e *expectation) tallyOffsets(ctx context.Context, b *broker.Broker, tallies map[*transaction]*tally) error {
	for i, c := range e.commits {
		if sure, maybe := c.txn.committed(e.at, e.acks); c.txn == nil || sure || !maybe || c.begun > e.at {
			continue
		}
		replaced := slices.ContainsFunc(e.commits[i+1:], func(later *commit) bool {
			return later.begun <= e.at && later.group == c.group && later.tp == c.tp
		})
		if replaced {
			continue
		}
		found, err := b.Groups().Offsets(ctx, c.group, []group.TopicPartition{c.tp})
		if err != nil {
			return err
		}
		got, ok := found[c.tp]
		count(tallies, c.txn, ok && got.Offset == c.offset)
	}
	return nil
}

// committed returns the ids that a reader of committed records sees, and where.
func committed(p *topic.Partition) (map[string]int64, error) {
	bounds, visible := p.Offsets(), map[string]int64{}
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
				visible[messageID(&r)] = r.Offset
			}
			at, rest = h.LastOffset()+1, rest[h.Size():]
		}
	}
	return visible, nil
}
