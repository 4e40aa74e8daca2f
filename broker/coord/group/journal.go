package group

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/topic"
)

// journal is what the coordinator needs of a log. A group's entries all live
// in one shard, so their order is the order of the group's changes.
type journal interface {
	shards() int
	// append writes the entries of one step and returns the shard's position behind
	// them. It does not wait for their durability, and is not given up halfway.
	append(shard int, entries []entry) (end int64, err error)
	// waitDurable returns once everything before end survives a power cut.
	waitDurable(ctx context.Context, shard int, end int64) error
	// replay hands every entry of a shard to f, in order, and returns the position behind the last.
	replay(ctx context.Context, shard int, f func(entry)) (end int64, err error)
}

// batchTargetBytes is where a step with many entries begins another batch,
// well below the smallest useful max.message.bytes.
const batchTargetBytes = 256 << 10

// topicJournal keeps the journal in OffsetsTopic.
type topicJournal struct {
	parts []journalShard
	// unreadable is told about records that are no entries; anybody who may
	// produce to the topic could have written them, so they must not stop the broker.
	unreadable func(partition int, offset int64, err error)
}

// journalShard is one partition of OffsetsTopic and the buffer its batches are built in.
type journalShard struct {
	partition *topic.Partition

	mu      sync.Mutex
	builder record.Builder
	buffer  []byte
}

// openTopicJournal opens OffsetsTopic, creating it if need be.
func openTopicJournal(ctx context.Context, topics *topic.Topics, partitions int, unreadable func(int, int64, error)) (*topicJournal, error) {
	info, ok := topics.Lookup(OffsetsTopic)
	if !ok {
		var err error
		info, err = topics.Create(ctx, OffsetsTopic, partitions, map[string]string{
			"cleanup.policy": "compact",
			"segment.bytes":  "104857600",
		})
		if err != nil && !errors.Is(err, topic.ErrExists) {
			return nil, fmt.Errorf("create %s: %w", OffsetsTopic, err)
		}
		if err != nil {
			info, _ = topics.Lookup(OffsetsTopic)
		}
	}
	j := &topicJournal{unreadable: unreadable, parts: make([]journalShard, info.Partitions)}
	for i := range j.parts {
		p, err := topics.Partition(OffsetsTopic, int32(i))
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", OffsetsTopic, err)
		}
		j.parts[i].partition = p
	}
	if len(j.parts) == 0 {
		return nil, fmt.Errorf("open %s: it has no partitions", OffsetsTopic)
	}
	return j, nil
}

func (j *topicJournal) shards() int { return len(j.parts) }

func (j *topicJournal) append(shard int, entries []entry) (int64, error) {
	s := &j.parts[shard]
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now().UnixMilli()
	s.builder.Reset(s.buffer[:0], record.None)
	for i := range entries {
		if s.builder.Count() > 0 && s.builder.SizeBytes() >= batchTargetBytes {
			s.builder.Reset(s.builder.Finish(), record.None)
		}
		key, value := entries[i].encode()
		s.builder.Append(now, key, value, nil, 0)
	}
	s.buffer = s.builder.Finish()
	done, err := s.partition.Append(context.Background(), s.buffer, topic.FromBroker)
	if err != nil {
		return 0, fmt.Errorf("%w: %s-%d: %w", ErrJournal, OffsetsTopic, shard, err)
	}
	return done.LastOffset + 1, nil
}

func (j *topicJournal) waitDurable(ctx context.Context, shard int, end int64) error {
	err := j.parts[shard].partition.WaitDurable(ctx, end)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: %s-%d: %w", ErrJournal, OffsetsTopic, shard, err)
	}
	return err
}

// replayReadBytes is how much of the journal is read at once at start.
const replayReadBytes = 1 << 20

func (j *topicJournal) replay(ctx context.Context, shard int, f func(entry)) (int64, error) {
	p := j.parts[shard].partition
	var buf, scratch []byte
	bounds := p.Offsets()
	for at := bounds.LogStart; at < bounds.HighWatermark; {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		var err error
		buf, err = p.Read(buf[:0], topic.ReadOptions{Offset: at, MaxBytes: replayReadBytes})
		if err != nil {
			return 0, fmt.Errorf("replay %s-%d from offset %d: %w", OffsetsTopic, shard, at, err)
		}
		if len(buf) == 0 {
			break
		}
		for rest := buf; len(rest) > 0; {
			h, err := record.ParseHeader(rest)
			if err == nil {
				scratch, err = j.replayBatch(shard, rest[:h.Size()], &h, scratch, f)
			}
			if err != nil {
				return 0, fmt.Errorf("replay %s-%d at offset %d: %w", OffsetsTopic, shard, at, err)
			}
			at, rest = h.LastOffset()+1, rest[h.Size():]
		}
	}
	return bounds.HighWatermark, nil
}

func (j *topicJournal) replayBatch(shard int, b []byte, h *record.Header, scratch []byte, f func(entry)) ([]byte, error) {
	if err := record.CheckCRC(b); err != nil {
		return scratch, err
	}
	if h.Control() {
		m, ends, err := record.ParseMarker(b)
		if ends {
			f(entry{txn: txnEntry{producerID: h.ProducerID, marker: &m}})
		}
		return scratch, err
	}
	it, scratch, err := record.Iterate(b, scratch, maxJournalBatchBytes)
	if err != nil {
		return scratch, err
	}
	var r record.Record
	for it.Next(&r) {
		e, err := decodeEntry(r.Key, r.Value)
		if err != nil {
			j.unreadable(shard, r.Offset, err)
			continue
		}
		e.txn = txnEntry{transactional: h.Transactional(), producerID: h.ProducerID, position: r.Offset}
		f(e)
	}
	return scratch, it.Err()
}

// maxJournalBatchBytes bounds what one batch of the journal may decompress to;
// the coordinator's own batches are far smaller and not compressed.
const maxJournalBatchBytes = 64 << 20
