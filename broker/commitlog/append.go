package commitlog

import (
	"errors"
	"fmt"
	"time"

	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/segment"
	"github.com/millstream-io/millstream/broker/vfs"
)

// Append writes one or more whole, already checked batches at the end of the
// log with one write. Base offset and leader epoch are written into them in
// place (both lie outside the checksum); the slice is not kept. When Append
// returns the batches can be read; WaitDurable tells when they survive a power cut.
//
// Errors: record.ErrCorrupt or ErrTruncated when batches is not a row of whole
// batches; vfs.ErrNoSpace (wrapped) when the disk is full, vfs.ErrNotOpened
// when the process may open no more files: nothing was appended, and the log
// can be used on; ErrFailed, ErrClosed.
func (l *Log) Append(batches []byte, leaderEpoch int32) (Appended, error) {
	l.appendMu.Lock()
	defer l.appendMu.Unlock()
	if err := l.health.usable(); err != nil {
		return Appended{}, err
	}
	offsets, timestamp, err := measure(batches)
	if err != nil {
		return Appended{}, err
	}
	base := l.end.Load()
	if err := l.noteEpoch(leaderEpoch, base); err != nil {
		return Appended{}, err
	}
	active := l.segments.Load().active()
	if l.rollBegun || l.activeAge.mustRoll(l.config.Load(), active, len(batches), base+offsets, timestamp) {
		if err := l.roll(); err != nil {
			return Appended{}, err
		}
		active = l.segments.Load().active()
	}
	next, err := active.Append(batches, base, leaderEpoch)
	if err != nil {
		if errors.Is(err, segment.ErrUncertain) || !errors.Is(err, vfs.ErrNoSpace) && !errors.Is(err, vfs.ErrNotOpened) {
			err = l.health.fail(err)
		}
		return Appended{}, err
	}
	if l.activeAge.first == segment.NoTimestamp {
		l.activeAge.first = timestamp
	}
	l.end.Store(next)
	return Appended{BaseOffset: base, LastOffset: next - 1}, nil
}

// measure returns how many offsets the batches take and the maximum timestamp of the first one.
func measure(batches []byte) (offsets, timestamp int64, err error) {
	if len(batches) == 0 {
		return 0, 0, fmt.Errorf("%w: there is no batch", record.ErrTruncated)
	}
	for b := batches; len(b) > 0; {
		h, err := record.ParseHeader(b)
		if err != nil {
			return 0, 0, err
		}
		if offsets == 0 {
			timestamp = h.MaxTimestamp
		}
		offsets += int64(h.LastOffsetDelta) + 1
		b = b[h.Size():]
	}
	return offsets, timestamp, nil
}

// activeAge tells how old the active segment is.
type activeAge struct {
	first  int64 // maximum timestamp of its first batch, or segment.NoTimestamp
	opened time.Time
}

// mustRoll reports whether a new segment has to begin before n bytes that end
// before offset end. Age is counted as Kafka does: between the timestamps of
// the segment's first batch and of the one to come, or by the clock when there are none.
func (a activeAge) mustRoll(c *Config, active *segment.Segment, n int, end, timestamp int64) bool {
	if active.SizeBytes() == 0 {
		return false
	}
	if active.SizeBytes()+int64(n) > c.SegmentBytes || !active.Fits(n, end) {
		return true
	}
	age := c.SegmentAge
	if c.Compact && c.MaxCompactionLag > 0 && (age < 0 || age > c.MaxCompactionLag) {
		age = c.MaxCompactionLag // the active segment is not compacted
	}
	if age < 0 {
		return false
	}
	if a.first > segment.NoTimestamp && timestamp > segment.NoTimestamp {
		return time.Duration(min(timestamp-a.first, int64(1<<62)/int64(time.Millisecond)))*time.Millisecond > age
	}
	return time.Since(a.opened) > age
}

// roll begins a new segment at the end. The old one is synced by the next
// WaitDurable, together with the new one: an append does not wait for the disk.
func (l *Log) roll() error {
	// Should a part of the files be created and then the disk be full, nothing more may be appended
	// to the old segment: a crash would leave a new one that begins in the middle of it.
	l.rollBegun = true
	s, err := segment.Create(l.segmentOptions(), l.end.Load())
	if err != nil {
		return fmt.Errorf("begin a new segment: %w", err)
	}
	l.segments.Load().active().Seal(l.end.Load())
	l.dirDirty.Store(true)
	l.replaceList(func(list segmentList) segmentList { return append(list, s) })
	l.activeAge = activeAge{segment.NoTimestamp, time.Now()}
	l.rollBegun = false
	return nil
}

// Roll begins a new segment unless the active one is empty, so that what was
// written so far can be cleaned.
func (l *Log) Roll() error {
	l.appendMu.Lock()
	defer l.appendMu.Unlock()
	if err := l.health.usable(); err != nil {
		return err
	}
	if l.segments.Load().active().SizeBytes() == 0 {
		return nil
	}
	return l.roll()
}
