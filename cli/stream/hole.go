package stream

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// probeBytes is how much of a partition one look for records asks for.
const probeBytes = 1 << 20

// closeEmpty closes the partitions that hold no record any more between where
// reading is and where it ends: compaction leaves offsets without records, and
// aborted transactions leave records that are not shown. The client goes on
// behind them without a word, so the answers of the broker are read here themselves.
func (s *reading) closeEmpty(ctx context.Context) error {
	for p, b := range s.open {
		more, err := s.holds(ctx, p, b)
		if err != nil {
			return fmt.Errorf("partition %d: %w", p, err)
		}
		if !more {
			s.close(p)
		}
	}
	return nil
}

// holds reports whether a partition has a record to show within b. An answer
// that leaves it open, as from a broker that lost the lead, is yes: the next look tells.
func (s *reading) holds(ctx context.Context, partition int32, b bound) (bool, error) {
	for b.from < b.to {
		answer, err := s.fetch(ctx, partition, b.from)
		if err != nil {
			return false, err
		}
		if answer == nil {
			return true, nil
		}
		o := kgo.ProcessFetchPartitionOpts{
			KeepControlRecords: true, Offset: b.from, IsolationLevel: kgo.ReadCommitted(), Topic: s.Topic, Partition: partition,
		}
		end := answer.LastStableOffset
		if s.Isolation == ReadUncommitted {
			o.IsolationLevel, end = kgo.ReadUncommitted(), answer.HighWatermark
		}
		read, next := kgo.ProcessFetchPartition(o, answer, kgo.DefaultDecompressor(), nil)
		switch {
		case errors.Is(read.Err, kerr.OffsetOutOfRange) && answer.LogStartOffset > b.from:
			b.from = answer.LogStartOffset // deleted meanwhile
			continue
		case read.Err != nil && !kerr.IsRetriable(read.Err):
			return false, read.Err
		case read.Err != nil:
			return true, nil
		case len(read.Records) > 0:
			return read.Records[0].Offset < b.to, nil
		case next == b.from:
			// Nothing lies at or behind this offset, unless the broker knows less than it did.
			return end < b.to, nil
		}
		b.from = next
	}
	return false, nil
}

// fetch asks the leader of a partition for what it has from an offset on, without waiting; nil if there is no leader now.
func (s *reading) fetch(ctx context.Context, partition int32, offset int64) (*kmsg.FetchResponseTopicPartition, error) {
	leader, _, err := s.client.PartitionLeader(s.Topic, partition)
	if err != nil || leader < 0 {
		return nil, nil
	}
	req := kmsg.NewPtrFetchRequest()
	req.MinBytes, req.MaxBytes = 1, probeBytes
	if s.Isolation == ReadCommitted {
		req.IsolationLevel = 1
	}
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID = s.Topic, s.topic.ID
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = partition, offset, probeBytes
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	response, err := s.client.Broker(int(leader)).RetriableRequest(ctx, req)
	if err != nil {
		return nil, err
	}
	answer, ok := response.(*kmsg.FetchResponse)
	if !ok || answer.ErrorCode != 0 || len(answer.Topics) != 1 || len(answer.Topics[0].Partitions) != 1 {
		return nil, nil
	}
	return &answer.Topics[0].Partitions[0], nil
}
