package commitlog

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/millstream-io/millstream/broker/segment"
)

// Suffixes of segment files that are not part of the log. Open removes them:
// a deletion is finished, a compaction is done again some day unless the
// checkpoint says that it was about to take effect.
const (
	deletedSuffix = ".deleted"
	cleanedSuffix = ".cleaned"
)

// Open opens the log in a directory, which is created if there is none, and recovers it.
func Open(ctx context.Context, o Options) (*Log, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Logger = o.Logger.With("log", o.Dir)
	l := &Log{o: o, health: health{dir: o.Dir}}
	l.SetConfig(o.Config)
	r := recovery{o: o, segment: l.segmentOptions(), epochs: &l.epochs}
	err := r.run(ctx)
	if err == nil {
		err = l.takeOver(&r)
	}
	if err != nil {
		for _, s := range r.list {
			s.Close()
		}
		return nil, fmt.Errorf("open log %s: %w", o.Dir, err)
	}
	return l, nil
}

// recovery finds out what a directory holds and mends what a crash left undone.
type recovery struct {
	o          Options
	segment    segment.Options
	checkpoint checkpoint
	list       segmentList
	end        int64
	epochs     *epochList
}

func (r *recovery) run(ctx context.Context) (err error) {
	if err := r.o.FS.MkdirAll(r.o.Dir); err != nil {
		return err
	}
	if r.checkpoint, err = readCheckpoint(r.o.FS, r.o.Dir); err != nil {
		return err
	}
	if err := r.finishReplacing(); err != nil {
		return err
	}
	bases, err := r.tidy()
	if err != nil {
		return err
	}
	r.epochs.set([]epochStart{{impliedEpoch, 0}})
	if len(r.checkpoint.epochs) > 0 {
		r.epochs.set(r.checkpoint.epochs)
	}
	if bases, err = r.finishDrop(bases); err != nil {
		return err
	}
	if err := r.checkOrphans(bases); err != nil {
		return err
	}
	if err := r.openSegments(ctx, bases); err != nil {
		return err
	}
	if err := r.checkOrder(); err != nil {
		return err
	}
	if err := r.ensureActive(); err != nil {
		return err
	}
	return r.restoreEpochs()
}

// tidy removes what interrupted work left behind and returns the base offsets of the segments, in order.
func (r *recovery) tidy() ([]int64, error) {
	names, err := r.o.FS.List(r.o.Dir)
	if err != nil {
		return nil, err
	}
	var bases []int64
	for _, name := range names {
		for _, suffix := range []string{deletedSuffix, cleanedSuffix, temporarySuffix} {
			if strings.HasSuffix(name, suffix) {
				if err := r.o.FS.Remove(filepath.Join(r.o.Dir, name)); err != nil {
					return nil, err
				}
			}
		}
		if base, ok := segment.ParseFileName(name, segment.LogSuffix); ok {
			bases = append(bases, base)
		}
	}
	slices.Sort(bases)
	return bases, nil
}

// finishDrop removes segments that lie wholly before the start: they were
// being deleted when the log was stopped.
func (r *recovery) finishDrop(bases []int64) ([]int64, error) {
	for len(bases) > 1 && bases[1] <= r.checkpoint.start {
		if err := segment.Remove(r.segment, bases[0]); err != nil {
			return nil, err
		}
		bases = bases[1:]
	}
	return bases, nil
}

// checkOrphans looks at indexes without a log. One that says that its log was synced tells that this log is lost.
func (r *recovery) checkOrphans(bases []int64) error {
	names, err := r.o.FS.List(r.o.Dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		base, ok := segment.ParseFileName(name, segment.IndexSuffix)
		if !ok || slices.Contains(bases, base) {
			continue
		}
		synced, err := segment.SyncedBytes(r.segment, base)
		if err != nil {
			return err
		}
		if synced > 0 && base >= r.checkpoint.start {
			return fmt.Errorf("%w: %s is missing at position 0: its index says that %d bytes of it were synced",
				ErrCorrupt, filepath.Join(r.o.Dir, segment.FileName(base, segment.LogSuffix)), synced)
		}
	}
	return nil
}

// openSegments opens and recovers the segments. Those that were sealed and
// synced are taken as they are; behind them lies what was written last, which
// is scanned. What a crash tore there ends the log: segments behind the tear
// go with it, unless one of them was synced, for then there was no tear.
func (r *recovery) openSegments(ctx context.Context, bases []int64) error {
	synced := -1 // the last segment of which some part is sure to have been synced
	for i, base := range bases {
		s, err := segment.Open(r.segment, base)
		if err != nil {
			return err
		}
		r.list = append(r.list, s)
		if s.SyncedBytes() > 0 || s.Complete() {
			synced = i
		}
	}
	if synced < 0 && len(r.list) > 0 && r.list[0].BaseOffset() > r.checkpoint.start {
		return r.dropTail(0) // the names of later segments reached the disk, those of earlier ones did not
	}
	for i, s := range r.list {
		var found segment.Recovered
		if !s.Complete() {
			var err error
			if found, err = s.Recover(ctx, i >= synced); err != nil {
				return err
			}
			r.report(ctx, s, found)
		}
		if i+1 == len(r.list) {
			break
		}
		next := r.list[i+1].BaseOffset()
		gap := s.NextOffset() != next
		if found.Cause != nil || gap && i >= synced && !s.Sparse() {
			return r.dropTail(i + 1)
		}
		if !gap || s.Complete() || !s.Sparse() {
			next = s.NextOffset() // checkOrder speaks of a gap
		}
		s.Seal(next) // a sparse one may end later than its batches; its mark, which said so, is lost
	}
	return nil
}

func (r *recovery) report(ctx context.Context, s *segment.Segment, found segment.Recovered) {
	if found.Cause != nil {
		r.o.Logger.Warn("cut off the torn end of the log; nothing of it had been synced",
			"file", s.Path(), "position", found.Position, "bytes", found.CutBytes, "end_offset", s.NextOffset(), "cause", found.Cause)
	}
	if found.Batches > 0 {
		level := slog.LevelInfo
		if r.o.Clean {
			level = slog.LevelWarn
		}
		r.o.Logger.Log(ctx, level, "recovered batches that had not been synced", "file", s.Path(), "batches", found.Batches, "end_offset", s.NextOffset())
	}
}

// dropTail removes the segments from index n on, the last first, so that a crash in between leaves no gap.
func (r *recovery) dropTail(n int) error {
	for len(r.list) > n {
		s := r.list.active()
		r.o.Logger.Warn("removing a segment behind the torn end of the log; nothing of it had been synced", "file", s.Path())
		s.Close()
		r.list = r.list[:len(r.list)-1]
		if err := segment.Remove(r.segment, s.BaseOffset()); err != nil {
			return err
		}
	}
	return r.o.FS.SyncDir(r.o.Dir)
}

// checkOrder checks that the segments follow each other without a gap from the
// start on. In a compacted log, too: a mark keeps the end that a segment had before.
func (r *recovery) checkOrder() error {
	for i, s := range r.list {
		if i == 0 && s.BaseOffset() > r.checkpoint.start {
			return fmt.Errorf("%w: the log starts at offset %d, but its first segment is %s: an earlier one is missing", ErrCorrupt, r.checkpoint.start, s.Path())
		}
		if before := r.list[max(i-1, 0)]; i > 0 && before.NextOffset() != s.BaseOffset() {
			return fmt.Errorf("%w: %s ends before offset %d, the next segment is %s: one is missing", ErrCorrupt, before.Path(), before.NextOffset(), s.Path())
		}
	}
	return nil
}

// ensureActive sees to it that there is a segment to append to.
func (r *recovery) ensureActive() error {
	start := r.checkpoint.start
	r.end = start
	if len(r.list) > 0 {
		r.end = r.list.active().NextOffset()
	}
	if r.end < start {
		// Records were deleted up to an offset of which the end was not synced yet. Offsets never go back.
		r.o.Logger.Warn("the log ends before its start, which was set by a deletion; it goes on empty", "start", start, "end", r.end)
		if err := r.dropTail(0); err != nil {
			return err
		}
		r.end = start
	}
	if len(r.list) > 0 {
		last := r.list.active()
		if !last.Complete() {
			return nil
		}
		// A segment is sealed after the name of its successor was made durable.
		return fmt.Errorf("%w: %s is sealed at offset %d, but the segment that begins there is missing", ErrCorrupt, last.Path(), last.NextOffset())
	}
	s, err := segment.Create(r.segment, r.end)
	if err == nil {
		r.list = append(r.list, s)
	}
	return err
}

// restoreEpochs takes the epochs from the checkpoint, or the implied one. Those
// that begin behind the end were lost with it and must not be found again.
func (r *recovery) restoreEpochs() error {
	if len(r.checkpoint.epochs) == 0 {
		r.epochs.set(nil)
		if start := max(r.checkpoint.start, r.list[0].BaseOffset()); r.end > start {
			r.epochs.set([]epochStart{{impliedEpoch, start}})
		}
		return nil
	}
	kept := r.checkpoint.epochs
	for n := len(kept); n > 1 && kept[n-1].offset >= r.end; n = len(kept) {
		kept = kept[:n-1]
	}
	if len(kept) == len(r.checkpoint.epochs) {
		return nil
	}
	r.epochs.set(kept)
	return r.save(checkpoint{start: r.checkpoint.start, epochs: kept})
}

// takeOver makes what was recovered the state of the log.
func (l *Log) takeOver(r *recovery) error {
	l.start.Store(max(r.checkpoint.start, r.list[0].BaseOffset()))
	l.end.Store(r.end)
	l.dirDirty.Store(true)
	for _, s := range r.list {
		if !s.Complete() {
			l.syncedBase.Store(s.BaseOffset())
			break
		}
	}
	// What was recovered may not have been synced; the first who waits, or Close, will see to it.
	active := r.list.active()
	l.durable.Store(min(l.syncedBase.Load(), r.end))
	if active.SizeBytes() == active.SyncedBytes() && active.BaseOffset() == l.syncedBase.Load() {
		l.durable.Store(r.end)
	}
	h, ok, err := segment.FirstHeader(active)
	if !ok {
		h.MaxTimestamp = segment.NoTimestamp
	}
	l.activeAge = activeAge{h.MaxTimestamp, time.Now()}
	l.segments.Store(&r.list)
	return err
}
