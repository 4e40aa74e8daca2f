package stream

import (
	"context"
	"errors"
	"fmt"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// AllPartitions as Request.Partition reads all of them.
const AllPartitions = -1

// Options are what a client must be opened with for Read.
func Options() []kgo.Opt {
	return []kgo.Opt{
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// Markers of transactions count for reaching the end, and are never handed out.
		kgo.KeepControlRecords(),
		kgo.FetchMaxBytes(16 << 20),
		kgo.FetchMaxPartitionBytes(4 << 20),
	}
}

// Request says what to read.
type Request struct {
	Topic     string
	Partition int32 // AllPartitions or one
	From      Position
	// Follow waits for more at the end; otherwise reading ends where the partitions end now.
	Follow bool
	// Idle is called when everything that there is has been handed out and reading waits; nil: nothing.
	Idle func() error
}

// ErrStop as the answer of a visitor ends the reading without an error.
var ErrStop = errors.New("stop reading")

// Read hands the records to visit, in order within a partition, until the end,
// ErrStop, an error or the end of ctx. A record is valid during the call only.
func Read(ctx context.Context, client *kgo.Client, r Request, visit func(*kgo.Record) error) error {
	bounds, err := bounds(ctx, kadm.NewClient(client), r)
	if err != nil {
		return err
	}
	open := map[int32]int64{} // partition → where to stop
	offsets := map[int32]kgo.Offset{}
	for p, b := range bounds {
		if r.Follow || b.from < b.to {
			offsets[p] = kgo.NewOffset().At(b.from)
			open[p] = b.to
		}
	}
	if len(offsets) == 0 {
		return nil
	}
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{r.Topic: offsets})
	for {
		if err := poll(ctx, client, r, open, visit); err != nil {
			if errors.Is(err, ErrStop) {
				return nil
			}
			return err
		}
		if !r.Follow && len(open) == 0 {
			return nil
		}
	}
}

// poll takes one answer of the broker. Partitions that reached their end leave open.
func poll(ctx context.Context, client *kgo.Client, r Request, open map[int32]int64, visit func(*kgo.Record) error) error {
	if r.Idle != nil && client.BufferedFetchRecords() == 0 {
		if err := r.Idle(); err != nil {
			return err
		}
	}
	fetches := client.PollFetches(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, e := range fetches.Errors() {
		return fmt.Errorf("partition %d: %w", e.Partition, e.Err)
	}
	var failure error
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		stop, reading := open[p.Partition]
		if !reading || failure != nil {
			return
		}
		for _, rec := range p.Records {
			if !r.Follow && rec.Offset >= stop {
				delete(open, p.Partition)
				return
			}
			if !rec.Attrs.IsControl() {
				if failure = visit(rec); failure != nil {
					return
				}
			}
			if !r.Follow && rec.Offset >= stop-1 {
				delete(open, p.Partition)
				client.PauseFetchPartitions(map[string][]int32{r.Topic: {p.Partition}})
				return
			}
		}
	})
	return failure
}

type bound struct{ from, to int64 }

// bounds finds the first and the last offset to read of each partition.
func bounds(ctx context.Context, admin *kadm.Client, r Request) (map[int32]bound, error) {
	from, err := Resolve(ctx, admin, r.Topic, r.From)
	if err != nil {
		return nil, err
	}
	ends, err := admin.ListCommittedOffsets(ctx, r.Topic)
	if err != nil {
		return nil, err
	}
	if _, ok := from[r.Partition]; r.Partition != AllPartitions && !ok {
		return nil, command.NotFoundf("topic %q has no partition %d", r.Topic, r.Partition).
			WithFix("its partitions are 0 to %d", len(from)-1)
	}
	out := map[int32]bound{}
	for p, at := range from {
		if r.Partition == AllPartitions || r.Partition == p {
			out[p] = bound{from: at, to: ends[r.Topic][p].Offset}
		}
	}
	return out, nil
}

// Resolve turns a position into an offset of each partition, within what the partition has.
func Resolve(ctx context.Context, admin *kadm.Client, topic string, at Position) (map[int32]int64, error) {
	partitions, err := Partitions(ctx, admin, topic)
	if err != nil {
		return nil, err
	}
	starts, err := admin.ListStartOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	ends, err := admin.ListCommittedOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	var after kadm.ListedOffsets
	if at.Kind == Time {
		if after, err = admin.ListOffsetsAfterMilli(ctx, at.Time.UnixMilli(), topic); err != nil {
			return nil, err
		}
	}
	out := map[int32]int64{}
	for _, p := range partitions {
		start, end, found := starts[topic][p], ends[topic][p], after[topic][p]
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
			out[p] = found.Offset
			if found.Offset < 0 { // nothing as new as that
				out[p] = end.Offset
			}
		}
	}
	return out, nil
}

// Partitions returns the partitions of a topic, ascending.
func Partitions(ctx context.Context, admin *kadm.Client, topic string) ([]int32, error) {
	topics, err := admin.ListTopics(ctx, topic)
	if err != nil {
		return nil, err
	}
	t := topics[topic]
	if t.Err != nil {
		return nil, t.Err
	}
	return t.Partitions.Numbers(), nil
}
