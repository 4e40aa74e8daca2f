package txn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/topic"
)

// journal is StateTopic. All records of a transactional id are in one shard,
// so their order is the order of its changes; the last one counts.
type journal struct {
	shards []journalShard
	// unreadable is told about records that are no entries: one of them must not stop the broker.
	unreadable func(partition int, offset int64, err error)
}

// journalShard is one partition of StateTopic and the buffer its batches are built in.
type journalShard struct {
	partition *topic.Partition

	mu      sync.Mutex
	builder record.Builder
	buffer  []byte
}

// position is where a record of the journal ends.
type position struct {
	shard int
	end   int64
}

// openJournal opens StateTopic, creating it if need be.
func openJournal(ctx context.Context, topics *topic.Topics, partitions int, unreadable func(int, int64, error)) (*journal, error) {
	info, ok := topics.Lookup(StateTopic)
	if !ok {
		var err error
		info, err = topics.Create(ctx, StateTopic, partitions, map[string]string{
			"cleanup.policy": "compact",
			"segment.bytes":  "104857600",
		})
		if err != nil {
			return nil, fmt.Errorf("create %s: %w", StateTopic, err)
		}
	}
	j := &journal{unreadable: unreadable, shards: make([]journalShard, info.Partitions)}
	for i := range j.shards {
		p, err := topics.Partition(StateTopic, int32(i))
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", StateTopic, err)
		}
		j.shards[i].partition = p
	}
	return j, nil
}

// append writes the record of a transactional id, a tombstone if m is nil. It
// does not wait for its durability and is not given up halfway.
func (j *journal) append(id string, m *metadata) (position, error) {
	shard := shardOf(id, len(j.shards))
	s := &j.shards[shard]
	key, value := encode(id, m)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.builder.Reset(s.buffer[:0], record.None)
	s.builder.Append(time.Now().UnixMilli(), key, value, nil, 0)
	s.buffer = s.builder.Finish()
	at, err := s.partition.Append(context.Background(), s.buffer, topic.FromBroker)
	if err != nil {
		return position{}, fmt.Errorf("%w: %s-%d: %w", ErrJournal, StateTopic, shard, err)
	}
	return position{shard, at.LastOffset + 1}, nil
}

// waitDurable returns once everything before a position survives a power cut.
func (j *journal) waitDurable(ctx context.Context, at position) error {
	err := j.shards[at.shard].partition.WaitDurable(ctx, at.end)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: %s-%d: %w", ErrJournal, StateTopic, at.shard, err)
	}
	return err
}

const (
	// replayReadBytes is how much of the journal is read at once at start.
	replayReadBytes = 1 << 20
	// maxBatchBytes caps what a batch of the journal may unpack to; its own are not compressed.
	maxBatchBytes = 64 << 20
)

// replay hands every record of the journal to f, each id's in order.
func (j *journal) replay(ctx context.Context, f func(id string, m *metadata, at position)) error {
	for i := range j.shards {
		if err := j.replayShard(ctx, i, f); err != nil {
			return err
		}
	}
	return nil
}

func (j *journal) replayShard(ctx context.Context, shard int, f func(string, *metadata, position)) error {
	p := j.shards[shard].partition
	var buf, scratch []byte
	bounds := p.Offsets()
	for at := bounds.LogStart; at < bounds.LogEnd; {
		err := ctx.Err()
		if err == nil {
			buf, err = p.Read(buf[:0], topic.ReadOptions{Offset: at, MaxBytes: replayReadBytes})
		}
		if err != nil {
			return fmt.Errorf("replay %s-%d from offset %d: %w", StateTopic, shard, at, err)
		}
		if len(buf) == 0 {
			return nil
		}
		for rest := buf; len(rest) > 0; {
			h, err := record.ParseHeader(rest)
			if err == nil {
				scratch, err = j.replayBatch(shard, rest[:h.Size()], scratch, f)
			}
			if err != nil {
				return fmt.Errorf("replay %s-%d at offset %d: %w", StateTopic, shard, at, err)
			}
			at, rest = h.LastOffset()+1, rest[h.Size():]
		}
	}
	return nil
}

func (j *journal) replayBatch(shard int, b, scratch []byte, f func(string, *metadata, position)) ([]byte, error) {
	if err := record.CheckCRC(b); err != nil {
		return scratch, err
	}
	it, scratch, err := record.Iterate(b, scratch, maxBatchBytes)
	if err != nil {
		return scratch, err
	}
	var r record.Record
	for it.Next(&r) {
		id, m, err := decode(r.Key, r.Value)
		if errors.Is(err, errForeignRecord) {
			j.unreadable(shard, r.Offset, err)
			continue
		}
		f(id, m, position{shard, r.Offset + 1})
	}
	return scratch, it.Err()
}

// shardOf is how Kafka finds the partition of a transactional id: Java's
// String.hashCode without its sign, modulo the count.
func shardOf(id string, shards int) int {
	var h int32
	for _, r := range id {
		if r > 0xffff { // two UTF-16 units
			r -= 0x10000
			h = h*31 + (0xd800 + r>>10)
			r = 0xdc00 + r&0x3ff
		}
		h = h*31 + r
	}
	return int(uint32(h)&0x7fffffff) % shards
}

func comparePartitions(a, b Partition) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}
