package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// endpointBrokers asks for brokers; the other kind is controllers.
const endpointBrokers = 1

// DescribeCluster: v0-2
//
// One broker, never fenced. Controllers have no endpoint of their own.
func (s *Service) describeCluster(_ context.Context, c *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.DescribeClusterRequest)
	resp := reply[*kmsg.DescribeClusterResponse](req)
	if req.Version >= 1 && req.EndpointType != endpointBrokers {
		err := fmt.Errorf("%w: %d, only brokers can be described", kerr.UnsupportedEndpointType, req.EndpointType)
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp, nil
	}
	b := kmsg.NewDescribeClusterResponseBroker()
	b.NodeID = s.Config.NodeID
	b.Host, b.Port = s.advertised(c)
	resp.Brokers = append(resp.Brokers, b)
	resp.ClusterID, resp.ControllerID = s.Config.ClusterID, s.Config.NodeID
	if req.IncludeClusterAuthorizedOperations {
		resp.ClusterAuthorizedOperations = clusterOperations
	}
	return resp, nil
}
