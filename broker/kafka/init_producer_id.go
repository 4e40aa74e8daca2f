package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// InitProducerId: v0-5
//
// A new producer id with epoch 0, never given out before. An idempotent
// producer that lost track (v3 sends its old id) simply gets another one.
//
// Omitted: transactional ids; they are refused with UNSUPPORTED_VERSION, by
// which clients tell their user that the broker has no transactions.
func (s *Service) initProducerID(ctx context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.InitProducerIDRequest)
	resp := reply[*kmsg.InitProducerIDResponse](req)
	resp.ProducerID, resp.ProducerEpoch = -1, -1
	if req.TransactionalID != nil {
		resp.ErrorCode = code(errNoTransactions)
		return resp, nil
	}
	id, err := s.Topics.Metadata().NewProducerID(ctx)
	if err == nil {
		resp.ProducerID, resp.ProducerEpoch = id, 0
	}
	resp.ErrorCode, _ = s.outcome("allocate producer id", err)
	return resp, nil
}
