package embedded

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/millstream-io/millstream/runtime/engine"
)

// inProcess is the client host of members in this process.
const inProcess = "in-process"

// OffsetsAt implements engine.Engine.
func (e *embedded) OffsetsAt(_ context.Context, topics []string, start engine.Start) (map[engine.TopicPartition]int64, error) {
	offsets := map[engine.TopicPartition]int64{}
	for _, name := range topics {
		info, ok := e.topics.Lookup(name)
		if !ok {
			continue
		}
		for i := range info.Partitions {
			p, err := e.topics.Partition(name, int32(i))
			if err != nil {
				continue // deleted meanwhile
			}
			offset, err := offsetAt(p, start)
			if err != nil {
				return nil, explain(err)
			}
			offsets[engine.TopicPartition{Topic: name, Partition: int32(i)}] = offset
		}
	}
	return offsets, nil
}

// Starts implements engine.Engine.
func (e *embedded) Starts(ctx context.Context, topics []string, start engine.Start) (map[string]engine.TopicStart, error) {
	starts := map[string]engine.TopicStart{}
	for _, name := range topics {
		info, ok := e.topics.Lookup(name)
		if !ok {
			continue
		}
		found := engine.TopicStart{ID: idText(info.ID), Offsets: make([]int64, info.Partitions)}
		for i := range found.Offsets {
			p, err := e.topics.Partition(name, int32(i))
			if err == nil && p.TopicID() != info.ID {
				err = fmt.Errorf("%w: %q was made anew just now", engine.ErrUnknownTopic, name)
			}
			if err == nil {
				found.Offsets[i], err = offsetAt(p, start)
			}
			// Somebody goes on from there: the records before it must not come back after a power cut with other offsets.
			if err == nil {
				err = p.WaitDurable(ctx, min(found.Offsets[i], p.Offsets().LogEnd))
			}
			if err != nil {
				return nil, explain(fmt.Errorf("find the start of %s-%d: %w", name, i, err))
			}
		}
		starts[name] = found
	}
	return starts, nil
}

func idText(id topic.ID) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// offsetAt is where start is in a partition.
func offsetAt(p *topic.Partition, start engine.Start) (int64, error) {
	bounds := p.Offsets()
	switch start.Kind {
	case engine.StartEarliest:
		return bounds.LogStart, nil
	case engine.StartOffset:
		return min(max(start.Offset, bounds.LogStart), bounds.HighWatermark), nil
	case engine.StartTimestamp:
		offset, _, ok, err := p.OffsetForTimestamp(start.Timestamp.UnixMilli())
		if err != nil {
			return 0, fmt.Errorf("find the start of %s-%d: %w", p.Topic(), p.Index(), err)
		}
		if ok {
			return offset, nil
		}
	}
	return bounds.HighWatermark, nil
}

// SetOffsets implements engine.Engine. As anywhere else, an offset waits for the records before it to be durable.
func (e *embedded) SetOffsets(ctx context.Context, name string, offsets map[engine.TopicPartition]int64) error {
	stored := make(map[group.TopicPartition]group.Offset, len(offsets))
	for tp, at := range offsets {
		p, err := e.topics.Partition(tp.Topic, tp.Partition)
		if err != nil {
			return explain(fmt.Errorf("set the offset of %s-%d: %w", tp.Topic, tp.Partition, err))
		}
		if err := p.WaitDurable(ctx, min(at, p.Offsets().LogEnd)); err != nil {
			return explain(fmt.Errorf("flush input %s-%d: %w", tp.Topic, tp.Partition, err))
		}
		stored[group.TopicPartition(tp)] = group.Offset{Offset: at, LeaderEpoch: -1}
	}
	if len(stored) == 0 {
		return nil
	}
	err := e.groups.Commit(ctx, group.Identity{Group: name, Generation: -1}, stored)
	if errors.Is(err, group.ErrUnknownMember) || errors.Is(err, group.ErrIllegalGeneration) {
		return fmt.Errorf("%w: group %q", engine.ErrGroupActive, name)
	}
	return explain(err)
}

// Members implements engine.Engine.
func (e *embedded) Members(_ context.Context, name string) ([]engine.GroupMember, error) {
	d, err := e.groups.Describe(name)
	if errors.Is(err, group.ErrGroupNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, explain(err)
	}
	members := make([]engine.GroupMember, len(d.Members))
	for i, m := range d.Members {
		members[i].Client = m.ClientID
		if m.ClientHost != inProcess {
			members[i].Host = m.ClientHost
		}
		// Between two assignments, or in a protocol of their own, members have none that can be read.
		partitions, _ := group.DecodeAssignment(m.Assignment)
		for _, tp := range partitions {
			members[i].Partitions = append(members[i].Partitions, engine.TopicPartition(tp))
		}
	}
	return members, nil
}
