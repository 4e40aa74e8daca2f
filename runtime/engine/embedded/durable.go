package embedded

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/millstream-io/millstream/broker/topic"
)

// ends are positions of partitions that have to survive a power cut.
type ends []end

type end struct {
	partition *topic.Partition
	offset    int64
}

// add asks for a partition up to an offset.
func (e *ends) add(p *topic.Partition, offset int64) {
	for i := range *e {
		if have := &(*e)[i]; have.partition == p {
			have.offset = max(have.offset, offset)
			return
		}
	}
	*e = append(*e, end{p, offset})
}

// wait returns once all of them survive a power cut; their files are flushed at the same time.
func (e ends) wait(ctx context.Context) error {
	if len(e) == 0 {
		return nil
	}
	errs := make([]error, len(e))
	var waiting sync.WaitGroup
	for i := 1; i < len(e); i++ {
		waiting.Go(func() { errs[i] = e[i].wait(ctx) })
	}
	errs[0] = e[0].wait(ctx)
	waiting.Wait()
	return errors.Join(errs...)
}

func (e *end) wait(ctx context.Context) error {
	err := e.partition.WaitDurable(ctx, e.offset)
	if err == nil || errors.Is(err, topic.ErrUnknownTopic) { // nobody misses the records of a deleted topic
		return nil
	}
	return fmt.Errorf("flush %s-%d: %w", e.partition.Topic(), e.partition.Index(), err)
}
