package commitlog

import (
	"errors"
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
	Compacted    bool  // what RewriteSegment was told
}

// Segments lists the segments in order.
func (l *Log) Segments() []SegmentInfo {
	list := *l.segments.Load()
	out := make([]SegmentInfo, len(list))
	for i, s := range list {
		out[i] = SegmentInfo{s.BaseOffset(), s.NextOffset(), s.SizeBytes(), s.MaxTimestamp(), i == len(list)-1, s.Compacted()}
	}
	return out
}

// AdvanceStart moves the start of the log forward, durably (DeleteRecords,
// retention). Segments that lie wholly before it leave the log; their files
// are removed by RemoveDropped. An offset before the start changes nothing;
// one behind the end is ErrOffsetOutOfRange.
func (l *Log) AdvanceStart(offset int64) error {
	l.metaMu.Lock()
	defer l.metaMu.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	if b := l.Bounds(); offset > b.End {
		return l.outOfRange(offset, b)
	} else if offset <= b.Start {
		return nil
	}
	// The start is durable before a file goes: after a crash, whichever files are left, none is missed.
	if err := writeCheckpoint(l.o.FS, l.o.Dir, checkpoint{start: offset, epochs: l.epochsFrom(offset)}); err != nil {
		return err
	}
	l.epochs = l.epochsFrom(offset)
	l.start.Store(offset)
	var out []*segment.Segment
	l.replaceList(func(list []*segment.Segment) []*segment.Segment {
		n := 0
		for n < len(list)-1 && list[n+1].BaseOffset() <= offset {
			n++
		}
		out = list[:n:n]
		return list[n:]
	})
	return l.retire(out)
}

// epochsFrom returns the epochs that matter from an offset on.
func (l *Log) epochsFrom(offset int64) []epochStart {
	first := 0
	for first+1 < len(l.epochs) && l.epochs[first+1].offset <= offset {
		first++
	}
	out := append([]epochStart(nil), l.epochs[first:]...)
	if len(out) > 0 {
		out[0].offset = max(out[0].offset, offset)
	}
	return out
}

// retire marks the files of segments that have left the log as deleted and closes them. The caller holds metaMu.
func (l *Log) retire(list []*segment.Segment) error {
	var errs []error
	for _, s := range list {
		errs = append(errs, segment.Rename(l.o.FS, l.o.Dir, s.BaseOffset(), "", deletedSuffix))
		l.doomed = append(l.doomed, doomed{s.BaseOffset(), time.Now()})
		l.places.forget(s)
		s.Close()
	}
	return errors.Join(errs...)
}

// RemoveDropped removes the files of segments that left the log longer than
// Config.DeleteDelay ago, and returns how many segments that were.
func (l *Log) RemoveDropped() (int, error) {
	l.metaMu.Lock()
	defer l.metaMu.Unlock()
	if l.closed.Load() {
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
