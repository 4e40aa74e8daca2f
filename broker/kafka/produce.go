package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/coord/txn"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Values of acks.
const (
	acksAll    = -1
	acksNone   = 0
	acksLeader = 1
)

// Produce: v3-13
//
// One batch per partition, appended as it came. acks=1 is answered from the
// page cache, acks=all after the fsync that covers all partitions of the
// request; acks=0 has no response, and like in Kafka an error closes the
// connection, which is the only way to tell the client. v8 names the records
// that were refused, v13 names topics by id.
//
// A transactional batch is appended within its transaction; v12 makes the
// partition part of it, which before needs AddPartitionsToTxn (KIP-890).
//
// Omitted: v10's leader hints (there is one node).
func (s *Service) produce(ctx context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.ProduceRequest)
	resp := reply[*kmsg.ProduceResponse](req)
	var refusal error
	var x producedTransaction
	if req.Acks < acksAll || req.Acks > acksLeader {
		refusal = fmt.Errorf("%w: acks=%d", kerr.InvalidRequiredAcks, req.Acks)
	} else {
		x = s.joinTransaction(req)
	}
	var written []appendedPartition
	var failed error
	resp.Topics = make([]kmsg.ProduceResponseTopic, len(req.Topics))
	for i := range req.Topics {
		rt, t := &req.Topics[i], &resp.Topics[i]
		t.Topic, t.TopicID = rt.Topic, rt.TopicID
		name, err := s.producedTopic(req.Version, rt)
		if refusal != nil {
			err = refusal
		}
		t.Partitions = make([]kmsg.ProduceResponseTopicPartition, len(rt.Partitions))
		for j := range rt.Partitions {
			rp, p := &rt.Partitions[j], &t.Partitions[j]
			p.Default()
			p.Partition = rp.Partition
			perr := err
			var at appendedPartition
			if perr == nil {
				at, perr = s.appendBatch(ctx, &x, name, rp, p)
			}
			if perr != nil {
				failed = perr
				s.refuseBatch(p, name, perr)
				continue
			}
			written = append(written, at)
		}
	}
	switch {
	case req.Acks == acksNone && failed != nil:
		return nil, fmt.Errorf("acks=0 leaves no other way to tell the client: %w", failed)
	case req.Acks == acksNone:
		return nil, nil
	case req.Acks == acksAll:
		s.waitDurable(ctx, &x, written, time.Duration(req.TimeoutMillis)*time.Millisecond)
	}
	return resp, nil
}

// appendedPartition is a partition that a request has written to.
type appendedPartition struct {
	partition *topic.Partition
	end       int64 // offset behind the last record
	resp      *kmsg.ProduceResponseTopicPartition
}

// producedTopic returns the name of a topic that clients may write to.
func (s *Service) producedTopic(version int16, rt *kmsg.ProduceRequestTopic) (string, error) {
	name := rt.Topic
	if version >= 13 {
		info, ok := s.Topics.LookupID(rt.TopicID)
		if !ok {
			return "", fmt.Errorf("%w: %x", kerr.UnknownTopicID, rt.TopicID)
		}
		name = info.Name
	}
	if err := topic.ValidateName(name); err != nil {
		return "", err
	}
	if reserved(name) {
		return "", fmt.Errorf("%w: %q is the broker's own", topic.ErrInvalidName, name)
	}
	return name, nil
}

// reserved reports whether a topic is written by the broker alone.
func reserved(name string) bool { return name == group.OffsetsTopic || name == txn.StateTopic }

func (s *Service) appendBatch(ctx context.Context, x *producedTransaction, name string, rp *kmsg.ProduceRequestTopicPartition, resp *kmsg.ProduceResponseTopicPartition) (appendedPartition, error) {
	p, err := s.Topics.Partition(name, rp.Partition)
	if err != nil {
		return appendedPartition{}, err
	}
	at, err := x.appendTo(ctx, s, p, rp.Records)
	if err != nil {
		return appendedPartition{}, err
	}
	resp.BaseOffset, resp.LogStartOffset = at.BaseOffset, at.LogStart
	if !at.LogAppendTime.IsZero() {
		resp.LogAppendTime = at.LogAppendTime.UnixMilli()
	}
	return appendedPartition{partition: p, end: at.LastOffset + 1, resp: resp}, nil
}

// refuseBatch puts an error into a partition's response.
func (s *Service) refuseBatch(p *kmsg.ProduceResponseTopicPartition, name string, err error) {
	p.ErrorCode, p.ErrorMessage = s.outcome("produce to "+name, err)
	p.BaseOffset = -1
	var records *topic.InvalidRecordsError
	if errors.As(err, &records) {
		for _, i := range records.Indexes {
			r := kmsg.NewProduceResponseTopicPartitionErrorRecord()
			r.RelativeOffset, r.ErrorMessage = int32(i), &records.Reason
			p.ErrorRecords = append(p.ErrorRecords, r)
		}
	}
}

// waitDurable waits for the fsyncs of all partitions, and of the transaction's
// journal, at once, at most for timeout.
func (s *Service) waitDurable(ctx context.Context, x *producedTransaction, written []appendedPartition, timeout time.Duration) {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	var wg sync.WaitGroup
	joined := sync.OnceValue(func() error { return x.waitDurable(ctx) })
	if x.id != "" {
		wg.Go(func() { joined() })
	}
	defer wg.Wait()
	wait := func(a *appendedPartition) {
		err := a.partition.WaitDurable(ctx, a.end)
		if err == nil {
			err = joined()
		}
		if err != nil {
			s.refuseBatch(a.resp, a.partition.Topic(), err)
		}
	}
	if len(written) == 1 {
		wait(&written[0])
		return
	}
	for i := range written {
		wg.Go(func() { wait(&written[i]) })
	}
}
