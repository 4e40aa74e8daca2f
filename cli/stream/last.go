package stream

import (
	"bytes"
	"context"
	"maps"
	"slices"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// MaxLast is the largest Request.Last: the records are held in memory until they are in order.
const MaxLast = 1_000_000

// maxLastBytes bounds the records that are held to find the newest ones.
const maxLastBytes = 256 << 20

// last collects the newest records of each partition, from the end backwards.
type last struct {
	*Request
	newest map[int32][]*kgo.Record // ascending, at most Last of each partition
	edge   map[int32]int64         // everything from here on is in newest
	bytes  int
}

// readLast hands out the newest Last records of all partitions: how many of
// each is decided by their timestamps, and they come in the order of those as
// far as the order within a partition allows. Then it moves reach behind them.
func (r *Request) readLast(ctx context.Context, client *kgo.Client, t kadm.TopicDetail, reach map[int32]bound, visit func(*kgo.Record) error) error {
	l := &last{Request: r, newest: map[int32][]*kgo.Record{}, edge: map[int32]int64{}}
	for p, b := range reach {
		l.edge[p] = b.to
	}
	// Markers and holes take offsets too, so the first guess may find too few.
	for span := int64(r.Last) + 16; ; span *= 4 {
		window := map[int32]bound{}
		for p, b := range reach {
			if len(l.newest[p]) < r.Last && l.edge[p] > b.from {
				window[p] = bound{from: max(b.from, l.edge[p]-span), to: l.edge[p]}
			}
		}
		if len(window) == 0 {
			break
		}
		if err := l.add(ctx, client, t, window); err != nil {
			return err
		}
	}
	for p, b := range reach {
		reach[p] = bound{from: b.to, to: b.to}
	}
	return inOrder(l.newest, r.Last, visit)
}

// add reads windows that end where newest begins.
func (l *last) add(ctx context.Context, client *kgo.Client, t kadm.TopicDetail, window map[int32]bound) error {
	found := map[int32][]*kgo.Record{}
	sub := Request{Topic: l.Topic, Partition: l.Partition, Isolation: l.Isolation}
	err := sub.read(ctx, client, t, window, func(rec *kgo.Record) error {
		if l.Match != nil && !l.Match(rec) {
			return nil
		}
		own := detached(rec)
		l.bytes += size(own)
		found[rec.Partition] = l.trim(append(found[rec.Partition], own), 2*l.Last)
		if l.bytes > maxLastBytes {
			return command.Usagef("the newest %d records of each of %d partitions take more than %d MiB", l.Last, len(l.edge), maxLastBytes>>20).
				WithFix("ask for fewer, or for one partition: --partition NUMBER")
		}
		return nil
	})
	for p, records := range found {
		l.newest[p] = l.trim(append(records, l.newest[p]...), l.Last)
	}
	for p, b := range window {
		l.edge[p] = b.from
	}
	return err
}

// trim drops the oldest records down to Last when there are more than limit.
func (l *last) trim(records []*kgo.Record, limit int) []*kgo.Record {
	if len(records) <= limit {
		return records
	}
	surplus := len(records) - l.Last
	for _, rec := range records[:surplus] {
		l.bytes -= size(rec)
	}
	return slices.Clone(records[surplus:])
}

// inOrder visits the newest count records, oldest first.
func inOrder(newest map[int32][]*kgo.Record, count int, visit func(*kgo.Record) error) error {
	partitions := slices.Sorted(maps.Keys(newest))
	begin := map[int32]int{} // index of the first that is shown
	for _, p := range partitions {
		begin[p] = len(newest[p])
	}
	for range count {
		best := int32(-1)
		for _, p := range partitions {
			if i := begin[p]; i > 0 && (best < 0 || newest[p][i-1].Timestamp.After(newest[best][begin[best]-1].Timestamp)) {
				best = p
			}
		}
		if best < 0 {
			break
		}
		begin[best]--
	}
	for {
		best := int32(-1)
		for _, p := range partitions {
			if i := begin[p]; i < len(newest[p]) && (best < 0 || newest[p][i].Timestamp.Before(newest[best][begin[best]].Timestamp)) {
				best = p
			}
		}
		if best < 0 {
			return nil
		}
		if err := visit(newest[best][begin[best]]); err != nil {
			return err
		}
		begin[best]++
	}
}

// detached is a copy of a record that does not hold the whole batch it came in.
func detached(rec *kgo.Record) *kgo.Record {
	own := *rec
	own.Key, own.Value = bytes.Clone(rec.Key), bytes.Clone(rec.Value)
	own.Headers = slices.Clone(rec.Headers)
	for i, h := range own.Headers {
		own.Headers[i].Value = bytes.Clone(h.Value)
	}
	return &own
}

func size(rec *kgo.Record) int {
	const overhead = 256
	n := overhead + len(rec.Key) + len(rec.Value)
	for _, h := range rec.Headers {
		n += len(h.Key) + len(h.Value)
	}
	return n
}
