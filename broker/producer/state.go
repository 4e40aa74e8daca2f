// Package producer makes appends idempotent: for each producer id that writes
// to a partition it remembers the epoch and the last batches, recognises a
// batch that comes twice, and refuses one that comes too early or from an
// epoch that is over (KIP-98, section "Idempotent Producer Guarantees"). It
// also knows the transactions: which are open, and so up to where the log is
// stable, and which were aborted.
//
// The state is a cache of what the log says. It is rebuilt by replaying batch
// headers, from a snapshot on if there is one; a snapshot that is damaged or
// does not fit the log is dropped.
//
// A State is not safe for concurrent use: it is guarded by the same lock as
// the appends whose order it checks.
package producer

import (
	"errors"
	"fmt"
	"time"

	"github.com/millstream-io/millstream/broker/record"
)

// Errors of Check.
var (
	// ErrOutOfOrder says that a batch is missing between the last one and this.
	ErrOutOfOrder = errors.New("out of order sequence number")
	// ErrDuplicate says that a batch was written before, too long ago to say where.
	ErrDuplicate = errors.New("duplicate sequence number")
	// ErrFenced says that the producer id has been given a newer epoch.
	ErrFenced = errors.New("producer epoch is fenced")
	// ErrInTransaction says that a producer writes past its own open transaction.
	ErrInTransaction = errors.New("producer has an open transaction")
)

// windowBatches is how many batches of a producer are remembered: as many as
// a client may have in flight (max.in.flight.requests.per.connection).
const windowBatches = 5

// MaxProducers bounds a State; the one that has been silent for longest is
// forgotten first, but none with an open transaction (the coordinator bounds
// those). Kafka has no bound and expires by time alone.
const MaxProducers = 100_000

// Expiration is how long a silent producer is remembered (producer.id.expiration.ms).
const Expiration = 24 * time.Hour

// Position is where a batch is in the log.
type Position struct {
	BaseOffset, LastOffset int64
}

// batch is one remembered batch.
type batch struct {
	firstSequence, lastSequence int32
	Position
}

// producer is what is known of one producer id.
type producer struct {
	epoch   int16
	updated int64 // ms
	open    bool  // it has an open transaction
	count   int   // batches of the window in use; 0 if the epoch has written none yet
	window  [windowBatches]batch
}

func (p *producer) last() *batch { return &p.window[p.count-1] }

// State is the state of the producers of one partition. The zero value is ready.
type State struct {
	producers map[int64]*producer
	end       int64 // offset behind the last batch seen
	open      []openTransaction
	aborted   []Aborted
	room      *Room
}

// Len is the number of producers remembered.
func (s *State) Len() int { return len(s.producers) }

// End is the offset up to which the log is known.
func (s *State) End() int64 { return s.end }

// Check decides on a batch before it is appended. If it is there already,
// duplicate is true and at says where. Batches without a producer id pass.
func (s *State) Check(h *record.Header) (at Position, duplicate bool, err error) {
	if h.ProducerID < 0 {
		return Position{}, false, nil
	}
	p := s.producers[h.ProducerID]
	switch {
	case p == nil && s.end == 0 && h.BaseSequence != 0:
		// Of two batches in flight to a partition that was never written, the
		// second has come first: taken now, it would make the first a gap (KAFKA-15591).
		return Position{}, false, fmt.Errorf("%w: producer %d begins with sequence %d in an empty log", ErrOutOfOrder, h.ProducerID, h.BaseSequence)
	case p == nil:
		return Position{}, false, nil
	case h.ProducerEpoch < p.epoch:
		return Position{}, false, fmt.Errorf("%w: producer %d writes with epoch %d, its epoch is %d", ErrFenced, h.ProducerID, h.ProducerEpoch, p.epoch)
	case h.ProducerEpoch > p.epoch:
		if h.BaseSequence != 0 {
			return Position{}, false, fmt.Errorf("%w: producer %d begins epoch %d with sequence %d, not 0", ErrOutOfOrder, h.ProducerID, h.ProducerEpoch, h.BaseSequence)
		}
		return Position{}, false, nil
	case p.open && !h.Transactional():
		return Position{}, false, fmt.Errorf("%w: producer %d sends a batch outside of it", ErrInTransaction, h.ProducerID)
	}
	return p.check(h)
}

// check compares a batch with the window of its producer and epoch.
func (p *producer) check(h *record.Header) (at Position, duplicate bool, err error) {
	lastSequence := increment(h.BaseSequence, h.LastOffsetDelta)
	for i := range p.window[:p.count] {
		if b := &p.window[i]; b.firstSequence == h.BaseSequence && b.lastSequence == lastSequence {
			return b.Position, true, nil
		}
	}
	want := int32(0)
	if p.count > 0 {
		want = increment(p.last().lastSequence, 1)
	}
	if h.BaseSequence == want {
		return Position{}, false, nil
	}
	// Sequences are a circle: half of it lies before, half after.
	if distance := (int64(h.BaseSequence) - int64(want)) & sequenceMask; distance > sequenceMask/2 && p.count > 0 {
		return Position{}, false, fmt.Errorf("%w: producer %d sends sequence %d again, the next is %d", ErrDuplicate, h.ProducerID, h.BaseSequence, want)
	}
	return Position{}, false, fmt.Errorf("%w: producer %d sends sequence %d, the next is %d", ErrOutOfOrder, h.ProducerID, h.BaseSequence, want)
}

// sequenceMask keeps a sequence in the 31 bits it has.
const sequenceMask = 1<<31 - 1

// increment adds to a sequence, which wraps to 0 behind 2^31-1.
func increment(sequence, by int32) int32 {
	return int32((int64(sequence) + int64(by)) & sequenceMask)
}

// Appended remembers a batch that is in the log; h carries its base offset.
// It is called for every batch in order, also when the log is replayed, but
// for the markers of transactions (see Ended). The silence of a producer
// counts from now, not from timestamps that clients chose.
func (s *State) Appended(h *record.Header, now time.Time) {
	s.end = h.LastOffset() + 1
	if h.ProducerID < 0 || h.Control() {
		return
	}
	p := s.producer(h, now)
	if h.Transactional() && !p.open {
		p.open = true
		s.open = append(s.open, openTransaction{producerID: h.ProducerID, first: h.BaseOffset})
	}
	if h.BaseSequence < 0 {
		return // a coordinator writes for the producer
	}
	if p.count == windowBatches {
		copy(p.window[:], p.window[1:])
		p.count--
	}
	p.window[p.count] = batch{firstSequence: h.BaseSequence, lastSequence: increment(h.BaseSequence, h.LastOffsetDelta),
		Position: Position{BaseOffset: h.BaseOffset, LastOffset: h.LastOffset()}}
	p.count++
}

// producer returns the producer of a batch that was appended just now, in the batch's epoch.
func (s *State) producer(h *record.Header, now time.Time) *producer {
	p := s.producers[h.ProducerID]
	if p == nil {
		if s.producers == nil {
			s.producers = make(map[int64]*producer)
		}
		if len(s.producers) >= MaxProducers || s.room.full() && len(s.producers) >= keptProducers {
			s.forgetOldest()
		}
		p = &producer{epoch: h.ProducerEpoch}
		s.producers[h.ProducerID] = p
		s.room.add(1)
	}
	if h.ProducerEpoch != p.epoch {
		p.epoch, p.count = h.ProducerEpoch, 0
	}
	p.updated = now.UnixMilli()
	return p
}

// Seen moves the end over batches that were appended without a producer id.
func (s *State) Seen(end int64) { s.end = max(s.end, end) }

// Expire forgets producers that were silent since before; it returns how many.
func (s *State) Expire(before time.Time) int {
	limit, n := before.UnixMilli(), 0
	for id, p := range s.producers {
		if p.updated < limit && !p.open {
			delete(s.producers, id)
			n++
		}
	}
	s.room.add(-n)
	return n
}

// forgetOldest forgets those in the oldest hundredth of the time span, at least one.
func (s *State) forgetOldest() {
	oldest, newest := int64(1<<63-1), int64(-1<<63)
	for _, p := range s.producers {
		if p.open {
			continue
		}
		oldest, newest = min(oldest, p.updated), max(newest, p.updated)
	}
	s.Expire(time.UnixMilli(oldest + (newest-oldest)/100 + 1))
}
