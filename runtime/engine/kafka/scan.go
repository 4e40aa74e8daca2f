package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/engine/batch"
)

// endingWait is how long ReadAll waits, all in all, for transactions that are being ended: the answer to a commit
// comes before its markers are in all logs, and who committed wants to read what it wrote.
const endingWait = time.Second

// ReadAll implements engine.Engine.
func (k *kafka) ReadAll(ctx context.Context, topic string, from engine.Positions, f func(partition int32, r engine.Record) error) (engine.Positions, error) {
	info, err := k.cluster.topic(ctx, topic, 0)
	if err != nil {
		return nil, err
	}
	partitions := make([]engine.TopicPartition, len(info.leaders))
	for i := range partitions {
		partitions[i] = engine.TopicPartition{Topic: topic, Partition: int32(i)}
	}
	starts, err := k.cluster.listOffsets(ctx, partitions, earliest, false)
	if err != nil {
		return nil, err
	}
	ends, err := k.cluster.listOffsets(ctx, partitions, latest, false)
	if err != nil {
		return nil, err
	}
	at := make(engine.Positions, len(partitions))
	var s scan
	for _, tp := range partitions {
		position := max(starts[tp], from[tp.Partition])
		if at[tp.Partition], err = s.read(ctx, k.cluster, tp, position, ends[tp], f); err != nil {
			return nil, err
		}
	}
	if read, ok := ctx.Value(readingKey{}).(*reading); ok && read.topic == topic {
		read.ends = at
	}
	return at, nil
}

// scan reads records outside any session, into one set of buffers.
type scan struct {
	fetch  batch.Fetch
	waited time.Duration // for open transactions
}

// read calls f for the committed records of a partition from position to end, and returns where it got to.
func (s *scan) read(ctx context.Context, c *cluster, tp engine.TopicPartition, position, end int64, f func(int32, engine.Record) error) (int64, error) {
	var p pauses
	stuck := time.Now()
	for position < end {
		chunk, err := c.fetch(ctx, tp, position)
		switch {
		case err != nil && again(err, time.Since(stuck), retryTimeout):
			if p.wait(ctx) != nil {
				return position, ctx.Err()
			}
			continue
		case err != nil && len(chunk.batches) == 0:
			return position, explain(fmt.Errorf("read %s-%d from offset %d: %w", tp.Topic, tp.Partition, position, err))
		case chunk.next == position:
			// The rest belongs to open transactions.
			if s.waited > endingWait {
				return position, nil
			}
			if p.wait(ctx) != nil {
				return position, ctx.Err()
			}
			s.waited += p.last
			continue
		}
		p, stuck = pauses{}, time.Now()
		next, err := s.hand(chunk, tp, position, end, f)
		if err != nil {
			return next, err
		}
		position = next
	}
	return position, nil
}

// hand calls f for the records of a chunk below end.
func (s *scan) hand(c chunk, tp engine.TopicPartition, position, end int64, f func(int32, engine.Record) error) (int64, error) {
	s.fetch.Begin(position)
	for i := range c.batches {
		if err := s.fetch.Append(c.batches[i].bytes, &c.batches[i].header); err != nil {
			return position, explain(fmt.Errorf("read %s-%d: %w", tp.Topic, tp.Partition, corrupt(err)))
		}
	}
	for i := range s.fetch.Len() {
		r := s.fetch.Record(i)
		if r.Offset >= end {
			return end, nil
		}
		if err := f(tp.Partition, r); err != nil {
			return r.Offset, err
		}
	}
	return min(c.next, end), nil
}

// fetch asks for what a partition has from offset on, without waiting.
func (c *cluster) fetch(ctx context.Context, tp engine.TopicPartition, offset int64) (chunk, error) {
	leader, err := c.leader(ctx, tp)
	if err == nil && leader.node < 0 {
		c.moved(tp.Topic)
		err = kerr.LeaderNotAvailable
	}
	if err != nil {
		return chunk{}, err
	}
	req := kmsg.NewPtrFetchRequest()
	req.MinBytes, req.MaxBytes, req.IsolationLevel = 0, fetchBytes, 1
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = tp.Topic, c.id(tp.Topic)
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = tp.Partition, offset, fetchPartitionBytes, leader.epoch
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	response, err := c.client.Broker(int(leader.node)).Request(ctx, req)
	if err != nil {
		c.moved(tp.Topic)
		return chunk{}, err
	}
	answer := response.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(answer.ErrorCode); err != nil {
		return chunk{}, err
	}
	if len(answer.Topics) != 1 || len(answer.Topics[0].Partitions) != 1 {
		return chunk{}, errors.New("the answer is about other partitions")
	}
	a := &answer.Topics[0].Partitions[0]
	switch err := kerr.ErrorForCode(a.ErrorCode); {
	case errors.Is(err, kerr.OffsetOutOfRange):
		return c.behindStart(ctx, tp, offset)
	case err != nil:
		c.moved(tp.Topic)
		return chunk{}, err
	}
	got, err := split(a.RecordBatches, offset, abortedOf(a))
	return got, corrupt(err)
}

// behindStart is an empty chunk up to the log's start, if that is where offset is not within the log: retention has removed
// what was there. One behind the end is not on this broker yet.
func (c *cluster) behindStart(ctx context.Context, tp engine.TopicPartition, offset int64) (chunk, error) {
	starts, err := c.listOffsets(ctx, []engine.TopicPartition{tp}, earliest, false)
	if err != nil {
		return chunk{}, err
	}
	if starts[tp] <= offset {
		c.moved(tp.Topic)
		return chunk{}, fmt.Errorf("%w: offset %d", kerr.OffsetNotAvailable, offset)
	}
	return chunk{next: starts[tp]}, nil
}

// Follow implements engine.Engine.
func (k *kafka) Follow(ctx context.Context, topic string, from engine.Positions, f func(partition int32, r engine.Record) error) error {
	client, err := kgo.NewClient(k.options...) // its fetches wait, so they need connections of their own
	if err != nil {
		return err
	}
	defer client.Close()
	c := newCluster(client)
	fetcher := newFetcher(c, k.log)
	defer fetcher.close()
	x := &following{c: c, fetcher: fetcher, topic: topic, from: from, wake: make(chan struct{}, 1)}
	grown := time.NewTicker(metadataMaxAge)
	defer grown.Stop()
	for {
		if err := x.extend(ctx); err != nil {
			return err
		}
		for again := true; again; {
			if again, err = x.hand(f); err != nil {
				return err
			}
			if !again {
				select {
				case <-x.wake:
					again = true
				case <-grown.C:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
	}
}

// following is a topic that is followed.
type following struct {
	c       *cluster
	fetcher *fetcher
	topic   string
	from    engine.Positions
	feeds   []*feed
	wake    chan struct{} // of all feeds
	scan    scan
	at      []int64
}

// extend follows partitions that are new.
func (x *following) extend(ctx context.Context) error {
	info, err := x.c.topic(ctx, x.topic, 0)
	if err != nil {
		return err
	}
	for i := len(x.feeds); i < len(info.leaders); i++ {
		tp := engine.TopicPartition{Topic: x.topic, Partition: int32(i)}
		offset, given := x.from[tp.Partition]
		if !given {
			starts, err := x.c.listOffsets(ctx, []engine.TopicPartition{tp}, earliest, false)
			if err != nil {
				return err
			}
			offset = starts[tp]
		}
		x.feeds, x.at = append(x.feeds, x.fetcher.addTo(tp, offset, x.wake)), append(x.at, offset)
	}
	return nil
}

// hand calls f for what there is, and reports whether that was anything.
func (x *following) hand(f func(int32, engine.Record) error) (any bool, err error) {
	for i, feed := range x.feeds {
		for {
			b, next, ok, err := x.fetcher.take(feed, 1<<30)
			if err != nil {
				return any, err
			}
			if !ok {
				break
			}
			any = true
			c := chunk{next: next}
			if b != nil {
				c.batches = []readBatch{*b}
			}
			if x.at[i], err = x.scan.hand(c, feed.tp, x.at[i], 1<<63-1, f); err != nil {
				return any, err
			}
		}
	}
	return any, nil
}
