package txn

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/millstream-io/millstream/broker/topic"
)

// Writer is a transactional producer in this process, of version V2. It does
// what a client does over the network, and waits for the disk less often:
//
//   - That a transaction has begun is on record only with its decision. Batches without one, which a
//     power cut may leave, are found and aborted at the next start, as those of clients are.
//   - Commit returns when the decision is durable and all readers see it. Its markers need not be durable: those
//     that a power cut takes are written again at the next start, because of the decision, which is
//     why nothing takes the decision's place in the journal before they are.
//
// A Writer is used by one goroutine at a time. After ErrFenced,
// ErrInvalidState and ErrUnknownProducer it is of no more use: its transaction was aborted.
type Writer struct {
	c *Coordinator
	t *transaction
	p Producer
}

// NewWriter becomes the producer of a transactional id, as InitProducer does.
func NewWriter(ctx context.Context, c *Coordinator, id string, timeout time.Duration) (*Writer, error) {
	p, err := c.InitProducer(ctx, id, NoProducer, timeout)
	if err != nil {
		return nil, err
	}
	t, err := c.find(id)
	if err != nil {
		return nil, err
	}
	return &Writer{c: c, t: t, p: p}, nil
}

// Producer is the producer of the present transaction; every transaction has another one.
func (w *Writer) Producer() Producer { return w.p }

// Add makes partitions part of the transaction, which begins with the first of them.
func (w *Writer) Add(partitions ...Partition) error {
	w.t.mu.Lock()
	defer w.t.mu.Unlock()
	next, changed, err := w.t.add(w.p, partitions, V2, time.Now())
	if err == nil && w.t.dead {
		err = errForgotten
	}
	if err == nil && changed {
		err = w.c.partitions.check(len(next.partitions) - len(w.t.partitions))
	}
	if err != nil {
		return w.explain(err)
	}
	if changed {
		w.c.enter(w.t, &next)
	}
	return nil
}

// Within is the coordinator's Within.
func (w *Writer) Within(tp Partition, f func() error) error {
	w.t.mu.RLock()
	defer w.t.mu.RUnlock()
	if err := w.t.holds(w.p, tp); err != nil {
		return w.explain(err)
	}
	return f()
}

// While runs f while this is the producer in force, with or without a
// transaction: nobody takes the transactional id over meanwhile. f must not wait for anything.
func (w *Writer) While(f func() error) error {
	w.t.mu.RLock()
	defer w.t.mu.RUnlock()
	err := w.t.owns(w.p)
	if err == nil && w.t.dead {
		err = errForgotten
	}
	if err != nil {
		return w.explain(err)
	}
	return f()
}

// Marked lists where the markers of the last transaction end that may not
// survive a power cut yet. Commit waits until they do; who has other things to flush before does so at the same time.
func (w *Writer) Marked() iter.Seq2[*topic.Partition, int64] {
	w.t.mu.RLock()
	marked := w.t.marked
	w.t.mu.RUnlock()
	return func(yield func(*topic.Partition, int64) bool) {
		for _, m := range marked {
			if !yield(m.partition, m.end) {
				return
			}
		}
	}
}

// Commit commits the transaction: durable, and seen by every reader, on return.
// What the transaction has written must be durable before. With an error
// nothing is decided, unless it is ErrJournal: then what was decided may be carried out as soon as the
// journal can be flushed, and if it has failed for good, the next start tells.
func (w *Writer) Commit(ctx context.Context) error {
	c, t := w.c, w.t
	if err := c.lockSettled(ctx, t); err != nil {
		return err
	}
	done, err := t.end(w.p, true, V2)
	if err == nil && done {
		err = t.fenced(w.p) // somebody else has ended it in its name
	}
	if err == nil && t.dead {
		err = errForgotten
	}
	if err == nil {
		err = c.decide(ctx, t, true, V2)
	}
	decided, last := t.metadata, t.last
	t.mu.Unlock()
	if err != nil {
		return w.explain(err)
	}
	w.p = decided.producer
	if decided.next.ID >= 0 {
		w.p = decided.next
		return c.finish(ctx, t) // another producer id comes into force with the record that this one is complete
	}
	durable := context.WithoutCancel(ctx)
	if err := c.journal.waitDurable(durable, last); err != nil {
		c.finishLater(t, err)
		return err
	}
	marked, err := c.markers.end(durable, &decided)
	if err != nil {
		c.finishLater(t, err)
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	next := t.complete(time.Now())
	c.enter(t, &next)
	t.marked = marked
	return nil
}

// Abort aborts the transaction, durably.
func (w *Writer) Abort(ctx context.Context) error {
	p, err := w.c.End(ctx, w.t.id, w.p, false, V2)
	if err == nil {
		w.p = p
	}
	return err
}

func (w *Writer) explain(err error) error { return fmt.Errorf("transaction %q: %w", w.t.id, err) }

var errForgotten = fmt.Errorf("%w: the transactional id was not used for long and is forgotten", ErrUnknownProducer)
