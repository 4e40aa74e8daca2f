package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ElectLeaders: v0-2
//
// The one broker leads every partition already, so each is answered with
// ELECTION_NOT_NEEDED. No topics (null) are all that need an election: none.
//
// Omitted: the timeout.
func (s *Service) electLeaders(_ context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.ElectLeadersRequest)
	resp := reply[*kmsg.ElectLeadersResponse](req)
	for i := range req.Topics {
		t := kmsg.NewElectLeadersResponseTopic()
		t.Topic = req.Topics[i].Topic
		for _, index := range req.Topics[i].Partitions {
			p := kmsg.NewElectLeadersResponseTopicPartition()
			p.Partition = index
			_, err := s.Topics.Partition(t.Topic, index)
			if err == nil {
				err = fmt.Errorf("%w: broker %d leads %s-%d", kerr.ElectionNotNeeded, s.Config.NodeID, t.Topic, index)
			}
			p.ErrorCode, p.ErrorMessage = s.outcome("elect leader", err)
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}
