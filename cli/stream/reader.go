package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// AllPartitions as Request.Partition reads all of them.
const AllPartitions = -1

// Isolation says which records of transactions are seen.
type Isolation bool

// The levels of isolation, by Kafka's names.
const (
	ReadCommitted   Isolation = false // no record of a transaction that is open or was aborted
	ReadUncommitted Isolation = true
)

// Options are what a client must be opened with for Read of committed records.
func Options() []kgo.Opt { return ReadCommitted.Options() }

// Options are what a client must be opened with for a Read at this level.
func (i Isolation) Options() []kgo.Opt {
	level := kgo.ReadCommitted()
	if i == ReadUncommitted {
		level = kgo.ReadUncommitted()
	}
	return []kgo.Opt{
		kgo.FetchIsolationLevel(level),
		// Markers of transactions count for reaching the end, and are never handed out.
		kgo.KeepControlRecords(),
		// Also how long a look for records behind the last one waits for its turn.
		kgo.FetchMaxWait(idleTime),
		kgo.FetchMaxBytes(16 << 20),
		kgo.FetchMaxPartitionBytes(4 << 20),
	}
}

// Request says what to read.
type Request struct {
	Topic     string
	Partition int32 // AllPartitions or one
	From      Position
	// Until is where reading ends without Follow, before the record at it; nil and
	// what lies behind the end: where the partitions end now.
	Until *Position
	// Last, if above 0, reads the newest Last records of all partitions together instead of From and Until.
	Last int
	// Match tells which records Last counts and hands out; nil: all of them.
	Match func(*kgo.Record) bool
	// Isolation must be the one whose Options the client was opened with.
	Isolation Isolation
	// Follow waits for more at the end; otherwise reading ends where the partitions end now.
	Follow bool
	// Idle is called when everything that there is has been handed out and reading waits; nil: nothing.
	Idle func() error
}

// ErrStop as the answer of a visitor ends the reading without an error.
var ErrStop = errors.New("stop reading")

// idleTime is how long nothing comes before the broker is asked whether there is anything before the end at all.
const idleTime = 250 * time.Millisecond

// Read hands the records to visit, in order within a partition, until the end,
// ErrStop, an error or the end of ctx. A record is valid during the call only.
func Read(ctx context.Context, client *kgo.Client, r Request, visit func(*kgo.Record) error) error {
	admin := kadm.NewClient(client)
	t, err := describe(ctx, admin, r.Topic)
	if err != nil {
		return err
	}
	reach, err := r.bounds(ctx, admin, t)
	if err != nil {
		return err
	}
	if r.Last > 0 {
		err = r.readLast(ctx, client, t, reach, visit)
	}
	if err == nil && (r.Last <= 0 || r.Follow) {
		err = r.read(ctx, client, t, reach, visit)
	}
	if errors.Is(err, ErrStop) {
		return nil
	}
	return err
}

// reading is a read under way.
type reading struct {
	*Request
	client *kgo.Client
	topic  kadm.TopicDetail
	visit  func(*kgo.Record) error
	// open are the partitions whose end is not reached; with Follow all of them.
	open map[int32]bound
}

// read hands out what lies within the bounds.
func (r *Request) read(ctx context.Context, client *kgo.Client, t kadm.TopicDetail, reach map[int32]bound, visit func(*kgo.Record) error) error {
	s := &reading{Request: r, client: client, topic: t, visit: visit, open: map[int32]bound{}}
	offsets := map[int32]kgo.Offset{}
	for p, b := range reach {
		if r.Follow || b.from < b.to {
			offsets[p] = kgo.NewOffset().At(b.from)
			s.open[p] = b
		}
	}
	if len(offsets) == 0 {
		return nil
	}
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{r.Topic: offsets})
	defer s.release(slices.Collect(maps.Keys(offsets)))
	for r.Follow || len(s.open) > 0 {
		if err := s.poll(ctx); err != nil {
			return err
		}
	}
	return nil
}

// poll takes one answer of the broker. Partitions that reached their end leave open.
func (s *reading) poll(ctx context.Context) error {
	if s.Idle != nil && s.client.BufferedFetchRecords() == 0 {
		if err := s.Idle(); err != nil {
			return err
		}
	}
	pollCtx, cancel := ctx, context.CancelFunc(func() {})
	if !s.Follow {
		pollCtx, cancel = context.WithTimeout(ctx, idleTime)
	}
	defer cancel()
	fetches := s.client.PollFetches(pollCtx)
	if err := ctx.Err(); err != nil {
		return err
	}
	var failure error
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		if failure == nil {
			failure = s.take(p.Partition, p.Records)
		}
	})
	if failure != nil {
		return failure
	}
	for _, e := range fetches.Errors() {
		if errors.Is(e.Err, context.DeadlineExceeded) && pollCtx.Err() != nil {
			return s.closeEmpty(ctx)
		}
		if !s.open[e.Partition].unread(e.Err) {
			return fmt.Errorf("partition %d: %w", e.Partition, e.Err)
		}
	}
	return nil
}

// take hands out the records of a partition up to its end.
func (s *reading) take(partition int32, records []*kgo.Record) error {
	b, reading := s.open[partition]
	if !reading {
		return nil
	}
	for _, rec := range records {
		if s.Follow || rec.Offset < b.to {
			if !rec.Attrs.IsControl() {
				if err := s.visit(rec); err != nil {
					return err
				}
			}
			b.from = rec.Offset + 1
		}
		if !s.Follow && rec.Offset >= b.to-1 {
			s.close(partition)
			return nil
		}
	}
	s.open[partition] = b
	return nil
}

// close ends the reading of one partition.
func (s *reading) close(partition int32) {
	delete(s.open, partition)
	s.client.PauseFetchPartitions(map[string][]int32{s.Topic: {partition}})
}

// release leaves the client as it was, for the next read.
func (s *reading) release(partitions []int32) {
	all := map[string][]int32{s.Topic: partitions}
	s.client.RemoveConsumePartitions(all)
	s.client.ResumeFetchPartitions(all)
}
