package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/millstream-io/millstream/broker/topic"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// quorumTopic is the name under which Kafka's tools ask for the log of metadata.
const quorumTopic = "__cluster_metadata"

// DescribeQuorum: v0-2
//
// The log of metadata has one voter, this broker, which is always caught up,
// and no observers. Only that log has a quorum.
func (s *Service) describeQuorum(_ context.Context, c *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.DescribeQuorumRequest)
	resp := reply[*kmsg.DescribeQuorumResponse](req)
	for i := range req.Topics {
		t := kmsg.NewDescribeQuorumResponseTopic()
		t.Topic = req.Topics[i].Topic
		for j := range req.Topics[i].Partitions {
			t.Partitions = append(t.Partitions, s.quorumOf(t.Topic, req.Topics[i].Partitions[j].Partition))
		}
		resp.Topics = append(resp.Topics, t)
	}
	node := kmsg.NewDescribeQuorumResponseNode()
	node.NodeID = s.Config.NodeID
	l := kmsg.NewDescribeQuorumResponseNodeListener()
	host, port := s.advertised(c)
	l.Name, l.Host, l.Port = "PLAINTEXT", host, uint16(port)
	node.Listeners = append(node.Listeners, l)
	resp.Nodes = append(resp.Nodes, node)
	return resp, nil
}

func (s *Service) quorumOf(name string, index int32) kmsg.DescribeQuorumResponseTopicPartition {
	p := kmsg.NewDescribeQuorumResponseTopicPartition()
	p.Partition, p.LeaderID, p.LeaderEpoch, p.HighWatermark = index, -1, -1, -1
	if name != quorumTopic || index != 0 {
		err := fmt.Errorf("%w: %s-%d has no quorum, only %s-0 has", topic.ErrUnknownPartition, name, index, quorumTopic)
		p.ErrorCode, p.ErrorMessage = code(err), message(err)
		return p
	}
	end, now := s.Topics.Metadata().Log().Bounds().End, time.Now().UnixMilli()
	voter := kmsg.NewDescribeQuorumResponseTopicPartitionReplicaState()
	voter.ReplicaID, voter.LogEndOffset = s.Config.NodeID, end
	voter.LastFetchTimestamp, voter.LastCaughtUpTimestamp = now, now
	p.LeaderID, p.LeaderEpoch, p.HighWatermark = s.Config.NodeID, 0, end
	p.CurrentVoters = append(p.CurrentVoters, voter)
	return p
}
