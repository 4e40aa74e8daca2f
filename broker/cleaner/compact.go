package cleaner

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/millstream-io/millstream/broker/commitlog"
	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/segment"
)

// view is what a compaction knows of a log before it rewrites anything.
type view struct {
	last         map[keyHash]int64 // offset of the last record of a key, among the dirty segments
	producers    map[int64]int64   // last offset of each producer id's last batch
	active       func(producerID int64) bool
	transactions transactions
	to           int64 // what lies from here on stays as it is, and drops nothing before
	now          int64 // ms
	horizon      int64 // ms: how long tombstones met now for the first time are kept
}

// compaction is one pass over a log: all of it is looked at, then it is
// rewritten, from the oldest segment on, so that what a tombstone deletes is gone before the tombstone.
type compaction struct {
	view
	log      *commitlog.Log
	segments []commitlog.SegmentInfo // that may be rewritten
	dirty    int64                   // keys from here on are taken down
	// marksOnly says that nothing is dirty, but tombstones or markers have outlived their time.
	marksOnly bool
	looked    bool
	at        int64 // where looking goes on
	groups    []segmentGroup
	before    int64 // bytes of what was rewritten
	after     int64
}

// compact does a step of the log's compaction if one is due: all of it, unless the log is large.
func (c *Cleaner) compact(ctx context.Context, l *commitlog.Log, config commitlog.Config, active func(int64) bool, r *Result) error {
	p := c.unfinished
	if p == nil || p.log != l {
		var err error
		if p, err = c.begin(l, config, active, time.Now()); p == nil || err != nil {
			return err
		}
		if c.unfinished != nil && sizeOf(p.segments) > c.o.StepBytes {
			return nil // one large log at a time
		}
	}
	done, err := c.advance(ctx, p, config, r)
	switch {
	case err != nil:
		if c.unfinished == p {
			c.unfinished = nil // the next round begins anew
		}
		return err
	case !done:
		c.unfinished, r.More = p, true
		return nil
	case c.unfinished == p:
		c.unfinished = nil
	}
	if end := p.segments[len(p.segments)-1].NextOffset; p.to < end && p.to > p.dirty {
		c.progress[l] = p.to
	} else if !p.marksOnly {
		delete(c.progress, l)
	}
	if p.useful() {
		r.Compacted, r.AbortMarkers = p.to, p.transactions.abortMarkers
		c.o.Logger.Info("compacted a log", "log", l.Dir(), "before_bytes", p.before, "after_bytes", p.after, "keys", len(p.last))
	}
	return nil
}

// begin decides whether a log is to be compacted now, and what of it; nil if it is not.
func (c *Cleaner) begin(l *commitlog.Log, config commitlog.Config, active func(int64) bool, now time.Time) (*compaction, error) {
	overdue, err := c.overdue(l, config, now)
	if err != nil {
		return nil, err
	}
	segments, firstDirty := cleanable(l.Segments(), config, now)
	marksOnly := !due(segments, config) && !(overdue && firstDirty < len(segments))
	if marksOnly {
		n := len(segments)
		for n > 0 && !expiredMarks(segments[n-1], now) {
			n--
		}
		segments = segments[:n]
	}
	if len(segments) == 0 {
		return nil, nil
	}
	end := segments[len(segments)-1].NextOffset
	dirty := end
	if !marksOnly {
		dirty = max(segments[firstDirty].BaseOffset, c.progress[l])
	}
	return &compaction{
		log: l, segments: segments, dirty: dirty, marksOnly: marksOnly, at: segments[0].BaseOffset,
		view: view{
			last: map[keyHash]int64{}, producers: map[int64]int64{}, active: active, transactions: newTransactions(),
			to: end, now: now.UnixMilli(), horizon: now.Add(config.TombstoneAge).UnixMilli(),
		},
	}, nil
}

// overdue reports whether a record has not been compacted for
// max.compaction.lag.ms. If it is in the active segment, that one is rolled.
func (c *Cleaner) overdue(l *commitlog.Log, config commitlog.Config, now time.Time) (bool, error) {
	if config.MaxCompactionLag <= 0 {
		return false, nil
	}
	for _, s := range l.Segments() {
		if s.Compacted || s.SizeBytes == 0 {
			continue
		}
		first, ok, err := commitlog.FirstTimestamp(l, s.BaseOffset)
		if err != nil {
			return false, err
		}
		if !ok || first > now.Add(-config.MaxCompactionLag).UnixMilli() {
			continue
		}
		if s.Active {
			return true, l.Roll()
		}
		return true, nil
	}
	return false, nil
}

// advance does one step; done says that the compaction is over.
func (c *Cleaner) advance(ctx context.Context, p *compaction, config commitlog.Config, r *Result) (done bool, err error) {
	small := sizeOf(p.segments) <= c.o.StepBytes
	if !p.looked {
		if p.looked, err = c.look(ctx, p, small); err != nil {
			return false, err
		}
		if p.looked && !p.useful() {
			return true, nil
		}
		if p.looked {
			p.groups = p.group(config)
		}
		if !small {
			return false, nil
		}
	}
	for step := int64(0); len(p.groups) > 0 && (small || step < c.o.StepBytes); p.groups = p.groups[1:] {
		g := p.groups[0]
		before, after, err := p.log.RewriteSegments(ctx, g.base, g.next, g.whole, func(dst, batch []byte) ([]byte, error) { return c.filter(dst, batch, &p.view) })
		if err != nil {
			return false, err
		}
		r.CompactedBytes += before
		r.KeptBytes += after
		p.before += before
		p.after += after
		step += before
	}
	return len(p.groups) == 0, nil
}

// useful is false if all that is new waits for the end of a transaction.
func (p *compaction) useful() bool { return p.marksOnly || p.to > p.dirty }

// segmentGroup is segments that become one: those with the offsets from base up to next.
type segmentGroup struct {
	base, next int64
	whole      bool // all of it is compacted
}

// group puts segments together that fit into one by the sizes they have now,
// as Kafka does. Where nothing but tombstones is to go, only segments that have such are rewritten.
func (p *compaction) group(config commitlog.Config) []segmentGroup {
	limit := min(config.SegmentBytes, math.MaxUint32)
	var out []segmentGroup
	size, open := int64(0), false
	for _, s := range p.segments {
		if s.BaseOffset >= p.to {
			break
		}
		if p.marksOnly && !p.transactions.met && !expiredMarks(s, time.UnixMilli(p.now)) {
			open = false
			continue
		}
		whole := s.NextOffset <= p.to && (s.Compacted || !p.marksOnly)
		if g := len(out) - 1; open && whole && size+s.SizeBytes <= limit && commitlog.SegmentFits(out[g].base, s.NextOffset, size+s.SizeBytes) {
			out[g].next = s.NextOffset
			size += s.SizeBytes
			continue
		}
		out = append(out, segmentGroup{s.BaseOffset, s.NextOffset, whole})
		size, open = s.SizeBytes, whole
	}
	return out
}

func sizeOf(segments []commitlog.SegmentInfo) (bytes int64) {
	for _, s := range segments {
		bytes += s.SizeBytes
	}
	return bytes
}

// expiredMarks reports whether a segment has a tombstone or marker whose time is over.
func expiredMarks(s commitlog.SegmentInfo, now time.Time) bool {
	return s.DeleteHorizon != segment.NoTimestamp && s.DeleteHorizon < now.UnixMilli()
}

// cleanable returns the segments that may be rewritten, and the index of the
// first of them that never was. Those with records younger than
// min.compaction.lag.ms, and what comes after them, are left alone.
func cleanable(segments []commitlog.SegmentInfo, config commitlog.Config, now time.Time) (list []commitlog.SegmentInfo, firstDirty int) {
	n := 0
	for n < len(segments) && !segments[n].Active {
		if config.MinCompactionLag > 0 && segments[n].MaxTimestamp > now.Add(-config.MinCompactionLag).UnixMilli() {
			break
		}
		n++
	}
	list = segments[:n]
	for firstDirty < n && list[firstDirty].Compacted {
		firstDirty++
	}
	return list, firstDirty
}

// due reports whether the share of bytes that were never compacted reaches min.cleanable.dirty.ratio.
func due(segments []commitlog.SegmentInfo, config commitlog.Config) bool {
	var dirty, all int64
	for _, s := range segments {
		all += s.SizeBytes
		if !s.Compacted {
			dirty += s.SizeBytes
		}
	}
	return dirty > 0 && float64(dirty) >= config.MinDirtyRatio*float64(all)
}

var errMapFull = errors.New("the key map is full")

// errStep says that enough was looked at for now.
var errStep = errors.New("the step is over")

// look takes down the last offset of each key from the first dirty one on, as
// far as the memory goes and up to the first transaction that is still open,
// and the last batch of each producer and the aborted transactions in all of
// them. done is false if the step was over before.
func (c *Cleaner) look(ctx context.Context, p *compaction, small bool) (done bool, err error) {
	end, read := p.to, int64(0)
	err = p.log.Scan(ctx, p.at, end, func(batch []byte) error {
		if !small && read >= c.o.StepBytes {
			return errStep
		}
		h, err := record.ParseHeader(batch)
		if err != nil {
			return err
		}
		read += int64(len(batch))
		if err := c.lookAt(p, &h, batch); err != nil {
			return err
		}
		p.at = h.LastOffset() + 1
		return nil
	})
	full := errors.Is(err, errMapFull)
	if errors.Is(err, errStep) {
		return false, nil
	}
	if err != nil && !full {
		return false, err
	}
	if full {
		p.to = p.at
	}
	if open := p.transactions.firstOpen(p.to); open > p.dirty || !full {
		p.to = open
	} // else a transaction has more keys than fit in memory: they count for nothing, and all its records stay
	return true, nil
}

func (c *Cleaner) lookAt(p *compaction, h *record.Header, batch []byte) error {
	if h.ProducerID >= 0 && !h.Control() {
		p.producers[h.ProducerID] = h.LastOffset()
	}
	if h.Control() {
		return p.transactions.end(h, batch, p.last)
	}
	last := p.last
	if h.Transactional() {
		last = p.transactions.keys(h)
	}
	if h.BaseOffset < p.dirty {
		return nil
	}
	if known := len(p.last) + p.transactions.pending; known+int(h.Count) > c.o.MaxKeys && known > 0 {
		p.at = h.BaseOffset
		return errMapFull
	}
	before := len(last)
	err := c.eachRecord(batch, func(r *record.Record) {
		if r.Key != nil {
			last[c.hash(r.Key)] = r.Offset
		}
	})
	if h.Transactional() {
		p.transactions.pending += len(last) - before
	}
	return err
}
