package commitlog

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/segment"
)

// rewriteBytes is how much a rewrite reads and writes at once, about.
const rewriteBytes = 256 << 10

// Filter appends to dst what shall replace a batch: the batch itself, a batch
// with fewer records (record.Builder.ResetFrom), or nothing.
type Filter func(dst, batch []byte) ([]byte, error)

// RewriteSegment replaces a sealed segment by what filter leaves of it.
// Offsets stay what they are. The new files are written and synced beside
// the old ones, then renamed over them; after a crash there is either the old
// or the new segment, whole. Readers go on undisturbed.
//
// compacted is remembered (SegmentInfo.Compacted). It returns the sizes before and after. A segment that is not there any more
// is no error; the active one cannot be rewritten.
func (l *Log) RewriteSegment(ctx context.Context, base int64, compacted bool, filter Filter) (before, after int64, err error) {
	old := l.segments.Load().sealed(base)
	if old == nil || !old.Acquire() {
		return 0, 0, nil
	}
	defer old.Release()
	// The segment behind must be sure to survive, for its name says where this one ends.
	if err := l.WaitDurable(ctx, l.end.Load()); err != nil {
		return 0, 0, err
	}
	if err := l.syncDir(); err != nil {
		return 0, 0, err
	}
	o := l.segmentOptions()
	o.Suffix = cleanedSuffix
	fresh, err := segment.CreateSparse(o, base)
	if err != nil {
		return 0, 0, err
	}
	if err = copyFiltered(ctx, fresh, old, filter); err == nil {
		err = fresh.Finish(old.NextOffset(), compacted)
	}
	if err == nil && !fresh.Complete() {
		err = errors.New("its index was not written")
	}
	if err == nil {
		err = l.swap(old, fresh)
	}
	if err != nil {
		fresh.Close()
		return 0, 0, errors.Join(fmt.Errorf("rewrite %s: %w", old.Path(), err), segment.Remove(o, base))
	}
	return old.SizeBytes(), fresh.SizeBytes(), nil
}

func copyFiltered(ctx context.Context, dst, src *segment.Segment, filter Filter) error {
	var in, out []byte
	var place segment.Place
	for offset := src.BaseOffset(); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		if in, place, err = src.Read(in[:0], offset, rewriteBytes, src.NextOffset(), place); err != nil {
			return err
		}
		if len(in) == 0 {
			break
		}
		for b := in; len(b) > 0; {
			h, err := record.ParseHeader(b)
			if err != nil {
				return err
			}
			if out, err = filter(out, b[:h.Size()]); err != nil {
				return err
			}
			b = b[h.Size():]
		}
		offset = place.Offset
		if len(out) >= rewriteBytes {
			if err := dst.AppendAsIs(out); err != nil {
				return err
			}
			out = out[:0]
		}
	}
	if len(out) == 0 {
		return nil
	}
	return dst.AppendAsIs(out)
}

// swap puts fresh in the place of old, on disk and in the list. The steps on
// disk are in such an order that whatever is left after a crash is a log with
// its own indexes, or one without, which are rebuilt.
func (l *Log) swap(old, fresh *segment.Segment) error {
	l.metaMu.Lock()
	defer l.metaMu.Unlock()
	if err := l.health.usable(); err != nil {
		return err
	}
	if !slices.Contains(*l.segments.Load(), old) {
		return errors.New("the segment has left the log meanwhile")
	}
	if err := segment.RemoveIndexes(l.segmentOptions(), old.BaseOffset()); err != nil {
		return err
	}
	if err := fresh.MoveTo(""); err != nil {
		return err
	}
	l.replaceList(func(list segmentList) segmentList {
		list[slices.Index(list, old)] = fresh
		return list
	})
	l.places.forget(old)
	old.Close()
	return nil
}

// Scan calls each with every batch from the one that holds offset from (or the
// log's start, if that is later) to the last one that ends before offset to.
// The batch is valid during the call.
func (l *Log) Scan(ctx context.Context, from, to int64, each func(batch []byte) error) error {
	b := l.Bounds()
	to = min(to, b.End)
	var in []byte
	for offset := max(from, b.Start); offset < to; {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		if in, err = l.Read(in[:0], offset, rewriteBytes, to); err != nil {
			return err
		}
		if len(in) == 0 {
			return nil
		}
		for b := in; len(b) > 0; {
			h, err := record.ParseHeader(b)
			if err != nil {
				return err
			}
			if err := each(b[:h.Size()]); err != nil {
				return err
			}
			offset = h.LastOffset() + 1
			b = b[h.Size():]
		}
	}
	return nil
}
