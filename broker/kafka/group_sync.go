package kafka

import (
	"bytes"
	"context"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// SyncGroup: v0-5
//
// Blocks until the leader has brought the assignment. v5 names protocol type
// and protocol, and has to: without them, or with others than the generation's, it is
// INCONSISTENT_GROUP_PROTOCOL.
func (s *Service) syncGroup(ctx context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.SyncGroupRequest)
	resp := reply[*kmsg.SyncGroupResponse](req)
	resp.MemberAssignment = []byte{}
	if req.Version >= 5 && (text(req.ProtocolType) == "" || text(req.Protocol) == "") {
		resp.ErrorCode = kerr.InconsistentGroupProtocol.Code
		return resp, nil
	}
	sync := group.SyncRequest{
		Group: req.Group, MemberID: req.MemberID, InstanceID: text(req.InstanceID), Generation: req.Generation,
		ProtocolType: text(req.ProtocolType), Protocol: text(req.Protocol),
		Assignments: make(map[string][]byte, len(req.GroupAssignment)),
	}
	for i := range req.GroupAssignment {
		a := &req.GroupAssignment[i]
		sync.Assignments[a.MemberID] = bytes.Clone(a.MemberAssignment)
	}
	synced, err := s.Groups.Sync(ctx, sync)
	resp.ErrorCode = s.groupOutcome("sync group", err)
	if err != nil {
		return resp, nil
	}
	resp.ProtocolType, resp.Protocol = &synced.ProtocolType, &synced.Protocol
	if synced.Assignment != nil {
		resp.MemberAssignment = synced.Assignment
	}
	return resp, nil
}
