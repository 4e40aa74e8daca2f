package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetForLeaderEpoch: v2-4
//
// Lets a client find out whether what it has read was cut off. The leader
// epoch of a single node is constant, so the answer is the end of the log.
func (s *Service) offsetForLeaderEpoch(_ context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.OffsetForLeaderEpochRequest)
	resp := reply[*kmsg.OffsetForLeaderEpochResponse](req)
	for i := range req.Topics {
		rt := &req.Topics[i]
		t := kmsg.NewOffsetForLeaderEpochResponseTopic()
		t.Topic = rt.Topic
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			p := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			p.Partition, p.LeaderEpoch, p.EndOffset = rp.Partition, -1, -1
			part, err := s.Topics.Partition(rt.Topic, rp.Partition)
			if err == nil {
				err = checkLeaderEpoch(part, rp.CurrentLeaderEpoch)
			}
			if err == nil {
				p.LeaderEpoch, p.EndOffset = part.EpochEnd(rp.LeaderEpoch)
			}
			p.ErrorCode, _ = s.outcome("offset for leader epoch of "+rt.Topic, err)
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}
