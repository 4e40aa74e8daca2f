package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// CreatePartitions: v0-3
//
// Grows a topic; it cannot shrink.
//
// Omitted: assignments (there is one node) and the timeout.
func (s *Service) createPartitions(ctx context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.CreatePartitionsRequest)
	resp := reply[*kmsg.CreatePartitionsResponse](req)
	for i := range req.Topics {
		rt := &req.Topics[i]
		t := kmsg.NewCreatePartitionsResponseTopic()
		t.Topic = rt.Topic
		var err error
		if req.ValidateOnly {
			err = s.Topics.ValidateGrowth(rt.Topic, int(rt.Count))
		} else {
			err = s.Topics.AddPartitions(ctx, rt.Topic, int(rt.Count))
		}
		t.ErrorCode, t.ErrorMessage = s.outcome("create partitions", err)
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}
