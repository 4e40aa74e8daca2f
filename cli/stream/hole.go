package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// How much one look for records asks for, of one partition and of all.
const (
	probePartitionBytes = 1 << 20
	probeBytes          = 16 << 20
)

// closeEmpty closes the partitions that hold no record any more between where
// reading is and where it ends: compaction leaves offsets without records, and
// aborted transactions leave records that are not shown. The client goes on
// behind them without a word, so the answers of the broker are read here themselves.
//
// What is not certain stays open, as with a leader that moves: the next look tells.
func (s *reading) closeEmpty(ctx context.Context) error {
	looking := maps.Clone(s.open)
	for len(looking) > 0 {
		leaders := map[int32]map[int32]bound{}
		for p, b := range looking {
			leader, _, err := s.client.PartitionLeader(s.Topic, p)
			if err != nil || leader < 0 {
				delete(looking, p)
				continue
			}
			if leaders[leader] == nil {
				leaders[leader] = map[int32]bound{}
			}
			leaders[leader][p] = b
		}
		for leader, bounds := range leaders {
			answers, err := s.fetch(ctx, leader, bounds)
			if err != nil {
				return err
			}
			if err := s.judge(answers, bounds, looking); err != nil {
				return err
			}
		}
	}
	return nil
}

// judge takes from looking what an answer settles, and closes what is empty.
// At least one partition is settled or gets further.
func (s *reading) judge(answers map[int32]*kmsg.FetchResponseTopicPartition, bounds, looking map[int32]bound) error {
	// A partition may come without records because others have used up the
	// limits; when none has any, nothing was left out.
	complete := true
	for _, a := range answers {
		complete = complete && len(a.RecordBatches) == 0
	}
	for p, b := range bounds {
		a := answers[p]
		if a == nil {
			delete(looking, p)
			continue
		}
		if a.ErrorCode == 0 && len(a.RecordBatches) == 0 && !complete {
			continue
		}
		next, empty, err := s.look(a, p, b)
		switch {
		case err != nil:
			return fmt.Errorf("partition %d: %w", p, err)
		case empty:
			delete(looking, p)
			s.close(p)
		case next > b.from:
			looking[p] = bound{from: next, to: b.to}
		default:
			delete(looking, p)
		}
	}
	return nil
}

// look reads an answer: b is empty, or goes on without a record at next, or
// (next is where b begins) has a record or cannot be told about.
func (s *reading) look(a *kmsg.FetchResponseTopicPartition, partition int32, b bound) (next int64, empty bool, err error) {
	o := kgo.ProcessFetchPartitionOpts{
		KeepControlRecords: true, Offset: b.from, IsolationLevel: kgo.ReadCommitted(), Topic: s.Topic, Partition: partition,
	}
	end := a.LastStableOffset
	if s.Isolation == ReadUncommitted {
		o.IsolationLevel, end = kgo.ReadUncommitted(), a.HighWatermark
	}
	read, next := kgo.ProcessFetchPartition(o, a, kgo.DefaultDecompressor(), nil)
	switch {
	case errors.Is(read.Err, kerr.OffsetOutOfRange) && a.LogStartOffset > b.from:
		return a.LogStartOffset, a.LogStartOffset >= b.to, nil // deleted meanwhile
	case read.Err != nil && !kerr.IsRetriable(read.Err):
		return 0, false, read.Err
	case read.Err != nil:
		return b.from, false, nil
	case len(read.Records) > 0:
		return b.from, read.Records[0].Offset >= b.to, nil
	case len(a.RecordBatches) == 0:
		// Nothing lies at or behind this offset, unless the broker knows less than it did.
		return b.from, end >= b.to, nil
	}
	return next, next >= b.to, nil
}

// fetch asks a leader for what partitions have from offsets on, without waiting.
func (s *reading) fetch(ctx context.Context, leader int32, bounds map[int32]bound) (map[int32]*kmsg.FetchResponseTopicPartition, error) {
	req := kmsg.NewPtrFetchRequest()
	req.MinBytes, req.MaxBytes = 1, probeBytes
	if s.Isolation == ReadCommitted {
		req.IsolationLevel = 1
	}
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID = s.Topic, s.topic.ID
	for p, b := range bounds {
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = p, b.from, probePartitionBytes
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	response, err := s.client.Broker(int(leader)).RetriableRequest(ctx, req)
	if err != nil {
		return nil, err
	}
	answers := map[int32]*kmsg.FetchResponseTopicPartition{}
	if answer, ok := response.(*kmsg.FetchResponse); ok && answer.ErrorCode == 0 && len(answer.Topics) == 1 {
		for i := range answer.Topics[0].Partitions {
			a := &answer.Topics[0].Partitions[i]
			answers[a.Partition] = a
		}
	}
	return answers, nil
}
