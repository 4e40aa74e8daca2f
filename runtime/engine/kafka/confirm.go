package kafka

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millstream-io/millstream/runtime/engine"
)

// A node that was cut off from the others, or stood still, may take itself for the leader of a partition for a while when
// there is another one, and so for the coordinator of the groups in it. What it says is true of the past: offsets that were
// committed since then are not known to it, and records would be done once more from where it says. It does not take
// commits, though, for these are replicated. So who takes the first one of a session knows all before it, and
// is asked whether it was the last of them that the session began with.

// nothing is what a group has committed that has not.
var nothing = committed{offset: -1}

// confirm asks the coordinator that took offsets into a transaction whether bases are what was committed before. If not, the
// transaction can only be aborted.
func (c *cluster) confirm(ctx context.Context, coordinator int32, group string, bases map[engine.TopicPartition]committed) error {
	found, err := c.offsetsOf(ctx, coordinator, group, slices.Collect(maps.Keys(bases)))
	if err != nil {
		return fmt.Errorf("confirm offsets of group %q: %w", group, err)
	}
	for tp, base := range bases {
		last, ok := found[tp]
		if !ok {
			last = nothing
		}
		if last != base {
			return fmt.Errorf("%w: the coordinator of group %q did not know what it has committed of %s-%d: offset %d, not %d (-1: none)",
				engine.ErrAborted, group, tp.Topic, tp.Partition, last.offset, base.offset)
		}
	}
	return nil
}

// confirm is about the first commit of a session since it began or went back.
func (s *session) confirm(ctx context.Context, coordinator int32) error {
	if s.confirmed {
		return nil
	}
	err := s.m.cluster.confirm(ctx, coordinator, s.m.g.Name, map[engine.TopicPartition]committed{s.tp: s.base})
	s.confirmed = err == nil
	return err
}

// offsetsOf asks one node for what a group has committed, without what is pending.
func (c *cluster) offsetsOf(ctx context.Context, node int32, group string, partitions []engine.TopicPartition) (map[engine.TopicPartition]committed, error) {
	req := offsetFetchRequest(group, partitions, false)
	// Brokers before version 8 of the request know one group only, and have it in another place.
	req.Group = group
	for _, t := range req.Groups[0].Topics {
		req.Topics = append(req.Topics, kmsg.OffsetFetchRequestTopic{Topic: t.Topic, Partitions: t.Partitions})
	}
	response, err := c.client.Broker(int(node)).Request(ctx, req)
	if err != nil {
		return nil, err
	}
	found := map[engine.TopicPartition]committed{}
	_, err = takeOffsets(response.(*kmsg.OffsetFetchResponse), found)
	return found, err
}
