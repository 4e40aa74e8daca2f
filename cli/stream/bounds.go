package stream

import (
	"context"
	"errors"
	"math"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// bound is the part of a partition that is read: from an offset to before another.
type bound struct{ from, to int64 }

// bounds finds what to read of each partition; with Last that is everything up to the end.
func (r *Request) bounds(ctx context.Context, admin *kadm.Client, t kadm.TopicDetail) (map[int32]bound, error) {
	from := r.From
	if r.Last > 0 {
		from = Position{Kind: Start}
	}
	starts, err := r.resolve(ctx, admin, t, from)
	if err != nil {
		return nil, err
	}
	until := Position{Kind: End}
	if r.Until != nil && r.Last <= 0 {
		until = *r.Until
	}
	ends, err := r.resolve(ctx, admin, t, until)
	if err != nil {
		return nil, err
	}
	if _, ok := starts[r.Partition]; r.Partition != AllPartitions && !ok {
		return nil, NoPartition(r.Topic, int(r.Partition), len(starts))
	}
	out := map[int32]bound{}
	for p, at := range starts {
		if r.Partition == AllPartitions || r.Partition == p {
			out[p] = bound{from: at, to: ends[p]}
		}
	}
	return out, nil
}

// PartitionNumber checks what was given as a partition: AllPartitions, or a number that one may have.
func PartitionNumber(n int) (int32, error) {
	if n < AllPartitions || n > math.MaxInt32 {
		return 0, command.Usagef("--partition %d: partitions are numbered from 0", n)
	}
	return int32(n), nil
}

// NoPartition says that a topic of so many partitions has no such one.
func NoPartition(topic string, partition, partitions int) *command.Error {
	return command.NotFoundf("topic %q has no partition %d", topic, partition).
		WithFix("it has %s, numbered from 0", terminal.Count(int64(partitions), "partition"))
}

func (r *Request) resolve(ctx context.Context, admin *kadm.Client, t kadm.TopicDetail, at Position) (map[int32]int64, error) {
	return resolve(ctx, admin, t, at, r.Isolation)
}

// Resolve turns a position into an offset of each partition, within what the partition has for read_committed.
func Resolve(ctx context.Context, admin *kadm.Client, topic string, at Position) (map[int32]int64, error) {
	t, err := describe(ctx, admin, topic)
	if err != nil {
		return nil, err
	}
	return resolve(ctx, admin, t, at, ReadCommitted)
}

func resolve(ctx context.Context, admin *kadm.Client, t kadm.TopicDetail, at Position, level Isolation) (map[int32]int64, error) {
	starts, err := admin.ListStartOffsets(ctx, t.Topic)
	if err != nil {
		return nil, err
	}
	listEnds := admin.ListCommittedOffsets
	if level == ReadUncommitted {
		listEnds = admin.ListEndOffsets
	}
	ends, err := listEnds(ctx, t.Topic)
	if err != nil {
		return nil, err
	}
	var after kadm.ListedOffsets
	if at.Kind == Time {
		if after, err = admin.ListOffsetsAfterMilli(ctx, at.Time.UnixMilli(), t.Topic); err != nil {
			return nil, err
		}
	}
	out := map[int32]int64{}
	for _, p := range t.Partitions.Numbers() {
		start, end, found := starts[t.Topic][p], ends[t.Topic][p], after[t.Topic][p]
		if err := errors.Join(start.Err, end.Err, found.Err); err != nil {
			return nil, err
		}
		switch at.Kind {
		case Start:
			out[p] = start.Offset
		case End:
			out[p] = end.Offset
		case Offset:
			out[p] = min(max(at.Offset, start.Offset), end.Offset)
		case Time:
			out[p] = min(found.Offset, end.Offset)
			if found.Offset < 0 { // nothing as new as that
				out[p] = end.Offset
			}
		}
	}
	return out, nil
}

// Partitions returns the partitions of a topic, ascending.
func Partitions(ctx context.Context, admin *kadm.Client, topic string) ([]int32, error) {
	t, err := describe(ctx, admin, topic)
	if err != nil {
		return nil, err
	}
	return t.Partitions.Numbers(), nil
}

func describe(ctx context.Context, admin *kadm.Client, topic string) (kadm.TopicDetail, error) {
	topics, err := admin.ListTopicsWithInternal(ctx, topic)
	if err != nil {
		return kadm.TopicDetail{}, err
	}
	t := topics[topic]
	return t, t.Err
}

// HeldBack counts the offsets of a topic, or of one partition, that lie behind
// the beginning of an open transaction, where read_committed does not go yet.
func HeldBack(ctx context.Context, admin *kadm.Client, topic string, partition int32) (int64, error) {
	stable, err := admin.ListCommittedOffsets(ctx, topic)
	if err != nil {
		return 0, err
	}
	ends, err := admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return 0, err
	}
	var n int64
	for p, end := range ends[topic] {
		last, ok := stable.Lookup(topic, p)
		if ok && end.Err == nil && last.Err == nil && (partition == AllPartitions || partition == p) {
			n += max(0, end.Offset-last.Offset)
		}
	}
	return n, nil
}

// unread returns whether err says that only what has not been handed out is gone from the log. franz-go passes over aborted
// records without noting the leader epoch in which they were written, and may take them for lost when the leader changes.
func (b bound) unread(err error) bool {
	loss, ok := errors.AsType[*kgo.ErrDataLoss](err)
	return ok && loss.ResetTo < loss.ConsumedTo && loss.ResetTo >= b.from
}
