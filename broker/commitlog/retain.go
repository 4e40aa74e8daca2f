package commitlog

import (
	"errors"
	"math"
	"slices"
	"time"

	"github.com/millstream-io/millstream/broker/segment"
)

// SegmentInfo describes a segment for who decides about retention and compaction.
type SegmentInfo struct {
	BaseOffset   int64
	NextOffset   int64 // behind the last batch
	SizeBytes    int64
	MaxTimestamp int64 // ms, or segment.NoTimestamp
	Active       bool  // appended to
	Compacted    bool  // what RewriteSegments was told
	// DeleteHorizon is the time (ms) from which on the first of its tombstones and
	// markers may go; segment.NoTimestamp if none of them has such a time.
	DeleteHorizon int64
}

// Segments lists the segments in order.
func (l *Log) Segments() []SegmentInfo {
	list := *l.segments.Load()
	out := make([]SegmentInfo, len(list))
	for i, s := range list {
		out[i] = SegmentInfo{s.BaseOffset(), s.NextOffset(), s.SizeBytes(), s.MaxTimestamp(), i == len(list)-1, s.Compacted(), segment.DeleteHorizon(s)}
	}
	return out
}

// SegmentFits reports whether bytes that hold the offsets from base up to next can be in one segment.
func SegmentFits(base, next, bytes int64) bool {
	return bytes <= segment.MaxBytes && next-base <= math.MaxUint32
}

// FirstTimestamp returns the maximum timestamp (ms) of the first batch of the
// segment that begins at base: how old the segment is. ok is false if there is none.
func FirstTimestamp(l *Log, base int64) (timestamp int64, ok bool, err error) {
	for _, s := range l.segments.Load().from(base) {
		if s.BaseOffset() != base || !s.Acquire() {
			break
		}
		defer s.Release()
		h, ok, err := segment.FirstHeader(s)
		return h.MaxTimestamp, ok && h.MaxTimestamp > segment.NoTimestamp, err
	}
	return 0, false, nil
}

// AdvanceStart moves the start of the log forward, durably (DeleteRecords,
// retention). Segments that lie wholly before it leave the log; their files
// are removed by RemoveDropped. An offset before the start changes nothing;
// one behind the end is ErrOffsetOutOfRange.
func (l *Log) AdvanceStart(offset int64) error {
	l.metaMu.Lock()
	defer l.metaMu.Unlock()
	if err := l.health.usable(); err != nil {
		return err
	}
	if b := l.Bounds(); offset > b.End {
		return outOfRange(l.o.Dir, offset, b)
	} else if offset <= b.Start {
		return nil
	}
	if err := finishReplacing(l); err != nil {
		return err
	}
	// The start is durable before a file goes: after a crash, whichever files are left, none is missed.
	if err := saveCheckpoint(l, offset, epochsFrom(l.epochs.get(), offset)); err != nil {
		return err
	}
	l.epochs.set(epochsFrom(l.epochs.get(), offset))
	l.start.Store(offset)
	var out segmentList
	l.replaceList(func(list segmentList) segmentList {
		n := 0
		for n < len(list)-1 && list[n+1].BaseOffset() <= offset {
			n++
		}
		out = list[:n:n]
		return list[n:]
	})
	var errs []error
	for _, s := range out {
		errs = append(errs, segment.Rename(l.o.FS, l.o.Dir, s.BaseOffset(), "", deletedSuffix))
		l.doomed = append(l.doomed, doomed{s.BaseOffset(), time.Now()})
		l.places.forget(s)
		s.Close()
	}
	return errors.Join(errs...)
}

// epochsFrom returns the epochs that matter from an offset on.
func epochsFrom(epochs []epochStart, offset int64) []epochStart {
	for len(epochs) > 1 && epochs[1].offset <= offset {
		epochs = epochs[1:]
	}
	out := slices.Clone(epochs)
	if len(out) > 0 {
		out[0].offset = max(out[0].offset, offset)
	}
	return out
}

// RemoveDropped removes the files of segments that left the log longer than
// Config.DeleteDelay ago, and returns how many segments that were.
func (l *Log) RemoveDropped() (int, error) {
	l.metaMu.Lock()
	defer l.metaMu.Unlock()
	if l.health.closed.Load() {
		return 0, nil
	}
	o := l.segmentOptions()
	o.Suffix = deletedSuffix
	n := 0
	for n < len(l.doomed) && time.Since(l.doomed[n].since) >= l.config.Load().DeleteDelay {
		if err := segment.Remove(o, l.doomed[n].base); err != nil {
			return n, err
		}
		n++
	}
	l.doomed = l.doomed[n:]
	return n, nil
}
