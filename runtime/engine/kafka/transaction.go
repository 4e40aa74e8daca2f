package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millstream-io/millstream/runtime/engine"
)

// addPartitions makes partitions part of the transaction, where a write does not do so by itself.
func (w *writer) addPartitions(ctx context.Context, batches []sent) error {
	var fresh []engine.TopicPartition
	for _, s := range batches {
		if !s.p.added {
			fresh = append(fresh, s.p.tp)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = w.txn, w.id, w.epoch
	byTopic(fresh, func(topic string, numbers []int32) {
		t := kmsg.NewAddPartitionsToTxnRequestTopic()
		t.Topic, t.Partitions = topic, numbers
		req.Topics = append(req.Topics, t)
	})
	answer, err := req.RequestWith(ctx, w.c.client)
	if err != nil {
		return err
	}
	for _, t := range answer.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil && !errors.Is(err, kerr.OperationNotAttempted) {
				return fmt.Errorf("add %s-%d to transaction %q: %w", t.Topic, p.Partition, w.txn, err)
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range batches {
		s.p.added = true
	}
	return nil
}

// addOffsets makes the group's offsets part of the transaction, where their commit does not do so by itself.
func (w *writer) addOffsets(ctx context.Context, group string) error {
	w.mu.Lock()
	w.began = true
	w.mu.Unlock()
	if w.implicit {
		return nil
	}
	req := kmsg.NewPtrAddOffsetsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = w.txn, w.id, w.epoch, group
	return retry(ctx, sendTimeout, func() error {
		answer, err := req.RequestWith(ctx, w.c.client)
		if err == nil {
			err = kerr.ErrorForCode(answer.ErrorCode)
		}
		return err
	})
}

// commitOffsets adds offsets to the transaction, in the name of a member (KIP-447), and returns the node that took them.
func (w *writer) commitOffsets(ctx context.Context, group string, who identity, offsets map[engine.TopicPartition]committed) (coordinator int32, err error) {
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = w.txn, w.id, w.epoch
	req.Group, req.MemberID, req.Generation = group, who.member, who.generation
	byTopic(slices.Collect(maps.Keys(offsets)), func(topic string, numbers []int32) {
		t := kmsg.NewTxnOffsetCommitRequestTopic()
		t.Topic = topic
		for _, n := range numbers {
			at := offsets[engine.TopicPartition{Topic: topic, Partition: n}]
			p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
			p.Partition, p.Offset, p.Metadata = n, at.offset, &at.mark
			t.Partitions = append(t.Partitions, p)
		}
		req.Topics = append(req.Topics, t)
	})
	shard := w.c.client.RequestSharded(ctx, req)[0]
	if shard.Err != nil && !w.implicit {
		// It may still arrive, in the next transaction even: that has to have another epoch.
		return -1, fmt.Errorf("%w: commit offsets of group %q: %v", engine.ErrAborted, group, shard.Err)
	}
	if shard.Err != nil {
		return -1, shard.Err
	}
	for _, t := range shard.Resp.(*kmsg.TxnOffsetCommitResponse).Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return -1, fmt.Errorf("commit offset of %s-%d in group %q: %w", t.Topic, p.Partition, group, err)
			}
		}
	}
	return shard.Meta.NodeID, nil
}

// end ends the transaction. Asking again for what was decided is answered alike, so an answer that is lost is
// asked for again. After an error the transaction may have ended as it was asked to, if unanswered is set: there was
// no answer, or one that says nothing.
func (w *writer) end(ctx context.Context, commit bool) (unanswered bool, err error) {
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = w.txn, w.id, w.epoch, commit
	err = retry(ctx, sendTimeout, func() error {
		answer, err := req.RequestWith(ctx, w.c.client)
		if err != nil {
			unanswered = true
			return err
		}
		if err := kerr.ErrorForCode(answer.ErrorCode); err != nil {
			unanswered = unanswered || errors.Is(err, kerr.UnknownServerError) || errors.Is(err, kerr.RequestTimedOut)
			return err
		}
		if answer.Version >= 5 && answer.ProducerID >= 0 {
			w.advance(answer.ProducerID, answer.ProducerEpoch)
		}
		return nil
	})
	if err != nil {
		return unanswered, fmt.Errorf("end transaction %q: %w", w.txn, err)
	}
	w.mu.Lock()
	w.began, w.first = false, place{}
	w.mu.Unlock()
	w.outputs.joined()
	if unanswered && !w.implicit {
		// What was not answered may still arrive, and would end the next transaction, had that the same epoch. Should there
		// be none to be had, nothing is sent until Abort gets one.
		_ = w.initialise(ctx)
	}
	return false, nil
}

// advance takes the producer id and epoch of the next transaction.
func (w *writer) advance(id int64, epoch int16) {
	if id == w.id && epoch == w.epoch {
		return
	}
	w.id, w.epoch = id, epoch
	w.outputs.restart()
}

// sentSomething reports that there is a transaction to be ended.
func (w *writer) sentSomething() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.began
}

// close stops sending and ends an open transaction, if the cluster is there: else the next owner ends it.
func (w *writer) close(ctx context.Context) {
	w.stop()
	if w.transactional() && w.sentSomething() {
		_, _ = w.end(ctx, false) // nobody is told: it has no effect either way
	}
}
