package commitlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/segment"
)

// Suffixes of segment files that are not part of the log. Open removes them:
// a deletion is finished, a compaction is done again some day.
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
	l := &Log{o: o}
	l.SetConfig(o.Config)
	if err := o.FS.MkdirAll(o.Dir); err != nil {
		return nil, err
	}
	bases, err := l.tidy()
	if err != nil {
		return nil, err
	}
	c, err := readCheckpoint(o.FS, o.Dir)
	if err != nil {
		return nil, err
	}
	if bases, err = l.finishDrop(bases, c.start); err != nil {
		return nil, err
	}
	list, err := l.openSegments(ctx, bases, c.start)
	if err == nil {
		list, err = l.checkList(list, c)
	}
	if err == nil {
		list, err = l.ready(list, c)
	}
	if err != nil {
		for _, s := range list {
			s.Close()
		}
		return nil, fmt.Errorf("open log %s: %w", o.Dir, err)
	}
	l.segments.Store(&list)
	return l, nil
}

// tidy removes what interrupted work left behind and returns the base offsets of the segments, in order.
func (l *Log) tidy() ([]int64, error) {
	names, err := l.o.FS.List(l.o.Dir)
	if err != nil {
		return nil, err
	}
	var bases []int64
	for _, name := range names {
		for _, suffix := range []string{deletedSuffix, cleanedSuffix, temporarySuffix} {
			if strings.HasSuffix(name, suffix) {
				if err := l.o.FS.Remove(filepath.Join(l.o.Dir, name)); err != nil {
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
func (l *Log) finishDrop(bases []int64, start int64) ([]int64, error) {
	for len(bases) > 1 && bases[1] <= start {
		if err := segment.Remove(l.segmentOptions(), bases[0]); err != nil {
			return nil, err
		}
		bases = bases[1:]
	}
	return bases, nil
}

// openSegments opens and recovers the segments. Those that were sealed and
// synced are taken as they are; behind them lies what was written last, which
// is scanned. What a crash tore there ends the log: segments behind the tear
// go with it, unless one of them was synced, for then there was no tear.
func (l *Log) openSegments(ctx context.Context, bases []int64, start int64) (list []*segment.Segment, err error) {
	synced := -1 // the last segment of which some part is sure to have been synced
	for i, base := range bases {
		s, err := segment.Open(l.segmentOptions(), base)
		if err != nil {
			return list, err
		}
		list = append(list, s)
		if s.SyncedBytes() > 0 || s.Complete() {
			synced = i
		}
	}
	if compact := l.config.Load().Compact; !compact && synced < 0 && len(list) > 0 && list[0].BaseOffset() > start {
		return l.dropTail(list, 0) // the names of later segments reached the disk, those of earlier ones did not
	}
	for i, s := range list {
		var r segment.Recovered
		if !s.Complete() {
			if r, err = s.Recover(ctx, i >= synced); err != nil {
				return list, err
			}
			l.report(s, r)
		}
		if i+1 == len(list) {
			break
		}
		gap := s.NextOffset() != list[i+1].BaseOffset() && !l.config.Load().Compact
		if r.Cause != nil || gap && i >= synced {
			return l.dropTail(list, i+1)
		}
		s.Seal()
	}
	return list, nil
}

func (l *Log) report(s *segment.Segment, r segment.Recovered) {
	if r.Cause != nil {
		l.o.Logger.Warn("cut off the torn end of the log; nothing of it had been synced",
			"file", s.Path(), "position", r.Position, "bytes", r.CutBytes, "end_offset", s.NextOffset(), "cause", r.Cause)
	}
	if r.Batches > 0 {
		level := slog.LevelInfo
		if l.o.Clean {
			level = slog.LevelWarn
		}
		l.o.Logger.Log(context.Background(), level, "recovered batches that had not been synced", "file", s.Path(), "batches", r.Batches, "end_offset", s.NextOffset())
	}
}

// dropTail removes the segments from index n on, the last first, so that a crash in between leaves no gap.
func (l *Log) dropTail(list []*segment.Segment, n int) ([]*segment.Segment, error) {
	for i := len(list) - 1; i >= n; i-- {
		l.o.Logger.Warn("removing a segment behind the torn end of the log; nothing of it had been synced", "file", list[i].Path())
		list[i].Close()
		if err := segment.Remove(l.segmentOptions(), list[i].BaseOffset()); err != nil {
			return list[:i], err
		}
	}
	return list[:n], l.o.FS.SyncDir(l.o.Dir)
}

// checkList checks that the segments follow each other without a gap from the start on.
func (l *Log) checkList(list []*segment.Segment, c checkpoint) ([]*segment.Segment, error) {
	if l.config.Load().Compact {
		return list, nil
	}
	for i, s := range list {
		if i == 0 && s.BaseOffset() > c.start {
			return list, fmt.Errorf("%w: the log starts at offset %d, but its first segment is %s: an earlier one is missing", ErrCorrupt, c.start, s.Path())
		}
		if i > 0 && list[i-1].NextOffset() != s.BaseOffset() {
			return list, fmt.Errorf("%w: %s ends before offset %d, the next segment is %s: one is missing", ErrCorrupt, list[i-1].Path(), list[i-1].NextOffset(), s.Path())
		}
	}
	return list, nil
}

// ready derives the state of the log from its segments and sees to it that there is one to append to.
func (l *Log) ready(list []*segment.Segment, c checkpoint) ([]*segment.Segment, error) {
	end := c.start
	if n := len(list); n > 0 {
		end = list[n-1].NextOffset()
	}
	l.dirDirty.Store(true)
	if end < c.start {
		// Records were deleted up to an offset of which the end was not synced yet. Offsets never go back.
		l.o.Logger.Warn("the log ends before its start, which was set by a deletion; it goes on empty", "start", c.start, "end", end)
		var err error
		if list, err = l.dropTail(list, 0); err != nil {
			return list, err
		}
		end = c.start
	}
	if n := len(list); n == 0 || list[n-1].Complete() {
		s, err := segment.Create(l.segmentOptions(), end)
		if err != nil {
			return list, err
		}
		list = append(list, s)
	}
	l.start.Store(max(c.start, list[0].BaseOffset()))
	l.end.Store(end)
	for i := range list {
		if !list[i].Complete() {
			l.syncedBase.Store(list[i].BaseOffset())
			break
		}
	}
	// What was recovered may not have been synced; nobody asks before something is appended or Close comes.
	l.durable.Store(min(l.syncedBase.Load(), end))
	if active := list[len(list)-1]; active.SizeBytes() == active.SyncedBytes() && active.BaseOffset() == l.syncedBase.Load() {
		l.durable.Store(end)
	}
	l.activeOpened = time.Now()
	h, err := firstHeader(list[len(list)-1])
	if err != nil {
		return list, err
	}
	l.activeFirst = h.MaxTimestamp
	return list, l.restoreEpochs(list, c, end)
}

// restoreEpochs takes the epochs from the checkpoint, or from the first batch when there never was a second one.
func (l *Log) restoreEpochs(list []*segment.Segment, c checkpoint, end int64) error {
	for _, e := range c.epochs {
		if e.offset < end || e.offset == end && len(l.epochs) == 0 {
			l.epochs = append(l.epochs, e)
		}
	}
	if len(l.epochs) > 0 {
		return nil
	}
	for _, s := range list {
		h, err := firstHeader(s)
		if err != nil {
			return err
		}
		if h.Magic != 0 {
			if h.PartitionLeaderEpoch >= 0 {
				l.epochs = []epochStart{{h.PartitionLeaderEpoch, l.start.Load()}}
			}
			return nil
		}
	}
	return nil
}

// firstHeader returns the header of a segment's first batch; its magic is 0 if there is none.
func firstHeader(s *segment.Segment) (record.Header, error) {
	none := record.Header{MaxTimestamp: segment.NoTimestamp}
	if s.SizeBytes() == 0 {
		return none, nil
	}
	b, _, err := s.Read(nil, s.BaseOffset(), 1, s.NextOffset(), segment.Place{})
	if err != nil || len(b) == 0 {
		return none, err
	}
	h, err := record.ParseHeader(b)
	return h, errors.Join(err)
}
