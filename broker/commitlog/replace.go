package commitlog

import (
	"errors"
	"fmt"
	"slices"

	"github.com/millstream-io/millstream/broker/segment"
)

// replacement is one segment taking the place of one or more that follow each
// other. Its files, complete and synced, end in .cleaned. Then
//
//  1. the checkpoint says so: from here on it will happen, whatever comes,
//  2. readers get the new segment,
//  3. the old files go, all but the first log,
//  4. the new files get their names, the log first,
//  5. the checkpoint says it no more.
//
// Each step is durable before the next and can be repeated. Where a step
// fails, the next use goes on with it; where the process ends, Open does.
type replacement struct {
	old   segmentList
	fresh *segment.Segment
	step  int // that is done last, from 2 on
}

func (r *replacement) offsets() *offsetRange {
	return &offsetRange{r.fresh.BaseOffset(), r.fresh.NextOffset()}
}

// replace puts fresh in the place of old. If it fails fresh is either gone or what readers will get.
func replace(l *Log, old segmentList, fresh *segment.Segment) error {
	l.metaMu.Lock()
	defer l.metaMu.Unlock()
	err := l.health.usable()
	if err == nil && !slices.Contains(*l.segments.Load(), old[0]) {
		err = errors.New("the segment has left the log meanwhile")
	}
	if err != nil {
		fresh.Close()
		o := l.segmentOptions()
		o.Suffix = cleanedSuffix
		return errors.Join(err, segment.Remove(o, fresh.BaseOffset()))
	}
	l.replacing = &replacement{old: old, fresh: fresh}
	return finishReplacing(l)
}

// finishReplacement goes on with a replacement that failed before.
func finishReplacement(l *Log) error {
	l.metaMu.Lock()
	defer l.metaMu.Unlock()
	return finishReplacing(l)
}

// finishReplacing is finishReplacement for who holds metaMu.
func finishReplacing(l *Log) error {
	r := l.replacing
	if r == nil {
		return nil
	}
	if err := saveCheckpoint(l, l.start.Load(), l.epochs.get()); err != nil {
		return fmt.Errorf("replace segments: %w", err)
	}
	if r.step < 2 {
		l.replaceList(func(list segmentList) segmentList {
			i := slices.Index(list, r.old[0])
			return slices.Replace(list, i, i+len(r.old), r.fresh)
		})
		for _, s := range r.old {
			l.places.forget(s)
			s.Close()
		}
		r.step = 2
	}
	if r.step < 3 {
		bases := make([]int64, len(r.old))
		for i, s := range r.old {
			bases[i] = s.BaseOffset()
		}
		if err := removeReplaced(l.segmentOptions(), bases); err != nil {
			return fmt.Errorf("replace segments: %w", err)
		}
		r.step = 3
	}
	if r.step < 4 {
		if err := r.fresh.MoveTo(""); err != nil {
			return fmt.Errorf("replace segments: %w", err)
		}
		r.step = 4
	}
	l.replacing = nil
	if err := saveCheckpoint(l, l.start.Load(), l.epochs.get()); err != nil {
		l.replacing = r
		return fmt.Errorf("replace segments: %w", err)
	}
	return nil
}

// removeReplaced removes the files of segments that are replaced, durably, but for the log of the first.
func removeReplaced(o segment.Options, bases []int64) error {
	for _, base := range slices.Backward(bases[1:]) {
		if err := segment.Remove(o, base); err != nil {
			return err
		}
	}
	return segment.RemoveIndexes(o, bases[0])
}

// saveCheckpoint stores where the log starts, its epochs and what is being replaced. The caller holds metaMu.
func saveCheckpoint(l *Log, start int64, epochs []epochStart) error {
	c := checkpoint{start: start, epochs: epochs}
	if l.replacing != nil {
		c.replacing = l.replacing.offsets()
	}
	return l.o.Reserve.Lend(func() error { return writeCheckpoint(l.o.FS, l.o.Dir, c) })
}

// finishReplacing goes on with a replacement that the checkpoint speaks of.
func (r *recovery) finishReplacing() error {
	replacing := r.checkpoint.replacing
	if replacing == nil {
		return nil
	}
	names, err := r.o.FS.List(r.o.Dir)
	if err != nil {
		return err
	}
	cleaned := r.segment
	cleaned.Suffix = cleanedSuffix
	if slices.Contains(names, segment.FileName(replacing.base, segment.LogSuffix)+cleanedSuffix) {
		bases := []int64{replacing.base}
		for _, name := range names {
			for _, suffix := range []string{segment.LogSuffix, segment.IndexSuffix, segment.TimeIndexSuffix} {
				if base, ok := segment.ParseFileName(name, suffix); ok && base > replacing.base && base < replacing.next {
					bases = append(bases, base) // a log may be gone before its indexes are
				}
			}
		}
		if err := removeReplaced(r.segment, bases); err != nil {
			return err
		}
	}
	if err := segment.Move(cleaned, replacing.base, ""); err != nil {
		return err
	}
	r.checkpoint.replacing = nil
	return r.save(r.checkpoint)
}

// save stores a checkpoint; the broker can be opened on a full disk, or nothing would make room.
func (r *recovery) save(c checkpoint) error {
	return r.o.Reserve.Lend(func() error { return writeCheckpoint(r.o.FS, r.o.Dir, c) })
}
