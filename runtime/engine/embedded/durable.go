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
	bytes     int // written since a flush began
}

// add asks for a partition up to an offset.
func (e *ends) add(p *topic.Partition, offset int64) *end {
	for i := range *e {
		if have := &(*e)[i]; have.partition == p {
			have.offset = max(have.offset, offset)
			return have
		}
	}
	*e = append(*e, end{partition: p, offset: offset})
	return &(*e)[len(*e)-1]
}

// wait returns once all of them survive a power cut; their files are flushed at the same time.
func (e ends) wait(ctx context.Context) error {
	if len(e) == 0 {
		return nil
	}
	last := len(e) - 1
	var others sync.WaitGroup
	errs := make([]error, len(e))
	for i := range last {
		others.Go(func() { errs[i] = e[i].wait(ctx) })
	}
	errs[last] = e[last].wait(ctx)
	others.Wait()
	return errors.Join(errs...)
}

func (e *end) wait(ctx context.Context) error {
	err := e.partition.WaitDurable(ctx, e.offset)
	if err == nil || errors.Is(err, topic.ErrUnknownTopic) { // nobody misses the records of a deleted topic
		return nil
	}
	return fmt.Errorf("flush %s-%d: %w", e.partition.Topic(), e.partition.Index(), err)
}

// flushBytes is how much is written to a partition ahead of a commit before
// the disk is told to begin: little enough to be done soon after the last write, and
// enough for the disk to take it in large pieces.
const flushBytes = 2 << 20

// flusher has the disk begin with what a transaction writes ahead, while it goes on, so that
// little is left to wait for when it commits. Errors show then.
type flusher struct {
	written ends
	busy    chan struct{} // holds a token while the disk is told
}

func newFlusher() *flusher { return &flusher{busy: make(chan struct{}, 1)} }

// wrote notes an append.
func (f *flusher) wrote(p *topic.Partition, offset int64, bytes int) {
	e := f.written.add(p, offset)
	if e.bytes += bytes; e.bytes < flushBytes {
		return
	}
	select {
	case f.busy <- struct{}{}:
	default:
		return // the next append asks again
	}
	e.bytes = 0
	go func() {
		topic.WriteOut(p) // may wait for room in the disk's queue
		<-f.busy
	}()
}

// wait returns once everything written survives a power cut.
func (f *flusher) wait(ctx context.Context) error { return f.written.wait(ctx) }

// reset begins anew.
func (f *flusher) reset() { f.written = f.written[:0] }

// stop returns when nothing of it runs.
func (f *flusher) stop() {
	f.busy <- struct{}{}
	<-f.busy
}
