package kafka

import (
	"context"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Heartbeat: v0-4
//
// Keeps the session alive; REBALANCE_IN_PROGRESS tells the member to join again.
// An unknown group is UNKNOWN_MEMBER_ID, so that the client joins anew.
func (s *Service) heartbeat(ctx context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.HeartbeatRequest)
	resp := reply[*kmsg.HeartbeatResponse](req)
	err := s.Groups.Heartbeat(ctx, group.Identity{
		Group: req.Group, MemberID: req.MemberID, InstanceID: text(req.InstanceID), Generation: req.Generation,
	})
	resp.ErrorCode = s.groupOutcome("heartbeat", err)
	return resp, nil
}
