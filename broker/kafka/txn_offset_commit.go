package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/coord/txn"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Versions of TxnOffsetCommit in which its meaning changed.
const (
	txnOffsetAbortable = 4 // TRANSACTION_ABORTABLE is known
	txnOffsetImplicit  = 5 // the group's offsets become part of the transaction
	txnOffsetTopicID   = 6
)

// TxnOffsetCommit: v0-6
//
// Offsets that count once the transaction is committed. v3 says of which
// member and generation the producer is, by which zombies are told (KIP-447);
// v5 makes the offsets part of the transaction, which before needs
// AddOffsetsToTxn; v6 names topics by id. Durable before the answer.
func (s *Service) txnOffsetCommit(ctx context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.TxnOffsetCommitRequest)
	resp := reply[*kmsg.TxnOffsetCommitResponse](req)
	offsets := map[group.TopicPartition]group.Offset{}
	for i := range req.Topics {
		rt := &req.Topics[i]
		info, err := s.groupTopic(req.Version >= txnOffsetTopicID, rt.Topic, rt.TopicID)
		t := kmsg.NewTxnOffsetCommitResponseTopic()
		t.Topic, t.TopicID = rt.Topic, rt.TopicID
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			p := kmsg.NewTxnOffsetCommitResponseTopicPartition()
			p.Partition = rp.Partition
			plain := kmsg.OffsetCommitRequestTopicPartition{Partition: rp.Partition, Metadata: rp.Metadata}
			p.ErrorCode = s.groupOutcome("commit offset in transaction", checkCommit(info, &plain, err))
			if p.ErrorCode == 0 {
				o := group.Offset{Offset: rp.Offset, LeaderEpoch: -1, Metadata: text(rp.Metadata)}
				if req.Version >= 2 {
					o.LeaderEpoch = rp.LeaderEpoch
				}
				offsets[group.TopicPartition{Topic: info.Name, Partition: rp.Partition}] = o
			}
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	err := s.commitInTransaction(ctx, req, offsets)
	if failed := s.txnOutcome("commit offsets in transaction", req.Version, neverFenced, err); failed != 0 {
		for i := range resp.Topics {
			for j := range resp.Topics[i].Partitions {
				if p := &resp.Topics[i].Partitions[j]; p.ErrorCode == 0 {
					p.ErrorCode = failed
				}
			}
		}
	}
	return resp, nil
}

func (s *Service) commitInTransaction(ctx context.Context, req *kmsg.TxnOffsetCommitRequest, offsets map[group.TopicPartition]group.Offset) error {
	p := txn.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch}
	id := group.Identity{Group: req.Group, MemberID: req.MemberID, InstanceID: text(req.InstanceID), Generation: req.Generation}
	if req.Version < 3 {
		id.Generation = -1
	}
	var ticket txn.Ticket
	if req.Version >= txnOffsetImplicit {
		var err error
		if ticket, err = s.Transactions.AddOffsets(req.TransactionalID, p, txn.V2, req.Group); err != nil {
			return err
		}
	}
	var wait func(context.Context) error
	err := s.Transactions.WithinOffsets(req.TransactionalID, p, req.Group, func() (err error) {
		wait, err = s.Groups.CommitInTransaction(id, p.ID, p.Epoch, offsets)
		return err
	})
	if req.Version < txnOffsetTopicID && errors.Is(err, group.ErrStaleEpoch) {
		err = fmt.Errorf("%w: %v", group.ErrIllegalGeneration, err) // all that these versions know
	}
	if err != nil {
		return abortable(err, req.Version, txnOffsetAbortable, 0)
	}
	if err := wait(ctx); err != nil {
		return err
	}
	return ticket.Durable(ctx)
}
