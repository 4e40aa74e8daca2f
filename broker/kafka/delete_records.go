package kafka

import (
	"context"
	"fmt"

	"github.com/millstream-io/millstream/broker/topic"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteRecords: v0-2
//
// Moves the start of a partition, also to the middle of a segment; -1 is the
// high watermark. Durable before the answer, which tells the new start.
//
// Omitted: the timeout.
func (s *Service) deleteRecords(_ context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.DeleteRecordsRequest)
	resp := reply[*kmsg.DeleteRecordsResponse](req)
	for i := range req.Topics {
		rt := &req.Topics[i]
		t := kmsg.NewDeleteRecordsResponseTopic()
		t.Topic = rt.Topic
		for j := range rt.Partitions {
			p := kmsg.NewDeleteRecordsResponseTopicPartition()
			p.Partition, p.LowWatermark = rt.Partitions[j].Partition, -1
			low, err := s.deletePartitionRecords(rt.Topic, p.Partition, rt.Partitions[j].Offset)
			if err == nil {
				p.LowWatermark = low
			}
			p.ErrorCode, _ = s.outcome("delete records of "+rt.Topic, err)
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}

func (s *Service) deletePartitionRecords(name string, index int32, before int64) (int64, error) {
	if reserved(name) {
		return -1, fmt.Errorf("%w: %q is the broker's own", topic.ErrInvalidName, name)
	}
	p, err := s.Topics.Partition(name, index)
	if err != nil {
		return -1, err
	}
	return p.DeleteRecords(before)
}
