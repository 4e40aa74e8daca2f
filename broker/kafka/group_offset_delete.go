package kafka

import (
	"context"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetDelete: v0
//
// Offsets of topics that the group reads are kept (GROUP_SUBSCRIBED_TO_TOPIC, per
// partition); a group that is unknown, or has members of which it cannot be told
// what they read, fails as a whole.
func (s *Service) offsetDelete(ctx context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.OffsetDeleteRequest)
	resp := reply[*kmsg.OffsetDeleteResponse](req)
	known := map[string]error{}
	var partitions []group.TopicPartition
	for i := range req.Topics {
		name := req.Topics[i].Topic
		if _, known[name] = s.groupTopic(false, name, [16]byte{}); known[name] != nil {
			continue
		}
		for _, p := range req.Topics[i].Partitions {
			partitions = append(partitions, group.TopicPartition{Topic: name, Partition: p.Partition})
		}
	}
	results, err := s.Groups.DeleteOffsets(ctx, req.Group, partitions)
	if resp.ErrorCode = s.groupOutcome("delete offsets", err); err != nil {
		return resp, nil
	}
	for i := range req.Topics {
		name := req.Topics[i].Topic
		t := kmsg.NewOffsetDeleteResponseTopic()
		t.Topic = name
		for _, rp := range req.Topics[i].Partitions {
			p := kmsg.NewOffsetDeleteResponseTopicPartition()
			p.Partition = rp.Partition
			failed := known[name]
			if failed == nil {
				failed = results[group.TopicPartition{Topic: name, Partition: rp.Partition}]
			}
			p.ErrorCode = code(failed)
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}
