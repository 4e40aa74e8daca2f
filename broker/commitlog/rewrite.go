package commitlog

import (
	"context"
	"errors"
	"fmt"

	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/segment"
)

// rewriteBytes is how much a rewrite reads and writes at once, about.
const rewriteBytes = 256 << 10

// Filter appends to dst what shall replace a batch: the batch itself, a batch
// with fewer records (record.Builder.ResetFrom), or nothing.
type Filter func(dst, batch []byte) ([]byte, error)

// RewriteSegments replaces the sealed segments that hold the offsets from base
// up to next by one that has what filter leaves of them. Offsets stay what
// they are. The new files are written and synced beside the old ones and then
// take their place (see replacement); after a crash there are either the old
// segments or the new one, whole. Readers go on undisturbed.
//
// compacted is remembered (SegmentInfo.Compacted). It returns the sizes before
// and after. Segments that are not there any more are no error; the active
// one is never rewritten. What the segments have together must fit in one (SegmentFits).
func (l *Log) RewriteSegments(ctx context.Context, base, next int64, compacted bool, filter Filter) (before, after int64, err error) {
	if err := finishReplacement(l); err != nil {
		return 0, 0, err // the files of what comes next would have the names of what is unfinished
	}
	old := l.segments.Load().sealed(base, next)
	held := 0
	defer func() {
		for _, s := range old[:held] {
			s.Release()
		}
	}()
	for _, s := range old {
		if !s.Acquire() {
			return 0, 0, nil
		}
		held++
	}
	if len(old) == 0 {
		return 0, 0, nil
	}
	// The segment behind must be sure to survive, for its name says where this one ends.
	if err := l.WaitDurable(ctx, l.end.Load()); err != nil {
		return 0, 0, err
	}
	if err := l.syncDir(); err != nil {
		return 0, 0, err
	}
	fresh, err := rewritten(ctx, l, old, compacted, filter)
	if err != nil {
		return 0, 0, fmt.Errorf("rewrite %s: %w", old[0].Path(), err)
	}
	if err := replace(l, old, fresh); err != nil {
		return 0, 0, fmt.Errorf("rewrite %s: %w", old[0].Path(), err)
	}
	for _, s := range old {
		before += s.SizeBytes()
	}
	return before, fresh.SizeBytes(), nil
}

// rewritten writes what filter leaves of the segments into a new one, which is complete and synced but for its name.
func rewritten(ctx context.Context, l *Log, old segmentList, compacted bool, filter Filter) (*segment.Segment, error) {
	o := l.segmentOptions()
	o.Suffix = cleanedSuffix
	base := old[0].BaseOffset()
	fresh, err := segment.CreateSparse(o, base)
	if err != nil {
		return nil, err
	}
	for _, s := range old {
		if err = copyFiltered(ctx, fresh, s, filter); err != nil {
			break
		}
	}
	if err == nil {
		err = fresh.Finish(old[len(old)-1].NextOffset(), compacted)
	}
	if err == nil && !fresh.Complete() {
		err = errors.New("its index was not written")
	}
	if err == nil {
		err = l.o.FS.SyncDir(l.o.Dir) // the checkpoint will speak of these files
	}
	if err != nil {
		fresh.Close()
		return nil, errors.Join(err, segment.Remove(o, base))
	}
	return fresh, nil
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
