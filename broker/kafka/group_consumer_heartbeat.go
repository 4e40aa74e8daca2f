package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ConsumerGroupHeartbeat: v0-1
//
// The one request of a member of a consumer group (KIP-848): joins, stays, says what
// it gave up, leaves. v1 brings subscriptions by regular expression and member
// ids that clients make (KIP-1082).
//
// A group may have members of both protocols: with the first member of this one
// a classic group becomes a consumer group, with the last one's leaving it becomes a classic one again.
func (s *Service) consumerGroupHeartbeat(ctx context.Context, c *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.ConsumerGroupHeartbeatRequest)
	resp := reply[*kmsg.ConsumerGroupHeartbeatResponse](req)
	err := checkConsumerHeartbeat(req)
	var answer group.ConsumerAnswer
	if err == nil {
		answer, err = s.Groups.Consumers().Heartbeat(ctx, consumerHeartbeat(c, req))
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = s.groupOutcome("consumer group heartbeat", err), message(err)
		if errors.Is(err, group.ErrInvalidGroupID) {
			resp.ErrorCode = kerr.InvalidRequest.Code
		}
		return resp, nil
	}
	resp.MemberID, resp.MemberEpoch = &answer.MemberID, answer.Epoch
	resp.HeartbeatIntervalMillis = int32(answer.Interval.Milliseconds())
	if answer.Assigned != nil {
		a := kmsg.NewConsumerGroupHeartbeatResponseAssignment()
		for _, id := range answer.Assigned.Topics() {
			t := kmsg.NewConsumerGroupHeartbeatResponseAssignmentTopic()
			t.TopicID, t.Partitions = id, answer.Assigned[id]
			a.Topics = append(a.Topics, t)
		}
		resp.Assignment = &a
	}
	return resp, nil
}

func consumerHeartbeat(c *Client, req *kmsg.ConsumerGroupHeartbeatRequest) group.ConsumerHeartbeat {
	h := group.ConsumerHeartbeat{
		Group: req.Group, MemberID: req.MemberID, InstanceID: text(req.InstanceID), RackID: text(req.RackID),
		ClientID: c.ID, ClientHost: "/" + c.Host,
		Epoch:            req.MemberEpoch,
		RebalanceTimeout: time.Duration(req.RebalanceTimeoutMillis) * time.Millisecond,
		Topics:           req.SubscribedTopicNames,
		Regex:            req.SubscribedTopicRegex,
		Assignor:         req.ServerAssignor,
	}
	if req.Topics != nil {
		owned := make(map[topic.ID][]int32, len(req.Topics))
		for i := range req.Topics {
			t := &req.Topics[i]
			owned[t.TopicID] = append(owned[t.TopicID], t.Partitions...)
		}
		h.Owned = group.PartitionsOf(owned)
	}
	return h
}

// checkConsumerHeartbeat holds a heartbeat to what each kind of it has to say.
func checkConsumerHeartbeat(req *kmsg.ConsumerGroupHeartbeatRequest) error {
	missing := func(what string) error {
		return fmt.Errorf("%w: %s with member epoch %d", kerr.InvalidRequest, what, req.MemberEpoch)
	}
	switch {
	case req.InstanceID != nil && *req.InstanceID == "":
		return missing("an empty instance id")
	case req.RackID != nil && *req.RackID == "":
		return missing("an empty rack id")
	case req.MemberEpoch < group.LeaveStaticEpoch:
		return fmt.Errorf("%w: member epoch %d", kerr.InvalidRequest, req.MemberEpoch)
	case req.MemberID == "" && (req.MemberEpoch != group.JoinEpoch || req.Version >= 1):
		return missing("no member id")
	case req.MemberEpoch == group.LeaveStaticEpoch && req.InstanceID == nil:
		return missing("no instance id")
	case req.MemberEpoch != group.JoinEpoch:
		return nil
	case req.RebalanceTimeoutMillis < 0:
		return missing("no rebalance timeout")
	case req.Topics == nil || len(req.Topics) > 0:
		return missing("partitions that are not an empty list")
	case req.SubscribedTopicNames == nil && req.SubscribedTopicRegex == nil:
		return missing("no subscription")
	}
	return nil
}
