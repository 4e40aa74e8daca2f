package kafka

import (
	"context"

	"github.com/millstream-io/millstream/broker/coord/txn"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// firstEndV2 is the version of EndTxn from which on every transaction has an epoch of its own.
const firstEndV2 = 5

// EndTxn: v0-5
//
// Answered when the decision and its markers are durable, so that the next
// transaction can begin at once. v5 answers the producer to go on with, and
// may be repeated.
func (s *Service) endTxn(ctx context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.EndTxnRequest)
	resp := reply[*kmsg.EndTxnResponse](req)
	v := txn.V1
	if req.Version >= firstEndV2 {
		v = txn.V2
	}
	p, err := s.Transactions.End(ctx, req.TransactionalID, txn.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch}, req.Commit, v)
	resp.ProducerID, resp.ProducerEpoch = p.ID, p.Epoch
	resp.ErrorCode = s.txnOutcome("end transaction", req.Version, 2, err)
	return resp, nil
}
