package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millstream-io/millstream/broker/commitlog"
	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// maxFetchWait bounds a client's max wait.
const maxFetchWait = 5 * time.Minute

// Fetch: v4-18
//
// Answers as soon as MinBytes are there, MaxWait is over, a partition has an
// error, the broker stops or the client has gone. A waiting fetch is woken by
// appends to its own partitions, there is no polling. The first batch is
// returned whatever its size (KIP-74); the size limits are soft by one batch.
// Batches go from the log into the response's buffer without a copy between.
// From v7 on a session (KIP-227) saves naming all partitions in every request
// and those without news in every answer.
//
// Omitted: followers and preferred replicas.
func (s *Service) fetch(ctx context.Context, c *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.FetchRequest)
	f := s.planFetch(c, req)
	for _, p := range f.partitions {
		s.lookUp(p, req.Version)
	}
	if !f.satisfied(c, req) {
		if err := s.awaitFetch(ctx, c, req, f); err != nil {
			return nil, err
		}
	}
	if f.session != nil {
		f.session.answered()
	}
	return &encoded{out: f.out}, nil
}

// awaitFetch tries again whenever one of the partitions has changed. The error says that nobody waits any more.
func (s *Service) awaitFetch(ctx context.Context, c *Client, req *kmsg.FetchRequest, f *fetchPlan) error {
	ctx, stop := c.attend(ctx)
	defer stop()
	wake := make(chan struct{}, 1)
	for _, p := range f.partitions {
		if p.partition != nil {
			defer p.partition.Notify(wake)()
		}
	}
	timer := time.NewTimer(min(time.Duration(req.MaxWaitMillis)*time.Millisecond, maxFetchWait))
	defer timer.Stop()
	// Something may have been appended before the channel was registered.
	for !f.satisfied(c, req) {
		select {
		case <-wake:
		case <-timer.C:
			return nil
		case <-s.drained():
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// fetchPlan is a fetch with its partitions, and the last answer built for it.
type fetchPlan struct {
	version    int16
	committed  bool
	newsOnly   bool // an incremental fetch: partitions without news are left out of the answer
	minBytes   int
	maxBytes   int
	errorCode  int16
	sessionID  int32
	session    *fetchSession // nil without a session
	partitions []*fetchPartition

	out     []byte
	bytes   int  // of records in out
	failed  bool // a partition has an error
	limited bool // a partition has more than its limits let through: waiting would not change that
}

// fetchPartition is what is fetched of a partition. In a session it lives from fetch to fetch.
type fetchPartition struct {
	name        string // of the topic as the client names it: by name or
	id          topic.ID
	index       int32
	offset      int64
	leaderEpoch int32 // that the client believes in
	maxBytes    int

	partition *topic.Partition // nil if err
	err       error

	answered bool // it is in the answer in the making
	bytes    int  // of its records there
	offsets  topic.Offsets
	told     topic.Offsets // as last sent to the client
}

func newFetchPartition(rt *kmsg.FetchRequestTopic, rp *kmsg.FetchRequestTopicPartition) fetchPartition {
	return fetchPartition{name: rt.Topic, id: rt.TopicID, index: rp.Partition, offset: rp.FetchOffset,
		leaderEpoch: rp.CurrentLeaderEpoch, maxBytes: int(max(0, rp.PartitionMaxBytes)), told: unknownOffsets()}
}

// planFetch takes up the partitions of a request, or of the session that it goes on with.
func (s *Service) planFetch(c *Client, req *kmsg.FetchRequest) *fetchPlan {
	limit := s.Config.MaxFetchBytes
	if limit <= 0 {
		limit = defaultMaxFetchBytes
	}
	f := &fetchPlan{version: req.Version, committed: req.IsolationLevel == 1, minBytes: int(req.MinBytes), maxBytes: int(max(0, min(req.MaxBytes, limit)))}
	if req.SessionEpoch > 0 {
		if err := c.sessions.resume(s, f, req); err != nil {
			f.errorCode = code(err)
		}
		return f
	}
	count := 0
	for i := range req.Topics {
		count += len(req.Topics[i].Partitions)
	}
	all := make([]fetchPartition, 0, count)
	f.partitions = make([]*fetchPartition, 0, count)
	for i := range req.Topics {
		rt := &req.Topics[i]
		for j := range rt.Partitions {
			all = append(all, newFetchPartition(rt, &rt.Partitions[j]))
			f.partitions = append(f.partitions, &all[len(all)-1])
		}
	}
	c.sessions.restart(s, f, req)
	return f
}

// lookUp finds the live partition; topics may have come and gone since the last fetch.
func (s *Service) lookUp(p *fetchPartition, version int16) {
	name := p.name
	if version >= fetchTopicID {
		info, ok := s.Topics.LookupID(p.id)
		if !ok {
			p.partition, p.err = nil, kerr.UnknownTopicID
			return
		}
		name = info.Name
	}
	if p.partition, p.err = s.Topics.Partition(name, p.index); p.err == nil {
		p.err = checkLeaderEpoch(p.partition, p.leaderEpoch)
	}
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
	return f.bytes >= f.minBytes || f.failed || f.limited || len(f.partitions) == 0 || req.MaxWaitMillis <= 0
}

// hasNews reports whether there is more to say of a partition than was told before.
func (p *fetchPartition) hasNews(committed bool) bool {
	if p.err != nil {
		return true
	}
	o := p.partition.Offsets()
	end := o.HighWatermark
	if committed {
		end = o.LastStable
	}
	return p.offset < end || p.offset > o.HighWatermark || o.HighWatermark != p.told.HighWatermark ||
		o.LastStable != p.told.LastStable || o.LogStart != p.told.LogStart
}

// read appends the records of a partition to dst, if the budget allows.
func (f *fetchPlan) read(p *fetchPartition, dst []byte) ([]byte, error) {
	if p.err != nil {
		return dst, p.err
	}
	budget := min(p.maxBytes, f.maxBytes-f.bytes)
	if f.minBytes <= 1 { // else what is held back might be what the client waits for
		budget = min(budget, usualSizeMax)
	}
	if budget <= 0 && f.bytes > 0 {
		return dst, nil
	}
	before := len(dst)
	dst, err := p.partition.Read(dst, topic.ReadOptions{Offset: p.offset, MaxBytes: budget, Committed: f.committed})
	if f.minBytes > 1 && f.moreBehind(p, dst[before:]) {
		f.limited = true
	}
	return dst, err
}

// moreBehind reports whether a partition has more to give than batches.
func (f *fetchPlan) moreBehind(p *fetchPartition, batches []byte) bool {
	next := int64(-1)
	for len(batches) > 0 {
		h, err := record.ParseHeader(batches)
		if err != nil {
			return false // whole batches come from the log
		}
		next, batches = h.LastOffset()+1, batches[h.Size():]
	}
	o := p.partition.Offsets()
	if f.committed {
		return next >= 0 && next < o.LastStable
	}
	return next >= 0 && next < o.HighWatermark
}

// unknownOffsets are told of a partition that cannot be read.
func unknownOffsets() topic.Offsets {
	return topic.Offsets{LogStart: -1, HighWatermark: -1, LastStable: -1}
}

// offsetsOf returns what is told of a partition's offsets, also with OFFSET_OUT_OF_RANGE.
func offsetsOf(p *fetchPartition, err error) topic.Offsets {
	if p.partition == nil || (err != nil && !errors.Is(err, commitlog.ErrOffsetOutOfRange)) {
		return unknownOffsets()
	}
	return p.partition.Offsets()
}
