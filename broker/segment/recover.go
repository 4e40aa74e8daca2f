package segment

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/millstream-io/millstream/broker/record"
)

// recoverBytes is how much of the log recovery reads at once.
const recoverBytes = 1 << 20

// Open opens an existing segment. Nothing is scanned: size, end and maximum
// timestamp are what the last mark says, that is, what was synced. Complete
// reports whether that is all there is; if not, Recover must be called
// before anything else.
func Open(o Options, base int64) (*Segment, error) {
	s := newSegment(o, base)
	f, err := o.FS.Open(o.path(base, LogSuffix))
	if err != nil {
		return nil, err
	}
	s.log = f
	err = s.index.open(o, base)
	if err == nil && !s.index.last.sealed {
		err = s.index.load()
	}
	if errors.Is(err, errIndex) || errors.Is(err, io.EOF) {
		s.index.reset()
		err = nil
	}
	var size int64
	if err == nil {
		size, err = f.Size()
	}
	last := &s.index.last
	if err == nil && last.sealed && !s.index.headerless {
		if size > last.position {
			s.index.reset()
		} else {
			s.index.count, s.index.onDisk = *last, true
		}
	}
	if err == nil && size < last.position {
		err = corrupt(s, size, fmt.Errorf("the file ends here, but %d bytes were synced", last.position))
	}
	if err == nil && size > MaxBytes {
		err = corrupt(s, MaxBytes, fmt.Errorf("the file has %d bytes, more than a segment can have", size))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), s.index.close())
	}
	s.size.Store(last.position)
	s.next.Store(last.next)
	s.maxTimestamp.Store(last.maxTimestamp)
	s.sealed.Store(s.index.onDisk)
	if last.sparse || last.sequence == 0 && o.Sparse {
		setSparse(s)
	}
	s.compacted.Store(last.compacted)
	s.horizon.Store(last.horizon)
	s.verifyBelow.Store(last.position)
	return s, nil
}

// Complete reports whether the segment was sealed and synced, and its indexes
// are there: it needs no recovery.
func (s *Segment) Complete() bool { return s.index.onDisk }

// SyncedBytes is the position up to which the log was synced for sure, as the
// last mark says. Before it nothing may be missing.
func (s *Segment) SyncedBytes() int64 {
	s.index.storeMu.Lock()
	defer s.index.storeMu.Unlock()
	return s.index.last.position
}

// SyncedBytes says how many bytes of a segment's log were synced, going by its
// index alone: more than 0 proves that there was a log. 0 if the index is missing or damaged.
func SyncedBytes(o Options, base int64) (int64, error) {
	var x index
	err := x.open(o, base)
	err = errors.Join(err, x.close())
	if errors.Is(err, errIndex) {
		return 0, nil
	}
	return x.last.position, err
}

// Recovered says what Recover found.
type Recovered struct {
	Batches  int   // valid ones behind the last mark
	Position int64 // end of the valid bytes
	CutBytes int64 // bytes that were cut off behind it
	Cause    error // why they were, or nil
}

// Recover scans what lies behind the last mark, or everything if the indexes
// are missing or damaged. What is valid is kept; from the first invalid batch
// on the file is cut off, for that is what a crash in the middle of a write
// leaves. When cut is false, because a later segment proves that this one was
// synced whole, or when the damage lies before the mark, it is no such
// thing: the error is ErrCorrupt and nothing is changed.
func (s *Segment) Recover(ctx context.Context, cut bool) (Recovered, error) {
	fileBytes, err := s.log.Size()
	if err != nil {
		return Recovered{}, err
	}
	synced := s.SyncedBytes()
	if s.index.headerless {
		s.size.Store(0)
		s.next.Store(s.base)
		s.maxTimestamp.Store(NoTimestamp)
	}
	r, err := s.rescan(ctx, fileBytes)
	if err != nil {
		return r, err
	}
	if r.Cause != nil {
		if !cut || r.Position < synced {
			return r, corrupt(s, r.Position, r.Cause)
		}
		r.CutBytes = fileBytes - r.Position
		if err := s.log.Truncate(r.Position); err != nil {
			return r, fmt.Errorf("cut off a torn batch at position %d of %s: %w", r.Position, s.Path(), err)
		}
		if err := s.log.Sync(); err != nil { // else old bytes could come back behind new ones
			return r, fmt.Errorf("sync %s: %w", s.Path(), err)
		}
	}
	s.verifyBelow.Store(r.Position)
	return r, nil
}

// rescan notes the valid batches from the present size on.
func (s *Segment) rescan(ctx context.Context, fileBytes int64) (Recovered, error) {
	r := Recovered{Position: s.size.Load()}
	next, maxTimestamp := s.next.Load(), s.maxTimestamp.Load()
	var chunk []byte
	for r.Position < fileBytes && r.Cause == nil {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		var err error
		if chunk, err = s.fill(chunk[:0], r.Position, int(min(recoverBytes, fileBytes-r.Position))); err != nil {
			return r, err
		}
		for b := chunk; r.Position < fileBytes; {
			h, err := s.headerAt(b, r.Position, fileBytes)
			if errors.Is(err, record.ErrTruncated) {
				break // the next chunk begins here
			}
			if err == nil && h.Size() > len(b) {
				if len(b) < len(chunk) {
					break
				}
				if chunk, err = s.fill(chunk[:0], r.Position, h.Size()); err != nil {
					return r, err
				}
				b = chunk
			}
			if err == nil {
				err = record.CheckCRC(b)
			}
			if err == nil {
				err = checkOrder(s, &h, next)
			}
			if err == nil && s.o.CheckEpoch != nil {
				err = s.o.CheckEpoch(h.LastOffset(), h.PartitionLeaderEpoch)
			}
			if err != nil {
				r.Cause = err
				break
			}
			s.index.note(h.BaseOffset, r.Position, h.Size(), maxTimestamp)
			noteHorizon(s, &h)
			next, maxTimestamp = h.LastOffset()+1, max(maxTimestamp, h.MaxTimestamp)
			r.Batches++
			r.Position += int64(h.Size())
			b = b[h.Size():]
		}
	}
	s.index.publish(func() {
		s.maxTimestamp.Store(maxTimestamp)
		s.next.Store(next)
		s.size.Store(r.Position)
	})
	return r, nil
}

// rebuildIndex replaces an index that a lookup found damaged.
func (s *Segment) rebuildIndex() error {
	x := &s.index
	x.storeMu.Lock()
	defer x.storeMu.Unlock()
	if !x.onDisk { // somebody else did it meanwhile, or the memory is wrong, which is a bug
		return nil
	}
	s.o.Logger.Warn("index is damaged; rebuilding it from the log", "file", s.o.path(s.base, IndexSuffix))
	fresh := &index{o: s.o, base: s.base, dense: s.sparse.Load()}
	fresh.reset()
	size := s.size.Load()
	scratch := make([]byte, seekBytes)
	maxTimestamp, at := int64(NoTimestamp), int64(0)
	_, err := s.scan(scratch, 0, nil, size, func(h *record.Header) bool {
		fresh.note(h.BaseOffset, at, h.Size(), maxTimestamp)
		maxTimestamp = max(maxTimestamp, h.MaxTimestamp)
		at += int64(h.Size())
		return false
	})
	if err != nil {
		return err
	}
	x.mu.Lock()
	x.points, x.stamps, x.onDisk, x.headerless = fresh.points, fresh.stamps, false, true
	x.mu.Unlock()
	if err := x.storeLocked(x.last); err != nil {
		s.o.Logger.Warn("rebuilt index not written; it stays in memory", "file", s.o.path(s.base, IndexSuffix), "error", err)
	}
	return nil
}

// checkOrder checks that a batch follows the one that ended before offset next.
func checkOrder(s *Segment, h *record.Header, next int64) error {
	if h.BaseOffset < next || h.BaseOffset > next && !s.sparse.Load() {
		return fmt.Errorf("batch at offset %d where offset %d was to follow", h.BaseOffset, next)
	}
	return nil
}
