package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The kinds of coordinator that can be asked for.
const (
	coordinatorGroup       = 0
	coordinatorTransaction = 1
)

// FindCoordinator: v0-6
//
// One broker coordinates everything, groups and transactional ids. v1 brought the kind,
// v4 asks for many keys at once. Share groups (v6) are refused.
func (s *Service) findCoordinator(_ context.Context, c *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.FindCoordinatorRequest)
	resp := reply[*kmsg.FindCoordinatorResponse](req)
	var err error
	if req.CoordinatorType != coordinatorGroup && req.CoordinatorType != coordinatorTransaction {
		err = fmt.Errorf("%w: coordinator type %d is not served", kerr.InvalidRequest, req.CoordinatorType)
	}
	host, port := s.advertised(c)
	node := s.Config.NodeID
	if err != nil {
		host, port, node = "", -1, -1
	}
	if req.Version < 4 {
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		resp.NodeID, resp.Host, resp.Port = node, host, port
		return resp, nil
	}
	for _, key := range req.CoordinatorKeys {
		k := kmsg.NewFindCoordinatorResponseCoordinator()
		k.Key, k.NodeID, k.Host, k.Port = key, node, host, port
		k.ErrorCode, k.ErrorMessage = code(err), message(err)
		resp.Coordinators = append(resp.Coordinators, k)
	}
	return resp, nil
}
