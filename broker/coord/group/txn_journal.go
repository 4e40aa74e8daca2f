package group

import (
	"context"
	"fmt"
	"time"

	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/topic"
)

// txnEntry is what an entry of the journal has to do with transactions. Its
// zero value is nothing.
type txnEntry struct {
	// transactional entries count once the transaction of producerID is committed.
	transactional bool
	producerID    int64
	// position is where the entry is in its shard.
	position int64
	// marker ends the transaction of producerID in the whole shard; the entry says nothing else.
	marker *record.Marker
}

// transactionJournal is what the coordinator needs of a log for offsets in transactions.
type transactionJournal interface {
	// appendTransactional is journal.append for a producer's transaction; it also returns the position of the first entry.
	appendTransactional(shard int, producerID int64, epoch int16, entries []entry) (first, end int64, err error)
	// appendMarker ends a producer's transaction unless it has none open, and returns the position behind it.
	appendMarker(shard int, producerID int64, epoch int16, m record.Marker) (end int64, err error)
}

func (j *topicJournal) appendTransactional(shard int, producerID int64, epoch int16, entries []entry) (first, end int64, err error) {
	s := &j.parts[shard]
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now().UnixMilli()
	s.builder.Reset(s.buffer[:0], record.None)
	s.builder.SetProducer(producerID, epoch, -1, true)
	for i := range entries {
		if s.builder.Count() > 0 && s.builder.SizeBytes() >= batchTargetBytes {
			s.builder.Reset(s.builder.Finish(), record.None)
			s.builder.SetProducer(producerID, epoch, -1, true)
		}
		key, value := entries[i].encode()
		s.builder.Append(now, key, value, nil, 0)
	}
	s.buffer = s.builder.Finish()
	return s.write(shard)
}

// write appends the buffer.
func (s *journalShard) write(shard int) (first, end int64, err error) {
	done, err := s.partition.Append(context.Background(), s.buffer, topic.FromBroker)
	if err != nil {
		return 0, 0, fmt.Errorf("%w: %s-%d: %w", ErrJournal, OffsetsTopic, shard, err)
	}
	return done.BaseOffset, done.LastOffset + 1, nil
}

func (j *topicJournal) appendMarker(shard int, producerID int64, epoch int16, m record.Marker) (end int64, err error) {
	s := &j.parts[shard]
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, _, open := s.partition.OpenTransaction(producerID); !open {
		return s.partition.Offsets().LogEnd, nil // what an earlier attempt wrote lies before
	}
	s.buffer = record.AppendMarker(s.buffer[:0], producerID, epoch, m, time.Now().UnixMilli())
	_, end, err = s.write(shard)
	return end, err
}
