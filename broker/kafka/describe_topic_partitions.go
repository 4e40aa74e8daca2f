package kafka

import (
	"cmp"
	"context"
	"slices"

	"github.com/millstream-io/millstream/broker/topic"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// maxDescribedPartitions is Kafka's max.request.partition.size.limit.
const maxDescribedPartitions = 2000

// DescribeTopicPartitions: v0
//
// Metadata in pages (KIP-966): topics in the order of their names, at most so
// many partitions as the client wants, and a cursor where the next page
// begins. No topics are all topics. Nothing is created.
func (s *Service) describeTopicPartitions(_ context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.DescribeTopicPartitionsRequest)
	resp := reply[*kmsg.DescribeTopicPartitionsResponse](req)
	room := maxDescribedPartitions
	if req.ResponsePartitionLimit > 0 {
		room = min(room, int(req.ResponsePartitionLimit))
	}
	for _, name := range s.describedTopics(req) {
		first := 0
		if req.Cursor != nil && req.Cursor.Topic == name {
			first = int(max(0, req.Cursor.Partition))
		}
		if room <= 0 {
			resp.NextCursor = nextPage(name, first)
			return resp, nil
		}
		info, ok := s.Topics.Lookup(name)
		if !ok {
			resp.Topics = append(resp.Topics, unknownTopic(name))
			continue
		}
		last := min(info.Partitions, first+room)
		t := s.topicPartitions(info, first, last)
		resp.Topics = append(resp.Topics, t)
		if room -= len(t.Partitions); last < info.Partitions {
			resp.NextCursor = nextPage(name, last)
			return resp, nil
		}
	}
	return resp, nil
}

// describedTopics are the names that a request is about from its cursor on, sorted.
func (s *Service) describedTopics(req *kmsg.DescribeTopicPartitionsRequest) []string {
	var names []string
	for i := range req.Topics {
		names = append(names, req.Topics[i].Topic)
	}
	if len(names) == 0 {
		for _, info := range s.Topics.List() {
			names = append(names, info.Name)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if req.Cursor == nil {
		return names
	}
	from, _ := slices.BinarySearchFunc(names, req.Cursor.Topic, cmp.Compare[string])
	return names[from:]
}

func nextPage(name string, partition int) *kmsg.DescribeTopicPartitionsResponseNextCursor {
	c := kmsg.NewDescribeTopicPartitionsResponseNextCursor()
	c.Topic, c.Partition = name, int32(partition)
	return &c
}

func unknownTopic(name string) kmsg.DescribeTopicPartitionsResponseTopic {
	t := kmsg.NewDescribeTopicPartitionsResponseTopic()
	err := topic.ValidateName(name)
	if err == nil {
		err = topic.ErrUnknownTopic
	}
	t.Topic, t.ErrorCode = &name, code(err)
	return t
}

func (s *Service) topicPartitions(info topic.Info, first, last int) kmsg.DescribeTopicPartitionsResponseTopic {
	t := kmsg.NewDescribeTopicPartitionsResponseTopic()
	t.Topic, t.TopicID, t.IsInternal, t.AuthorizedOperations = &info.Name, info.ID, reserved(info.Name), topicOperations
	self := []int32{s.Config.NodeID}
	for i := first; i < last; i++ {
		p := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
		p.Partition, p.LeaderID, p.LeaderEpoch = int32(i), s.Config.NodeID, 0
		p.Replicas, p.ISR = self, self
		p.EligibleLeaderReplicas, p.LastKnownELR = []int32{}, []int32{}
		t.Partitions = append(t.Partitions, p)
	}
	return t
}
