package kafka

import (
	"bytes"
	"context"
	"time"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// JoinGroup: v0-9
//
// Blocks until the group's join phase is over. v0 has no rebalance timeout (the
// session timeout counts). From v4 on a new dynamic member is told its id first
// (MEMBER_ID_REQUIRED), never before: older clients take that for the end. v5
// brings static members, v9 lets a returning static leader skip the assignment.
func (s *Service) joinGroup(ctx context.Context, c *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.JoinGroupRequest)
	resp := reply[*kmsg.JoinGroupResponse](req)
	join := group.JoinRequest{
		Group: req.Group, MemberID: req.MemberID, InstanceID: text(req.InstanceID),
		ClientID: c.ID, ClientHost: "/" + c.Host,
		SessionTimeout:  time.Duration(req.SessionTimeoutMillis) * time.Millisecond,
		ProtocolType:    req.ProtocolType,
		RequireMemberID: req.Version >= 4,
		CanSkipAssign:   req.Version >= 9,
		Reason:          text(req.Reason),
	}
	if req.Version >= 1 {
		join.RebalanceTimeout = time.Duration(req.RebalanceTimeoutMillis) * time.Millisecond
	}
	for i := range req.Protocols {
		p := &req.Protocols[i]
		// The group keeps the metadata; the request's buffer is used again.
		join.Protocols = append(join.Protocols, group.Protocol{Name: p.Name, Metadata: bytes.Clone(p.Metadata)})
	}
	joined, err := s.Groups.Join(ctx, join)
	resp.ErrorCode = s.groupOutcome("join group", err)
	resp.MemberID = joined.MemberID
	if err != nil {
		resp.Generation = -1
		return resp, nil
	}
	resp.Generation = joined.Generation
	resp.ProtocolType, resp.Protocol = &joined.ProtocolType, &joined.Protocol
	resp.LeaderID, resp.SkipAssignment = joined.Leader, joined.SkipAssign
	for _, m := range joined.Members {
		member := kmsg.NewJoinGroupResponseMember()
		member.MemberID, member.InstanceID, member.ProtocolMetadata = m.MemberID, nullable(m.InstanceID), m.Metadata
		resp.Members = append(resp.Members, member)
	}
	return resp, nil
}
