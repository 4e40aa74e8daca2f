package kafka

import (
	"context"
	"fmt"

	"github.com/millstream-io/millstream/broker/topic"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Timestamps of ListOffsets with a meaning of their own.
const (
	timestampLatest        = -1
	timestampEarliest      = -2
	timestampMax           = -3
	timestampEarliestLocal = -4
	timestampLatestTiered  = -5
	timestampPendingUpload = -6
)

// ListOffsets: v1-11
//
// The end of a partition (the last stable offset for readers of committed
// records), its start, the record with the largest timestamp (KIP-734), or
// the first record at or after a timestamp; offset and timestamp -1 if there
// is none, for readers of committed records: none before the last stable
// offset. All of the log is local: the earliest local offset is the earliest,
// and there is neither a tiered offset nor one to be uploaded.
//
// Omitted: the timeout of v10, which is for tiered storage.
func (s *Service) listOffsets(_ context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.ListOffsetsRequest)
	resp := reply[*kmsg.ListOffsetsResponse](req)
	for i := range req.Topics {
		rt := &req.Topics[i]
		t := kmsg.NewListOffsetsResponseTopic()
		t.Topic = rt.Topic
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			p := kmsg.NewListOffsetsResponseTopicPartition()
			p.Partition = rp.Partition
			p.Offset, p.Timestamp = -1, -1
			err := s.listOffset(rt.Topic, rp, req.IsolationLevel == 1, &p)
			p.ErrorCode, _ = s.outcome("list offsets of "+rt.Topic, err)
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}

func (s *Service) listOffset(name string, rp *kmsg.ListOffsetsRequestTopicPartition, committed bool, out *kmsg.ListOffsetsResponseTopicPartition) error {
	p, err := s.Topics.Partition(name, rp.Partition)
	if err != nil {
		return err
	}
	if err := checkLeaderEpoch(p, rp.CurrentLeaderEpoch); err != nil {
		return err
	}
	if out.Offset, out.Timestamp, err = offsetAt(p, rp.Timestamp, committed); err != nil {
		return err
	}
	if out.Offset >= 0 {
		out.LeaderEpoch = p.LeaderEpoch()
	}
	return nil
}

// offsetAt returns the offset that a timestamp stands for, and the timestamp of its record if that was asked for.
func offsetAt(p *topic.Partition, timestamp int64, committed bool) (offset, at int64, err error) {
	o := p.Offsets()
	switch timestamp {
	case timestampLatest:
		if committed {
			return o.LastStable, -1, nil
		}
		return o.HighWatermark, -1, nil
	case timestampEarliest, timestampEarliestLocal:
		return o.LogStart, -1, nil
	case timestampMax:
		return p.MaxTimestamp()
	case timestampLatestTiered, timestampPendingUpload:
		return -1, -1, nil
	}
	if timestamp < 0 {
		return -1, -1, fmt.Errorf("%w: timestamp %d", kerr.UnsupportedVersion, timestamp)
	}
	offset, at, ok, err := p.OffsetForTimestamp(timestamp)
	if err != nil || !ok || committed && offset >= o.LastStable {
		return -1, -1, err
	}
	return offset, at, nil
}
