package kafka

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millstream-io/millstream/runtime/engine"
)

// Append implements engine.Engine. Records without a key go to one partition, another one with each call.
func (k *kafka) Append(ctx context.Context, topic string, records []engine.Record) error {
	if _, err := k.cluster.topic(ctx, topic, metadataMaxAge); err != nil {
		return err
	}
	if len(records) == 0 {
		return nil
	}
	k.appending.Lock()
	defer k.appending.Unlock()
	for {
		w := k.appender
		if w == nil {
			w = newWriter(context.Background(), k.cluster, "", k.implicit, 0, 0)
			if err := w.claim(ctx); err != nil {
				return err
			}
			k.appender = w
		}
		err := w.append(ctx, topic, records)
		if err == nil {
			w.settled()
			return nil
		}
		w.stop()
		k.appender = nil // what of it was written is not known
		// A topic that was made anew refuses the sequence of the one before.
		remade := errors.Is(err, errRemade) || errors.Is(err, kerr.OutOfOrderSequenceNumber)
		if !remade || w.touched {
			return fmt.Errorf("append to %q: %w", topic, err)
		}
	}
}

// append writes records and waits until they are acknowledged.
func (w *writer) append(ctx context.Context, topic string, records []engine.Record) error {
	w.outputs.inputPartition = rand.Int32()
	w.outputs.begin(nil)
	for i := range records {
		if err := w.outputs.addTo(ctx, topic, &records[i]); err != nil {
			return err
		}
		if err := w.waitForRoom(ctx); err != nil {
			return err
		}
	}
	return w.flush(ctx)
}

// Update implements engine.Engine. Who updates claims the topic's producer, and so fences whoever
// was about to.
func (k *kafka) Update(ctx context.Context, topic string, f func(context.Context) ([]engine.Record, error)) error {
	if _, err := k.cluster.topic(ctx, topic, metadataMaxAge); err != nil {
		return err
	}
	var p pauses
	for {
		err := k.update(ctx, topic, f)
		if err == nil || !errors.Is(err, engine.ErrFenced) && !errors.Is(err, engine.ErrAborted) {
			return err
		}
		if p.wait(ctx) != nil {
			return fmt.Errorf("update %q: %w: %w", topic, ctx.Err(), err)
		}
	}
}

func (k *kafka) update(ctx context.Context, topic string, f func(context.Context) ([]engine.Record, error)) error {
	life, cancel := context.WithCancel(context.Background())
	defer cancel()
	w := newWriter(life, k.cluster, engine.UpdateID(topic), k.implicit, k.o.TransactionTimeout, 0)
	if err := w.claim(ctx); err != nil {
		return err
	}
	defer w.stop()
	read := &reading{topic: topic, ends: engine.Positions{}}
	records, err := f(context.WithValue(ctx, readingKey{}, read))
	if err != nil || len(records) == 0 {
		return err
	}
	err = w.append(ctx, topic, records)
	if err == nil {
		err = k.cluster.complete(ctx, read, w.first)
	}
	if err != nil {
		w.close(ctx)
		return fmt.Errorf("update %q: %w", topic, err)
	}
	wrote, id, epoch := w.first, w.id, w.epoch
	unanswered, err := w.end(ctx, true)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("update %q: %w", topic, explain(err))
	if !unanswered {
		return err
	}
	// Whether it has happened is in the log, once the transaction has ended.
	if failed := w.claim(ctx); failed != nil {
		return fmt.Errorf("%w; whether it was written is not known: %v", err, failed)
	}
	committed, failed := k.cluster.holds(ctx, wrote, id, epoch)
	switch {
	case failed != nil:
		return fmt.Errorf("%w; whether it was written is not known: %v", err, failed)
	case committed:
		return nil
	}
	return fmt.Errorf("%w: %v", engine.ErrAborted, err)
}

// reading is how far the function of an update has read its topic; ReadAll finds it in the context.
type reading struct {
	topic string
	ends  engine.Positions
}

type readingKey struct{}

// complete returns an error if an update was made without knowledge of records before its own first one. A node that takes
// itself for the leader, and is none any more, does not tell of the last ones; but it does not take writes either, so
// who took this one knows them all.
func (c *cluster) complete(ctx context.Context, read *reading, first place) error {
	at, ok := read.ends[first.tp.Partition]
	for ok && at < first.offset {
		var between chunk
		err := retry(ctx, retryTimeout, func() (err error) {
			between, err = c.fetch(ctx, first.tp, at)
			return err
		})
		switch {
		case err != nil:
			return explain(err)
		case len(between.batches) > 0 && between.batches[0].header.BaseOffset < first.offset:
			return fmt.Errorf("%w: %s-%d was read up to offset %d, and there are records behind it", engine.ErrAborted, first.tp.Topic, first.tp.Partition, at)
		}
		ok, at = between.next > at, between.next // what others have not ended yet counts for nothing
	}
	return nil
}

// holds reports whether a batch that a producer wrote is there for readers of committed records.
func (c *cluster) holds(ctx context.Context, at place, producer int64, epoch int16) (found bool, err error) {
	err = retry(ctx, retryTimeout, func() error {
		chunk, err := c.fetch(ctx, at.tp, at.offset)
		if err != nil {
			return err
		}
		if chunk.next <= at.offset {
			return kerr.OffsetNotAvailable // the transaction's end is not everywhere yet
		}
		for i := range chunk.batches {
			h := &chunk.batches[i].header
			found = found || h.BaseOffset == at.offset && h.ProducerID == producer && h.ProducerEpoch == epoch
		}
		return nil
	})
	return found, err
}
