package kafka

import (
	"context"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// LeaveGroup: v0-5
//
// One member until v2, whose error is the response's; many from v3 on, each with an
// error of its own. An operator removes static members by instance id alone.
func (s *Service) leaveGroup(ctx context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.LeaveGroupRequest)
	resp := reply[*kmsg.LeaveGroupResponse](req)
	if req.Version < 3 {
		err := s.Groups.Leave(ctx, group.Identity{Group: req.Group, MemberID: req.MemberID}, "")
		resp.ErrorCode = s.groupOutcome("leave group", err)
		return resp, nil
	}
	for i := range req.Members {
		m := &req.Members[i]
		err := s.Groups.Leave(ctx, group.Identity{Group: req.Group, MemberID: m.MemberID, InstanceID: text(m.InstanceID)}, text(m.Reason))
		left := kmsg.NewLeaveGroupResponseMember()
		left.MemberID, left.InstanceID = m.MemberID, m.InstanceID
		left.ErrorCode = s.groupOutcome("leave group", err)
		resp.Members = append(resp.Members, left)
	}
	return resp, nil
}
