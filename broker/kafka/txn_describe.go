package kafka

import (
	"context"
	"regexp"
	"slices"
	"time"

	"github.com/millstream-io/millstream/broker/coord/txn"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeTransactions: v0
func (s *Service) describeTransactions(_ context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.DescribeTransactionsRequest)
	resp := reply[*kmsg.DescribeTransactionsResponse](req)
	for _, id := range req.TransactionalIDs {
		t := kmsg.NewDescribeTransactionsResponseTransactionState()
		t.TransactionalID, t.StartTimestamp, t.ProducerID, t.ProducerEpoch = id, -1, -1, -1
		d, err := s.Transactions.Describe(id)
		t.ErrorCode = s.txnOutcome("describe transaction", req.Version, 0, err)
		if err == nil {
			describeTransaction(&t, &d)
		}
		resp.TransactionStates = append(resp.TransactionStates, t)
	}
	return resp, nil
}

func describeTransaction(t *kmsg.DescribeTransactionsResponseTransactionState, d *txn.Description) {
	t.State = d.State.String()
	t.TimeoutMillis = int32(d.Timeout.Milliseconds())
	t.ProducerID, t.ProducerEpoch = d.Producer, d.Epoch
	if !d.Started.IsZero() {
		t.StartTimestamp = d.Started.UnixMilli()
	}
	for _, tp := range d.Partitions {
		if n := len(t.Topics); n == 0 || t.Topics[n-1].Topic != tp.Topic {
			topic := kmsg.NewDescribeTransactionsResponseTransactionStateTopic()
			topic.Topic = tp.Topic
			t.Topics = append(t.Topics, topic)
		}
		last := &t.Topics[len(t.Topics)-1]
		last.Partitions = append(last.Partitions, tp.Partition)
	}
}

// ListTransactions: v0-2
//
// Filters by state and producer id, from v1 on by how long a transaction has
// been open, from v2 on by a pattern (RE2) that the whole id must match.
func (s *Service) listTransactions(_ context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.ListTransactionsRequest)
	resp := reply[*kmsg.ListTransactionsResponse](req)
	for _, name := range req.StateFilters {
		if _, ok := txn.ParseState(name); !ok {
			resp.UnknownStateFilters = append(resp.UnknownStateFilters, name)
		}
	}
	var pattern *regexp.Regexp
	if text(req.TransactionalIDPattern) != "" {
		var err error
		if pattern, err = regexp.Compile("^(?:" + *req.TransactionalIDPattern + ")$"); err != nil {
			resp.ErrorCode = kerr.InvalidRegularExpression.Code
			return resp, nil
		}
	}
	now := time.Now()
	for _, l := range s.Transactions.List() {
		age := time.Duration(req.DurationFilterMillis) * time.Millisecond
		switch {
		case len(req.StateFilters) > 0 && !slices.Contains(req.StateFilters, l.State.String()),
			len(req.ProducerIDFilters) > 0 && !slices.Contains(req.ProducerIDFilters, l.Producer),
			req.Version >= 1 && age >= 0 && req.DurationFilterMillis > 0 && (l.Started.IsZero() || now.Sub(l.Started) <= age),
			pattern != nil && !pattern.MatchString(l.ID):
			continue
		}
		t := kmsg.NewListTransactionsResponseTransactionState()
		t.TransactionalID, t.ProducerID, t.TransactionState = l.ID, l.Producer, l.State.String()
		resp.TransactionStates = append(resp.TransactionStates, t)
	}
	return resp, nil
}

// DescribeProducers: v0
func (s *Service) describeProducers(_ context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.DescribeProducersRequest)
	resp := reply[*kmsg.DescribeProducersResponse](req)
	for i := range req.Topics {
		rt := &req.Topics[i]
		t := kmsg.NewDescribeProducersResponseTopic()
		t.Topic = rt.Topic
		for _, index := range rt.Partitions {
			p := kmsg.NewDescribeProducersResponseTopicPartition()
			p.Partition = index
			part, err := s.Topics.Partition(rt.Topic, index)
			p.ErrorCode, p.ErrorMessage = s.outcome("describe producers of "+rt.Topic, err)
			if err == nil {
				for _, info := range part.Producers() {
					a := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
					a.ProducerID, a.ProducerEpoch, a.LastSequence = info.ProducerID, int32(info.Epoch), info.LastSequence
					a.LastTimestamp, a.CoordinatorEpoch, a.CurrentTxnStartOffset = info.Updated.UnixMilli(), 0, info.FirstOpen
					p.ActiveProducers = append(p.ActiveProducers, a)
				}
			}
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}
