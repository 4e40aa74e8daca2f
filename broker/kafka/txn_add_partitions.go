package kafka

import (
	"context"
	"fmt"

	"github.com/millstream-io/millstream/broker/coord/txn"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// AddPartitionsToTxn: v0-3
//
// All or nothing: if one partition does not exist, the others are not
// attempted. Durable before the answer.
//
// Omitted: v4 and up, by which brokers ask each other.
func (s *Service) addPartitionsToTxn(ctx context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.AddPartitionsToTxnRequest)
	resp := reply[*kmsg.AddPartitionsToTxnResponse](req)
	var partitions []txn.Partition
	refused := false
	for i := range req.Topics {
		rt := &req.Topics[i]
		t := kmsg.NewAddPartitionsToTxnResponseTopic()
		t.Topic = rt.Topic
		for _, index := range rt.Partitions {
			p := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
			p.Partition = index
			err := s.checkProducible(rt.Topic, index)
			p.ErrorCode, _ = s.outcome("add partition to transaction", err)
			refused = refused || err != nil
			partitions = append(partitions, txn.Partition{Topic: rt.Topic, Partition: index})
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	code := kerr.OperationNotAttempted.Code
	if !refused {
		ticket, err := s.Transactions.Add(req.TransactionalID, txn.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch}, txn.V1, partitions...)
		if err == nil {
			err = ticket.Durable(ctx)
		}
		code = s.txnOutcome("add partitions to transaction", req.Version, 2, err)
	}
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			if p := &resp.Topics[i].Partitions[j]; p.ErrorCode == 0 {
				p.ErrorCode = code
			}
		}
	}
	return resp, nil
}

// checkProducible reports whether clients can write to a partition.
func (s *Service) checkProducible(name string, index int32) error {
	if reserved(name) {
		return fmt.Errorf("%w: %q is the broker's own", topic.ErrInvalidName, name)
	}
	_, err := s.Topics.Partition(name, index)
	return err
}

// AddOffsetsToTxn: v0-4
//
// Makes the offsets of a group part of the transaction. Durable before the answer.
func (s *Service) addOffsetsToTxn(ctx context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.AddOffsetsToTxnRequest)
	resp := reply[*kmsg.AddOffsetsToTxnResponse](req)
	if req.Group == "" {
		resp.ErrorCode = kerr.InvalidGroupID.Code
		return resp, nil
	}
	ticket, err := s.Transactions.AddOffsets(req.TransactionalID, txn.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch}, txn.V1, req.Group)
	if err == nil {
		err = ticket.Durable(ctx)
	}
	resp.ErrorCode = s.txnOutcome("add offsets to transaction", req.Version, 2, err)
	return resp, nil
}
