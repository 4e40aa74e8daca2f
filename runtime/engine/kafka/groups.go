package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millstream-io/millstream/runtime/engine"
)

// OffsetsAt implements engine.Engine.
func (k *kafka) OffsetsAt(ctx context.Context, topics []string, start engine.Start) (map[engine.TopicPartition]int64, error) {
	found, err := k.cluster.lookup(ctx, topics)
	if err != nil {
		return nil, err
	}
	var partitions []engine.TopicPartition
	for name, info := range found {
		for i := range info.leaders {
			partitions = append(partitions, engine.TopicPartition{Topic: name, Partition: int32(i)})
		}
	}
	return k.cluster.offsetsAt(ctx, partitions, start)
}

// SetOffsets implements engine.Engine.
func (k *kafka) SetOffsets(ctx context.Context, group string, offsets map[engine.TopicPartition]int64) error {
	if len(offsets) == 0 {
		return nil
	}
	// A broker may take offsets from outside while the group's members come together.
	if members, err := k.Members(ctx, group); err != nil || len(members) > 0 {
		if err == nil {
			err = fmt.Errorf("%w: group %q", engine.ErrGroupActive, group)
		}
		return err
	}
	marked := make(map[engine.TopicPartition]committed, len(offsets))
	for tp, offset := range offsets {
		marked[tp] = committed{offset: offset}
	}
	return k.commitForNobody(ctx, group, marked)
}

func (k *kafka) commitForNobody(ctx context.Context, group string, offsets map[engine.TopicPartition]committed) error {
	err := retry(ctx, retryTimeout, func() error { return k.cluster.commitOffsets(ctx, group, nobody, offsets) })
	return ofNobody(err, group)
}

// ofNobody says what the answer to a commit from outside a group means.
func ofNobody(err error, group string) error {
	if errors.Is(err, kerr.UnknownMemberID) || errors.Is(err, kerr.IllegalGeneration) || errors.Is(err, kerr.RebalanceInProgress) {
		return fmt.Errorf("%w: group %q", engine.ErrGroupActive, group)
	}
	return explain(err)
}

// Members implements engine.Engine.
func (k *kafka) Members(ctx context.Context, group string) ([]engine.GroupMember, error) {
	described, err := k.describe(ctx, group)
	if err != nil {
		return nil, err
	}
	members := make([]engine.GroupMember, len(described.Members))
	for i, m := range described.Members {
		members[i].Client, members[i].Host = m.ClientID, m.ClientHost
		assigned, ok := m.Assigned.AsConsumer()
		if !ok {
			continue // between two assignments
		}
		for _, t := range assigned.Topics {
			for _, p := range t.Partitions {
				members[i].Partitions = append(members[i].Partitions, engine.TopicPartition{Topic: t.Topic, Partition: p})
			}
		}
	}
	return members, nil
}

// describe returns a group; one that does not exist has no members.
func (k *kafka) describe(ctx context.Context, group string) (kadm.DescribedGroup, error) {
	var described kadm.DescribedGroup
	err := retry(ctx, retryTimeout, func() error {
		groups, err := kadm.NewClient(k.cluster.client).DescribeGroups(ctx, group)
		if err != nil {
			return err
		}
		described = groups[group]
		if errors.Is(described.Err, kerr.GroupIDNotFound) {
			described = kadm.DescribedGroup{Group: group}
		}
		return described.Err
	})
	if err != nil {
		return described, explain(fmt.Errorf("describe group %q: %w", group, err))
	}
	return described, nil
}

// KeepGroup implements engine.Engine. Each try looks anew: since the last one somebody may have come, committed more, and gone.
func (k *kafka) KeepGroup(ctx context.Context, group string) error {
	err := retry(ctx, retryTimeout, func() error {
		if members, err := k.Members(ctx, group); err != nil || len(members) > 0 {
			return err // its members keep it
		}
		return k.cluster.keepOffsets(ctx, group)
	})
	if err = ofNobody(err, group); errors.Is(err, engine.ErrGroupActive) {
		return nil // somebody joined in between
	}
	return err
}

// ForgetGroup implements engine.Engine. A group that does not exist is forgotten already. What its last member committed may still
// be pending, and would come back after the group.
func (k *kafka) ForgetGroup(ctx context.Context, group string) error {
	if err := k.cluster.awaitStable(ctx, group); err != nil {
		return err
	}
	err := retry(ctx, retryTimeout, func() error {
		answer, err := kadm.NewClient(k.cluster.client).DeleteGroup(ctx, group)
		if err != nil {
			return err
		}
		return answer.Err
	})
	switch {
	case err == nil, errors.Is(err, kerr.GroupIDNotFound):
		return nil
	case errors.Is(err, kerr.NonEmptyGroup):
		return fmt.Errorf("%w: group %q: %w", engine.ErrGroupActive, group, err)
	}
	return explain(fmt.Errorf("forget group %q: %w", group, err))
}

// Lag implements engine.Engine.
func (k *kafka) Lag(ctx context.Context, group string, inputs []string) (map[engine.TopicPartition]engine.Position, error) {
	starts, err := k.OffsetsAt(ctx, inputs, engine.Start{Kind: engine.StartEarliest})
	if err != nil {
		return nil, err
	}
	partitions := make([]engine.TopicPartition, 0, len(starts))
	for tp := range starts {
		partitions = append(partitions, tp)
	}
	result := make(map[engine.TopicPartition]engine.Position, len(starts))
	if len(partitions) == 0 {
		return result, nil
	}
	ends, err := k.cluster.listOffsets(ctx, partitions, latest, false)
	if err != nil {
		return nil, err
	}
	offsets, err := k.cluster.committedOffsets(ctx, group, partitions, endingWait)
	if errors.Is(err, kerr.UnstableOffsetCommit) {
		offsets, err = k.cluster.allOffsets(ctx, group) // a transaction goes on for long
	}
	if err != nil {
		return nil, err
	}
	for tp, start := range starts {
		position := engine.Position{Committed: -1, LogStart: start, LogEnd: ends[tp]}
		if at, ok := offsets[tp]; ok {
			position.Committed = at.offset
		}
		result[tp] = position
	}
	return result, nil
}

// The times that stand for the ends of a log in a request for offsets.
const (
	latest   = -1
	earliest = -2
)

// listOffsets asks for the offset of a time (ms) in each partition: of the first record at or after it, -1
// if there is none. With stable the end of the log is its last stable offset, else the high watermark.
func (c *cluster) listOffsets(ctx context.Context, partitions []engine.TopicPartition, timestamp int64, stable bool) (map[engine.TopicPartition]int64, error) {
	found := make(map[engine.TopicPartition]int64, len(partitions))
	if len(partitions) == 0 {
		return found, nil
	}
	err := retry(ctx, retryTimeout, func() error {
		answer, err := c.listOffsetsRequest(partitions, timestamp, stable).RequestWith(ctx, c.client)
		if err != nil {
			return err
		}
		for _, t := range answer.Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					if errors.Is(err, kerr.FencedLeaderEpoch) {
						_, _ = c.metadata(ctx, []string{t.Topic}) // the next one knows of the new leader, or fails as this one did
					}
					c.moved(t.Topic)
					return fmt.Errorf("%s-%d: %w", t.Topic, p.Partition, err)
				}
				found[engine.TopicPartition{Topic: t.Topic, Partition: p.Partition}] = p.Offset
			}
		}
		return nil
	})
	if err == nil && len(found) != len(partitions) {
		err = fmt.Errorf("the brokers answered for %d of %d partitions", len(found), len(partitions))
	}
	if err != nil {
		return nil, explain(fmt.Errorf("list offsets: %w", err))
	}
	return found, nil
}

// listOffsetsRequest is for the leaders of the newest epochs that were heard of, and no others.
func (c *cluster) listOffsetsRequest(partitions []engine.TopicPartition, timestamp int64, stable bool) *kmsg.ListOffsetsRequest {
	req := kmsg.NewPtrListOffsetsRequest()
	if stable {
		req.IsolationLevel = 1
	}
	byTopic(partitions, func(topic string, numbers []int32) {
		t := kmsg.NewListOffsetsRequestTopic()
		t.Topic = topic
		for _, n := range numbers {
			p := kmsg.NewListOffsetsRequestTopicPartition()
			p.Partition, p.Timestamp = n, timestamp
			p.CurrentLeaderEpoch = c.epoch(engine.TopicPartition{Topic: topic, Partition: n})
			t.Partitions = append(t.Partitions, p)
		}
		req.Topics = append(req.Topics, t)
	})
	return req
}

// offsetsAt finds where start is in each partition.
func (c *cluster) offsetsAt(ctx context.Context, partitions []engine.TopicPartition, start engine.Start) (map[engine.TopicPartition]int64, error) {
	switch start.Kind {
	case engine.StartEarliest:
		return c.listOffsets(ctx, partitions, earliest, false)
	case engine.StartLatest:
		return c.listOffsets(ctx, partitions, latest, false)
	}
	starts, err := c.listOffsets(ctx, partitions, earliest, false)
	if err != nil {
		return nil, err
	}
	ends, err := c.listOffsets(ctx, partitions, latest, false)
	if err != nil {
		return nil, err
	}
	found := make(map[engine.TopicPartition]int64, len(partitions))
	if start.Kind == engine.StartTimestamp {
		// The present has its own number for "latest": times before 1970 mean everything.
		if found, err = c.listOffsets(ctx, partitions, max(start.Timestamp.UnixMilli(), 0), false); err != nil {
			return nil, err
		}
	}
	for _, tp := range partitions {
		switch {
		case start.Kind == engine.StartOffset:
			found[tp] = min(max(start.Offset, starts[tp]), ends[tp])
		case found[tp] < 0:
			found[tp] = ends[tp]
		}
	}
	return found, nil
}
