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

// markers writes the markers that end transactions.
type markers struct {
	topics  *topic.Topics
	offsets Offsets
}

// marker is where the marker of a transaction ends in a partition.
type marker struct {
	partition *topic.Partition
	end       int64
}

// end ends a producer's transaction in all its partitions. There is nothing to end in
// one that has no batch of it, that is gone, or that cannot be read any more.
func (w *markers) end(ctx context.Context, m *metadata) (marked []marker, err error) {
	marked = make([]marker, 0, len(m.partitions))
	var errs []error
	for _, tp := range sorted(m.partitions) {
		part, err := w.topics.Partition(tp.Topic, tp.Partition)
		if err == nil {
			end := part.Offsets().LogEnd // for the marker of an earlier attempt
			if epoch, _, open := part.OpenTransaction(m.producer.ID); open && m.ends(epoch) {
				end, err = w.append(ctx, part, m.producer, record.Marker{Commit: m.state == StatePrepareCommit})
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

// append ends a producer's transaction in a partition, which is durable when the partition is up to end.
func (w *markers) append(ctx context.Context, part *topic.Partition, p Producer, m record.Marker) (end int64, err error) {
	if part.Topic() == group.OffsetsTopic {
		return w.offsets.EndTransaction(part.Index(), p.ID, p.Epoch, m)
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

// abort ends what a producer has open in a partition, durably.
func (w *markers) abort(ctx context.Context, part *topic.Partition, p Producer, m record.Marker) error {
	end, err := w.append(ctx, part, p, m)
	if err != nil {
		return err
	}
	return part.WaitDurable(ctx, end)
}
