package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/topic"
)

const (
	// After a round the next one begins when outputs of roundBytes are waiting, or after roundInterval.
	// Nobody waits for an offset, and appends that meet an fsync of their file cost half as much
	// again, so rounds are few and large.
	roundBytes    = 16 << 20
	roundInterval = 100 * time.Millisecond
	// behindBytes is how much output may wait for the disk before Commit waits too.
	behindBytes = 64 << 20
	// retryInterval is how long a journal that refuses writes is left alone.
	retryInterval = time.Second
)

// committer lets the offsets of one session follow its outputs, in rounds:
// everything committed so far is made durable, inputs and outputs, and then its
// offset is handed to the coordinator. So an offset never survives what it stands for.
type committer struct {
	s *session

	mu       sync.Mutex
	next     int64                      // the newest offset to commit
	waiting  bool                       // next has not been handed on
	outputs  map[*topic.Partition]int64 // ends that have to be durable before
	bytes    int                        // of outputs since the last round began
	inFlight int                        // of the round that runs
	closing  bool                       // flush: without delay
	failed   error                      // of the last round
	changed  chan struct{}              // closed and replaced when a round ends
	lastRun  time.Time

	kick    chan struct{}
	ctx     context.Context
	cancel  context.CancelFunc
	stopped chan struct{}
}

func newCommitter(s *session) *committer {
	c := &committer{
		s: s, outputs: map[*topic.Partition]int64{}, changed: make(chan struct{}),
		kick: make(chan struct{}, 1), stopped: make(chan struct{}),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	go c.run()
	return c
}

// stop ends the committer; what is pending is dropped.
func (c *committer) stop() {
	c.cancel()
	<-c.stopped
}

// written notes what an append of the open batch wrote.
func (c *committer) written(p *topic.Partition, end int64, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outputs[p] = max(c.outputs[p], end)
	c.bytes += bytes
}

// commit asks for next to be committed once everything written so far is durable.
func (c *committer) commit(next int64) {
	c.mu.Lock()
	first := !c.waiting
	c.next, c.waiting = next, true
	full := c.bytes >= roundBytes
	c.mu.Unlock()
	if first || full {
		c.wake()
	}
}

func (c *committer) wake() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// room waits until no more than behindBytes wait for the disk.
func (c *committer) room(ctx context.Context) error {
	for {
		c.mu.Lock()
		behind, failed, changed := c.bytes+c.inFlight, c.failed, c.changed
		c.mu.Unlock()
		if behind < behindBytes {
			return nil
		}
		if failed != nil {
			return failed
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-c.stopped:
			return c.s.alive()
		}
	}
}

// flush returns when everything committed has been handed to the coordinator.
func (c *committer) flush(ctx context.Context) error {
	c.mu.Lock()
	c.closing = true
	c.failed = nil
	c.mu.Unlock()
	c.wake()
	for {
		c.mu.Lock()
		waiting, failed, changed := c.waiting, c.failed, c.changed
		c.mu.Unlock()
		if !waiting {
			return nil
		}
		if failed != nil {
			return failed
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("close session of %s-%d: its last offset is not committed: %w", c.s.tp.Topic, c.s.tp.Partition, ctx.Err())
		case <-c.stopped:
			return nil
		}
	}
}

func (c *committer) run() {
	defer close(c.stopped)
	timer := time.NewTimer(roundInterval)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case <-c.kick:
		case <-timer.C:
		case <-c.ctx.Done():
			return
		}
		for {
			wait, due := c.due()
			if !due {
				break
			}
			if wait > 0 {
				timer.Reset(wait)
				break
			}
			if err := c.round(); err != nil {
				if c.ctx.Err() != nil {
					return
				}
				timer.Reset(retryInterval)
				break
			}
		}
	}
}

// due reports whether a round has to run, and in how long.
func (c *committer) due() (wait time.Duration, due bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.waiting {
		return 0, false
	}
	if c.closing || c.bytes >= roundBytes {
		return 0, true
	}
	return roundInterval - time.Since(c.lastRun), true
}

// round makes durable what is pending and commits its offset. What is written
// meanwhile belongs to the next round.
func (c *committer) round() error {
	c.mu.Lock()
	next, outputs := c.next, c.outputs
	c.outputs = map[*topic.Partition]int64{}
	c.inFlight, c.bytes = c.bytes, 0
	c.lastRun = time.Now()
	c.mu.Unlock()

	err := c.makeDurable(next, outputs)
	if err == nil {
		err = c.s.commitBehind(c.ctx, next)
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && c.ctx.Err() == nil {
		// Nothing is lost: the next round waits for all of it again.
		for p, end := range outputs {
			c.outputs[p] = max(c.outputs[p], end)
		}
		c.bytes += c.inFlight
		if c.failed == nil {
			c.s.m.e.log.Error("offsets cannot follow the outputs", slog.String("group", c.s.m.g.Name), slog.String("topic", c.s.tp.Topic),
				slog.Int("partition", int(c.s.tp.Partition)), slog.Int64("offset", next), slog.Any("error", err))
		}
	}
	c.failed = err
	c.inFlight = 0
	if err == nil && c.next == next {
		c.waiting = false
	}
	close(c.changed)
	c.changed = make(chan struct{})
	return err
}

// makeDurable waits for the inputs, lest a power cut takes back records that are
// committed as read, and for the outputs.
func (c *committer) makeDurable(next int64, outputs map[*topic.Partition]int64) error {
	end := min(next, c.s.partition.Offsets().LogEnd)
	if err := c.s.partition.WaitDurable(c.ctx, end); err != nil {
		return explain(fmt.Errorf("flush input %s-%d: %w", c.s.tp.Topic, c.s.tp.Partition, err))
	}
	for p, end := range outputs {
		err := p.WaitDurable(c.ctx, end)
		if err != nil && !errors.Is(err, topic.ErrUnknownTopic) { // nobody misses the records of a deleted topic
			return explain(fmt.Errorf("flush output %s-%d: %w", p.Topic(), p.Index(), err))
		}
	}
	return nil
}

// commitBehind hands an offset to the coordinator, in the name of the member's present generation.
func (s *session) commitBehind(ctx context.Context, next int64) error {
	if s.partition.Deleted() { // when this is tried again, what would be overwritten and taken back may be the next topic's
		return explain(inputDeleted(s.tp.Topic))
	}
	offsets := offsetEntry(s.tp, next)
	err := s.m.asMember(ctx, s, func(id group.Identity) error { return s.commitAsync(ctx, id, offsets, nil) })
	return explain(s.m.takeBack(ctx, s.tp.Topic, err))
}
