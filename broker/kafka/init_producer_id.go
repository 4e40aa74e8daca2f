package kafka

import (
	"context"
	"time"

	"github.com/millstream-io/millstream/broker/coord/txn"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// InitProducerId: v0-5
//
// Without a transactional id: a new producer id with epoch 0, never given out
// before; an idempotent producer that lost track (v3 sends its old id) simply
// gets another one. With a transactional id: its producer id with the next
// epoch; what its former producer left open is aborted before the answer.
// A producer that goes on after an error says who it is (v3, KIP-360).
func (s *Service) initProducerID(ctx context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.InitProducerIDRequest)
	resp := reply[*kmsg.InitProducerIDResponse](req)
	p, expected := txn.NoProducer, txn.NoProducer
	var err error
	if req.TransactionalID == nil {
		if p.ID, err = s.Topics.Metadata().NewProducerID(ctx); err == nil {
			p.Epoch = 0
		}
	} else {
		if req.Version >= 3 {
			expected = txn.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch}
		}
		timeout := time.Duration(req.TransactionTimeoutMillis) * time.Millisecond
		p, err = s.Transactions.InitProducer(ctx, *req.TransactionalID, expected, timeout)
	}
	if err != nil {
		p = txn.NoProducer
	}
	resp.ProducerID, resp.ProducerEpoch = p.ID, p.Epoch
	resp.ErrorCode = s.txnOutcome("initialize producer", req.Version, 4, err)
	return resp, nil
}
