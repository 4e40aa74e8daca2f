package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millstream-io/millstream/broker/commitlog"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// maxFetchWait bounds a client's max wait, so that the goroutine of a client
// that has vanished comes back.
const maxFetchWait = 5 * time.Minute

// Fetch: v4-18
//
// Answers as soon as MinBytes are there, MaxWait is over, a partition has an
// error or the broker stops. A waiting fetch is woken by appends to its own
// partitions, there is no polling. The first batch is returned whatever its
// size (KIP-74); the size limits are soft by one batch. Batches go from the
// log into the response's buffer without a copy between. Readers of committed
// records (isolation level 1) get what lies before the last stable offset, and
// the aborted transactions in it.
//
// Omitted: fetch sessions (KIP-227: the answer's session id 0 tells clients to
// go on with full fetches); followers and preferred replicas.
func (s *Service) fetch(ctx context.Context, c *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.FetchRequest)
	f := s.planFetch(req)
	if !f.satisfied(c, req) {
		s.awaitFetch(ctx, c, req, f)
	}
	return &encoded{out: f.out}, nil
}

// awaitFetch tries again whenever one of the partitions has changed.
func (s *Service) awaitFetch(ctx context.Context, c *Client, req *kmsg.FetchRequest, f *fetchPlan) {
	wake := make(chan struct{}, 1)
	for i := range f.topics {
		for j := range f.topics[i].partitions {
			if p := f.topics[i].partitions[j].partition; p != nil {
				defer p.Notify(wake)()
			}
		}
	}
	timer := time.NewTimer(min(time.Duration(req.MaxWaitMillis)*time.Millisecond, maxFetchWait))
	defer timer.Stop()
	// Something may have been appended before the channel was registered.
	for !f.satisfied(c, req) {
		select {
		case <-wake:
		case <-timer.C:
			return
		case <-s.drained():
			return
		case <-ctx.Done():
			return
		}
	}
}

// fetchPlan is a fetch with its partitions looked up, and the last answer built for it.
type fetchPlan struct {
	version   int16
	committed bool
	maxBytes  int
	errorCode int16
	topics    []fetchTopic

	out    []byte
	bytes  int  // of records in out
	failed bool // a partition has an error
}

type fetchTopic struct {
	name       string
	id         [16]byte
	partitions []fetchPartition
}

type fetchPartition struct {
	index     int32
	offset    int64
	maxBytes  int
	partition *topic.Partition // nil if err
	err       error
}

func (s *Service) planFetch(req *kmsg.FetchRequest) *fetchPlan {
	limit := s.Config.MaxFetchBytes
	if limit <= 0 {
		limit = defaultMaxFetchBytes
	}
	f := &fetchPlan{version: req.Version, committed: req.IsolationLevel == 1, maxBytes: int(max(0, min(req.MaxBytes, limit)))}
	if req.SessionID != 0 && req.SessionEpoch > 0 {
		f.errorCode = kerr.FetchSessionIDNotFound.Code
		return f
	}
	f.topics = make([]fetchTopic, len(req.Topics))
	for i := range req.Topics {
		rt, t := &req.Topics[i], &f.topics[i]
		t.name, t.id = rt.Topic, rt.TopicID
		name := rt.Topic
		var unknown error
		if req.Version >= 13 {
			info, ok := s.Topics.LookupID(rt.TopicID)
			if name = info.Name; !ok {
				unknown = kerr.UnknownTopicID
			}
		}
		t.partitions = make([]fetchPartition, len(rt.Partitions))
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			t.partitions[j] = s.planPartition(name, rp, unknown)
		}
	}
	return f
}

func (s *Service) planPartition(name string, rp *kmsg.FetchRequestTopicPartition, unknown error) fetchPartition {
	p := fetchPartition{index: rp.Partition, offset: rp.FetchOffset, maxBytes: int(max(0, rp.PartitionMaxBytes)), err: unknown}
	if p.err != nil {
		return p
	}
	if p.partition, p.err = s.Topics.Partition(name, rp.Partition); p.err != nil {
		return p
	}
	p.err = checkLeaderEpoch(p.partition, rp.CurrentLeaderEpoch)
	return p
}

// checkLeaderEpoch compares the epoch that a client believes in with the partition's; -1 is no belief.
func checkLeaderEpoch(p *topic.Partition, epoch int32) error {
	switch own := p.LeaderEpoch(); {
	case epoch < 0 || epoch == own:
		return nil
	case epoch < own:
		return fmt.Errorf("%w: %d, the leader epoch is %d", kerr.FencedLeaderEpoch, epoch, own)
	default:
		return fmt.Errorf("%w: %d, the leader epoch is %d", kerr.UnknownLeaderEpoch, epoch, own)
	}
}

// satisfied builds an answer and reports whether it need not wait for more.
func (f *fetchPlan) satisfied(c *Client, req *kmsg.FetchRequest) bool {
	f.encode(c.out)
	c.out = f.out[:len(c.out)] // if it has grown, the next try need not grow it again
	return f.bytes >= int(req.MinBytes) || f.failed || len(f.topics) == 0 || req.MaxWaitMillis <= 0
}

// read appends the records of a partition to dst, if the budget allows.
func (f *fetchPlan) read(p *fetchPartition, dst []byte) ([]byte, error) {
	if p.err != nil {
		return dst, p.err
	}
	budget := min(p.maxBytes, f.maxBytes-f.bytes)
	if budget <= 0 && f.bytes > 0 {
		return dst, nil
	}
	return p.partition.Read(dst, topic.ReadOptions{Offset: p.offset, MaxBytes: budget, Committed: f.committed})
}

// offsetsOf returns what is told of a partition's offsets, also with OFFSET_OUT_OF_RANGE.
func offsetsOf(p *fetchPartition, err error) topic.Offsets {
	if p.partition == nil || (err != nil && !errors.Is(err, commitlog.ErrOffsetOutOfRange)) {
		return topic.Offsets{LogStart: -1, HighWatermark: -1, LastStable: -1}
	}
	return p.partition.Offsets()
}
