package kafka

import (
	"context"
	"errors"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// groupOperations are what a principal may do with a group, as bits: read, delete, describe.
const groupOperations = 1<<3 | 1<<6 | 1<<8

// DescribeGroups: v0-6
//
// Before v6 a group that does not exist is described as Dead, without an error;
// from v6 on it is GROUP_ID_NOT_FOUND. Protocol and the members' metadata are
// told while the group is stable.
func (s *Service) describeGroups(_ context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.DescribeGroupsRequest)
	resp := reply[*kmsg.DescribeGroupsResponse](req)
	for _, name := range req.Groups {
		g := kmsg.NewDescribeGroupsResponseGroup()
		g.Group = name
		if req.IncludeAuthorizedOperations {
			g.AuthorizedOperations = groupOperations
		}
		d, err := s.Groups.Describe(name)
		if errors.Is(err, group.ErrGroupNotFound) && req.Version < 6 {
			d.State, err = group.StateDead.String(), nil
		}
		if err != nil {
			g.State = group.StateDead.String()
			g.ErrorCode, g.ErrorMessage = s.groupOutcome("describe group", err), message(err)
		} else {
			describeGroup(&g, &d)
		}
		resp.Groups = append(resp.Groups, g)
	}
	return resp, nil
}

func describeGroup(g *kmsg.DescribeGroupsResponseGroup, d *group.Description) {
	stable := d.State == group.StateStable.String()
	g.State, g.ProtocolType = d.State, d.ProtocolType
	if stable {
		g.Protocol = d.Protocol
	}
	for i := range d.Members {
		from := &d.Members[i]
		m := kmsg.NewDescribeGroupsResponseGroupMember()
		m.MemberID, m.InstanceID = from.MemberID, nullable(from.InstanceID)
		m.ClientID, m.ClientHost = from.ClientID, from.ClientHost
		if stable {
			m.ProtocolMetadata, m.MemberAssignment = from.Metadata, from.Assignment
		}
		g.Members = append(g.Members, m)
	}
}
