package kafka

import (
	"context"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The types of members: of the classic protocol, and of that of KIP-848.
const (
	memberTypeClassic  = 0
	memberTypeConsumer = 1
)

// ConsumerGroupDescribe: v0-1
//
// Consumer groups only: a classic group is GROUP_ID_NOT_FOUND, as one that does
// not exist. v1 tells each member's type. Partitions of topics that are gone are left out.
func (s *Service) consumerGroupDescribe(_ context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.ConsumerGroupDescribeRequest)
	resp := reply[*kmsg.ConsumerGroupDescribeResponse](req)
	for _, name := range req.Groups {
		g := kmsg.NewConsumerGroupDescribeResponseGroup()
		g.Group = name
		d, err := s.Groups.Consumers().Describe(name)
		if err != nil {
			g.ErrorCode, g.ErrorMessage = s.groupOutcome("describe consumer group", err), message(err)
			resp.Groups = append(resp.Groups, g)
			continue
		}
		if req.IncludeAuthorizedOperations {
			g.AuthorizedOperations = groupOperations
		}
		g.State, g.Epoch, g.AssignmentEpoch, g.AssignorName = d.State, d.Epoch, d.AssignmentEpoch, d.Assignor
		for i := range d.Members {
			g.Members = append(g.Members, s.consumerMember(&d.Members[i]))
		}
		resp.Groups = append(resp.Groups, g)
	}
	return resp, nil
}

func (s *Service) consumerMember(from *group.ConsumerMemberDescription) kmsg.ConsumerGroupDescribeResponseGroupMember {
	m := kmsg.NewConsumerGroupDescribeResponseGroupMember()
	m.MemberID, m.MemberEpoch, m.MemberType = from.MemberID, from.Epoch, memberTypeConsumer
	if from.Classic {
		m.MemberType = memberTypeClassic
	}
	m.InstanceID, m.RackID = nullable(from.InstanceID), nullable(from.RackID)
	m.ClientID, m.ClientHost = from.ClientID, from.ClientHost
	m.SubscribedTopics, m.SubscribedTopicRegex = from.Topics, nullable(from.Regex)
	m.Assignment = s.consumerAssignment(from.Assigned)
	m.TargetAssignment = s.consumerAssignment(from.Target)
	return m
}

func (s *Service) consumerAssignment(partitions group.Partitions) kmsg.Assignment {
	a := kmsg.NewAssignment()
	for _, id := range partitions.Topics() {
		info, ok := s.Topics.LookupID(id)
		if !ok {
			continue
		}
		t := kmsg.NewAssignmentTopicPartition()
		t.TopicID, t.Topic, t.Partitions = id, info.Name, partitions[id]
		a.TopicPartitions = append(a.TopicPartitions, t)
	}
	return a
}
