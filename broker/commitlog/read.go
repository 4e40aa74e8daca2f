package commitlog

import (
	"fmt"
	"math"
	"sync"

	"github.com/millstream-io/millstream/broker/segment"
)

// Read appends whole batches to dst: from the one that holds offset, or the
// first behind it if compaction left none there, those that end at or before
// upTo; at least one if there is any, else as many as fit in maxBytes. It
// does not read across the end of a segment. Nothing is allocated when dst
// has room for maxBytes. An offset at the end of the log reads nothing; one
// outside of it is ErrOffsetOutOfRange.
func (l *Log) Read(dst []byte, offset int64, maxBytes int, upTo int64) ([]byte, error) {
	for {
		b := l.Bounds()
		if offset < b.Start || offset > b.End {
			return dst, outOfRange(l.o.Dir, offset, b)
		}
		upTo = min(upTo, b.End)
		if offset >= upTo {
			return dst, nil
		}
		if l.health.closed.Load() {
			return dst, fmt.Errorf("%w: %s", ErrClosed, l.o.Dir)
		}
		list := *l.segments.Load()
		out, ok, err := l.places.read(list.from(offset), dst, offset, maxBytes, upTo)
		if ok {
			return out, err
		}
		// A segment was closed meanwhile: retention, compaction or Close were here. Look again.
	}
}

func outOfRange(dir string, offset int64, b Bounds) error {
	return fmt.Errorf("%w: %s: offset %d, the log has %d to %d", ErrOffsetOutOfRange, dir, offset, b.Start, b.End)
}

// read reads from the first segment that has something to give; ok is false if one was closed.
func (p *places) read(list segmentList, dst []byte, offset int64, maxBytes int, upTo int64) (out []byte, ok bool, err error) {
	for _, s := range list {
		if !s.Acquire() {
			return dst, false, nil
		}
		out, place, err := s.Read(dst, offset, maxBytes, upTo, p.get(s, offset))
		s.Release()
		if err != nil {
			return dst, true, err
		}
		if len(out) > len(dst) {
			p.put(s, place)
			return out, true, nil
		}
		if s.NextOffset() >= upTo {
			break
		}
	}
	return dst, true, nil
}

// OffsetForTimestamp returns the first record whose timestamp (ms) is at
// least ts, with its timestamp; ok is false if there is none.
func (l *Log) OffsetForTimestamp(ts int64) (offset, timestamp int64, ok bool, err error) {
	b := l.Bounds()
	for _, s := range *l.segments.Load() {
		if s.MaxTimestamp() < ts || s.NextOffset() <= b.Start || !s.Acquire() {
			continue
		}
		offset, timestamp, ok, err = s.OffsetForTimestamp(ts, b.Start)
		s.Release()
		if err != nil || ok && offset < b.End {
			return offset, timestamp, ok, err
		}
	}
	return 0, 0, false, nil
}

// MaxTimestamp returns the first record that has the largest timestamp (ms)
// of the log; -1, -1 if the log is empty.
func (l *Log) MaxTimestamp() (offset, timestamp int64, err error) {
	b := l.Bounds()
	best := int64(math.MinInt64)
	for _, s := range *l.segments.Load() {
		if s.NextOffset() <= b.Start || s.NextOffset() == s.BaseOffset() || !s.Acquire() {
			continue
		}
		largest := s.MaxTimestamp()
		if s.BaseOffset() < b.Start {
			largest, err = s.MaxTimestampFrom(b.Start)
		}
		s.Release()
		if err != nil {
			return 0, 0, err
		}
		best = max(best, largest)
	}
	offset, timestamp, ok, err := l.OffsetForTimestamp(best)
	if err != nil || !ok {
		return -1, -1, err
	}
	return offset, timestamp, nil
}

// placeCount is how many readers that follow each other in one log are spared the index lookup.
const placeCount = 16

// places remembers where reads ended, for whoever goes on there. A lost or
// overwritten place costs a lookup, so nobody waits for the lock.
type places struct {
	mu   sync.Mutex
	list [placeCount]struct {
		segment *segment.Segment
		place   segment.Place
	}
}

func slot(offset int64) int { return int(uint64(offset) * 0x9e3779b97f4a7c15 >> 60) }

func (p *places) get(s *segment.Segment, offset int64) segment.Place {
	if !p.mu.TryLock() {
		return segment.Place{}
	}
	defer p.mu.Unlock()
	if e := &p.list[slot(offset)]; e.segment == s && e.place.Offset == offset {
		return e.place
	}
	return segment.Place{}
}

func (p *places) put(s *segment.Segment, place segment.Place) {
	if !p.mu.TryLock() {
		return
	}
	defer p.mu.Unlock()
	e := &p.list[slot(place.Offset)]
	e.segment, e.place = s, place
}

// forget gives up the places in a segment that leaves the log.
func (p *places) forget(s *segment.Segment) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.list {
		if p.list[i].segment == s {
			p.list[i].segment = nil
		}
	}
}
