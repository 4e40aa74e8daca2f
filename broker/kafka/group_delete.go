package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteGroups: v0-3
//
// A group with members is NON_EMPTY_GROUP, one that does not exist GROUP_ID_NOT_FOUND.
// Its offsets go with it, durably.
func (s *Service) deleteGroups(ctx context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.DeleteGroupsRequest)
	resp := reply[*kmsg.DeleteGroupsResponse](req)
	for _, name := range req.Groups {
		err := s.Groups.Delete(ctx, name)
		g := kmsg.NewDeleteGroupsResponseGroup()
		g.Group, g.ErrorCode, g.ErrorMessage = name, s.groupOutcome("delete group", err), message(err)
		resp.Groups = append(resp.Groups, g)
	}
	return resp, nil
}
