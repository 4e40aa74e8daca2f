package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millstream-io/millstream/runtime/engine"
)

// committed is what a group has committed for a partition.
type committed struct {
	offset int64
	mark   string // the metadata, which is ours if a session of ours committed it
}

// committedOffsets returns what a group has committed for the partitions. It waits up to limit for transactions that
// are being ended, whose offsets are pending.
func (c *cluster) committedOffsets(ctx context.Context, group string, partitions []engine.TopicPartition, limit time.Duration) (map[engine.TopicPartition]committed, error) {
	found := map[engine.TopicPartition]committed{}
	if len(partitions) == 0 {
		return found, nil
	}
	var p pauses
	for began := time.Now(); ; {
		pending, err := c.askOffsets(ctx, group, partitions, true, found)
		if err != nil || len(pending) == 0 {
			return found, err
		}
		if time.Since(began) > limit {
			return found, fmt.Errorf("%w: offsets of group %q: %w", engine.ErrStorage, group, kerr.UnstableOffsetCommit)
		}
		if err := p.wait(ctx); err != nil {
			return found, err
		}
		partitions = pending
	}
}

// awaitStable waits, for a while, until no offset of a group is pending.
func (c *cluster) awaitStable(ctx context.Context, group string) error {
	var p pauses
	for began := time.Now(); ; {
		pending, err := c.askOffsets(ctx, group, nil, true, map[engine.TopicPartition]committed{})
		if err != nil || len(pending) == 0 || time.Since(began) > stableWait {
			return err
		}
		if err := p.wait(ctx); err != nil {
			return err
		}
	}
}

// stableWait is for transactions that are being ended. What is pending for longer is open, and most likely will be aborted.
const stableWait = 5 * time.Second

// allOffsets returns all that a group has committed, without waiting for what is pending.
func (c *cluster) allOffsets(ctx context.Context, group string) (map[engine.TopicPartition]committed, error) {
	found := map[engine.TopicPartition]committed{}
	_, err := c.askOffsets(ctx, group, nil, false, found)
	return found, err
}

// askOffsets puts into found what a group has committed for the partitions (nil: for all), and returns those whose offset is pending.
func (c *cluster) askOffsets(ctx context.Context, group string, partitions []engine.TopicPartition, stable bool, found map[engine.TopicPartition]committed) (pending []engine.TopicPartition, err error) {
	req := offsetFetchRequest(group, partitions, stable)
	err = retry(ctx, retryTimeout, func() error {
		answer, err := req.RequestWith(ctx, c.client)
		if err == nil {
			pending, err = takeOffsets(answer, found)
		}
		return err
	})
	if err != nil {
		return nil, explain(fmt.Errorf("read the offsets of group %q: %w", group, err))
	}
	return pending, nil
}

func offsetFetchRequest(group string, partitions []engine.TopicPartition, stable bool) *kmsg.OffsetFetchRequest {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.RequireStable = stable
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = group
	byTopic(partitions, func(topic string, numbers []int32) {
		t := kmsg.NewOffsetFetchRequestGroupTopic()
		t.Topic, t.Partitions = topic, numbers
		g.Topics = append(g.Topics, t)
	})
	req.Groups = append(req.Groups, g)
	return req
}

// takeOffsets puts into found what an answer says, and returns the partitions whose offset is pending. A group that does not
// exist has committed nothing.
func takeOffsets(answer *kmsg.OffsetFetchResponse, found map[engine.TopicPartition]committed) (pending []engine.TopicPartition, err error) {
	if err := kerr.ErrorForCode(answer.ErrorCode); err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, err
	}
	groups := answer.Groups
	if len(groups) == 0 {
		groups = onlyGroup(answer)
	}
	for _, g := range groups {
		if err := kerr.ErrorForCode(g.ErrorCode); err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
			return nil, err
		}
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				tp := engine.TopicPartition{Topic: t.Topic, Partition: p.Partition}
				switch err := kerr.ErrorForCode(p.ErrorCode); {
				case errors.Is(err, kerr.UnstableOffsetCommit):
					pending = append(pending, tp)
				case err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition):
					return nil, fmt.Errorf("%s-%d: %w", t.Topic, p.Partition, err)
				case p.Offset >= 0:
					found[tp] = committed{offset: p.Offset}
					if p.Metadata != nil {
						found[tp] = committed{p.Offset, *p.Metadata}
					}
				}
			}
		}
	}
	return pending, nil
}

// onlyGroup is the group that an answer before version 8 is about.
func onlyGroup(answer *kmsg.OffsetFetchResponse) []kmsg.OffsetFetchResponseGroup {
	g := kmsg.NewOffsetFetchResponseGroup()
	for _, t := range answer.Topics {
		of := kmsg.OffsetFetchResponseGroupTopic{Topic: t.Topic}
		for _, p := range t.Partitions {
			of.Partitions = append(of.Partitions, kmsg.OffsetFetchResponseGroupTopicPartition{
				Partition: p.Partition, Offset: p.Offset, Metadata: p.Metadata, ErrorCode: p.ErrorCode})
		}
		g.Topics = append(g.Topics, of)
	}
	return []kmsg.OffsetFetchResponseGroup{g}
}

// byTopic calls f for each topic with its partitions.
func byTopic(partitions []engine.TopicPartition, f func(topic string, numbers []int32)) {
	numbers := map[string][]int32{}
	var order []string
	for _, tp := range partitions {
		if numbers[tp.Topic] == nil {
			order = append(order, tp.Topic)
		}
		numbers[tp.Topic] = append(numbers[tp.Topic], tp.Partition)
	}
	for _, topic := range order {
		f(topic, numbers[topic])
	}
}

// identity is who commits: a member of a generation, or nobody (with generation -1).
type identity struct {
	member     string
	generation int32
}

var nobody = identity{generation: -1}

// commitOffsets commits once; what the coordinator says is for the caller to judge.
func (c *cluster) commitOffsets(ctx context.Context, group string, who identity, offsets map[engine.TopicPartition]committed) error {
	answer, err := offsetCommitRequest(group, who, offsets).RequestWith(ctx, c.client)
	if err != nil {
		return err
	}
	return takeCommits(answer, group)
}

func offsetCommitRequest(group string, who identity, offsets map[engine.TopicPartition]committed) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.MemberID, req.Generation = group, who.member, who.generation
	topics := map[string]int{}
	for tp, at := range offsets {
		i, ok := topics[tp.Topic]
		if !ok {
			i = len(req.Topics)
			topics[tp.Topic] = i
			t := kmsg.NewOffsetCommitRequestTopic()
			t.Topic = tp.Topic
			req.Topics = append(req.Topics, t)
		}
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.Metadata = tp.Partition, at.offset, &at.mark
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
	}
	return req
}

func takeCommits(answer *kmsg.OffsetCommitResponse, group string) error {
	for _, t := range answer.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("commit offset of %s-%d in group %q: %w", t.Topic, p.Partition, group, err)
			}
		}
	}
	return nil
}

// keepOffsets commits what a group has committed, but for what is pending: what its last member committed before it left must
// not be taken back. Who tells the offsets gets the commit too: one who only takes itself for the coordinator
// (see confirm) tells old ones, and does not take them.
func (c *cluster) keepOffsets(ctx context.Context, group string) error {
	shard := c.client.RequestSharded(ctx, offsetFetchRequest(group, nil, true))[0]
	if shard.Err != nil {
		return shard.Err
	}
	offsets := map[engine.TopicPartition]committed{}
	if _, err := takeOffsets(shard.Resp.(*kmsg.OffsetFetchResponse), offsets); err != nil || len(offsets) == 0 {
		return err
	}
	response, err := c.client.Broker(int(shard.Meta.NodeID)).Request(ctx, offsetCommitRequest(group, nobody, offsets))
	if err != nil {
		return err
	}
	return takeCommits(response.(*kmsg.OffsetCommitResponse), group)
}
