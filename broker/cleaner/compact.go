package cleaner

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/millstream-io/millstream/broker/commitlog"
	"github.com/millstream-io/millstream/broker/record"
)

// maxDecompressedBytes bounds the memory for one batch's records. A larger
// batch is kept as it is and drops nothing.
const maxDecompressedBytes = 256 << 20

// keyHash stands for a key: 128 bits of a keyed hash, so that two keys do not
// meet by chance nor by intent.
type keyHash [2]uint64

// view is what a compaction knows of a log before it rewrites anything.
type view struct {
	last         map[keyHash]int64 // offset of the last record of a key, among the dirty segments
	producers    map[int64]int64   // last offset of each producer id's last batch
	transactions transactions
	to           int64 // what lies from here on stays as it is, and drops nothing before
	now          int64 // ms
	horizon      int64 // ms: how long tombstones met now for the first time are kept
}

// compact rewrites the sealed segments of a log if enough of it is dirty.
func (c *Cleaner) compact(ctx context.Context, l *commitlog.Log, config commitlog.Config, r *Result) error {
	now := time.Now()
	segments, firstDirty := cleanable(l.Segments(), config, now)
	if !due(segments, config) {
		return nil
	}
	v := view{
		last:         map[keyHash]int64{},
		producers:    map[int64]int64{},
		transactions: newTransactions(),
		now:          now.UnixMilli(),
		horizon:      now.Add(config.TombstoneAge).UnixMilli(),
	}
	dirty := max(segments[firstDirty].BaseOffset, c.progress[l])
	if err := c.look(ctx, l, segments, dirty, &v); err != nil {
		return err
	}
	if v.to <= dirty {
		return nil // all that is new waits for the end of a transaction
	}
	for _, s := range segments {
		if s.BaseOffset >= v.to {
			break
		}
		before, after, err := l.RewriteSegment(ctx, s.BaseOffset, s.NextOffset <= v.to, func(dst, batch []byte) ([]byte, error) { return c.filter(dst, batch, &v) })
		if err != nil {
			return err
		}
		r.CompactedBytes += before
		r.KeptBytes += after
	}
	if v.to < segments[len(segments)-1].NextOffset {
		c.progress[l] = v.to
	} else {
		delete(c.progress, l)
	}
	c.o.Logger.Info("compacted a log", "log", l.Dir(), "before_bytes", r.CompactedBytes, "after_bytes", r.KeptBytes, "keys", len(v.last))
	return nil
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

// look takes down the last offset of each key from offset dirty on, as far as
// the memory goes and up to the first transaction that is still open, and the
// last batch of each producer and the aborted transactions in all of them.
func (c *Cleaner) look(ctx context.Context, l *commitlog.Log, segments []commitlog.SegmentInfo, dirty int64, v *view) error {
	end := segments[len(segments)-1].NextOffset
	v.to = end
	err := l.Scan(ctx, segments[0].BaseOffset, end, func(batch []byte) error {
		h, err := record.ParseHeader(batch)
		if err != nil {
			return err
		}
		if h.ProducerID >= 0 && !h.Control() {
			v.producers[h.ProducerID] = h.LastOffset()
		}
		if h.Control() {
			return v.transactions.end(&h, batch, v.last)
		}
		last := v.last
		if h.Transactional() {
			last = v.transactions.keys(&h)
		}
		if h.BaseOffset < dirty {
			return nil
		}
		if known := len(v.last) + v.transactions.pending; known+int(h.Count) > c.o.MaxKeys && known > 0 {
			v.to = h.BaseOffset
			return errMapFull
		}
		before := len(last)
		err = c.eachRecord(batch, func(r *record.Record) {
			if r.Key != nil {
				last[c.hash(r.Key)] = r.Offset
			}
		})
		if h.Transactional() {
			v.transactions.pending += len(last) - before
		}
		return err
	})
	full := errors.Is(err, errMapFull)
	if err != nil && !full {
		return err
	}
	if open := v.transactions.firstOpen(v.to); open > dirty || !full {
		v.to = open
	} // else a transaction has more keys than fit in memory: they count for nothing, and all its records stay
	return nil
}

func (c *Cleaner) hash(key []byte) keyHash {
	return keyHash{maphash.Bytes(c.seeds[0], key), maphash.Bytes(c.seeds[1], key)}
}

// eachRecord calls f with the records of a batch; a batch that is too large to look into has none.
func (c *Cleaner) eachRecord(batch []byte, f func(r *record.Record)) error {
	if err := record.CheckCRC(batch); err != nil {
		return err
	}
	it, scratch, err := record.Iterate(batch, c.scratch, maxDecompressedBytes)
	c.scratch = scratch
	if errors.Is(err, record.ErrTooLarge) {
		return nil
	}
	if err != nil {
		return err
	}
	var r record.Record
	for it.Next(&r) {
		f(&r)
	}
	return it.Err()
}

// filter is the commitlog.Filter of a compaction.
func (c *Cleaner) filter(dst, batch []byte, v *view) ([]byte, error) {
	h, err := record.ParseHeader(batch)
	if err != nil {
		return dst, err
	}
	if h.BaseOffset >= v.to {
		return append(dst, batch...), nil
	}
	if h.Control() {
		return c.filterMarker(dst, batch, h, v)
	}
	seen, kept, tombstones := 0, 0, 0
	err = c.eachRecord(batch, func(r *record.Record) {
		seen++
		if c.keeps(v, &h, r) {
			kept++
			if r.Value == nil {
				tombstones++
			}
		}
	})
	if err != nil {
		return dst, fmt.Errorf("batch at offset %d: %w", h.BaseOffset, err)
	}
	_, hasHorizon := h.DeleteHorizon()
	switch {
	case kept == 0 && seen == 0 && h.Count > 0: // too large to look into
		return append(dst, batch...), nil
	case kept == 0 && (h.ProducerID < 0 || v.producers[h.ProducerID] != h.LastOffset()):
		return dst, nil
	case kept == seen && (tombstones == 0 || hasHorizon):
		return append(dst, batch...), nil
	}
	if tombstones > 0 && !hasHorizon {
		h.SetDeleteHorizon(v.horizon)
	}
	original, err := record.ParseHeader(batch)
	if err != nil {
		return dst, err
	}
	c.build.ResetFrom(dst, h)
	err = c.eachRecord(batch, func(r *record.Record) {
		if c.keeps(v, &original, r) {
			c.build.AppendAt(r)
		}
	})
	return c.build.Finish(), err
}

// filterMarker keeps a marker for as long as it is needed, and for the time of a tombstone after that.
func (c *Cleaner) filterMarker(dst, batch []byte, h record.Header, v *view) ([]byte, error) {
	horizon, met := h.DeleteHorizon()
	switch {
	case !v.transactions.hollow[h.BaseOffset], met && v.now <= horizon:
		return append(dst, batch...), nil
	case met:
		return dst, nil
	}
	h.SetDeleteHorizon(v.horizon)
	c.build.ResetFrom(dst, h)
	err := c.eachRecord(batch, c.build.AppendAt)
	return c.build.Finish(), err
}

// keeps reports whether a record stays. h is the header of its batch as it was found.
func (c *Cleaner) keeps(v *view, h *record.Header, r *record.Record) bool {
	if r.Key == nil || (h.Transactional() && v.transactions.aborted(h.ProducerID, r.Offset)) {
		return false
	}
	if last, ok := v.last[c.hash(r.Key)]; ok && last > r.Offset && last < v.to {
		return false
	}
	if r.Value != nil {
		return true
	}
	horizon, ok := h.DeleteHorizon()
	return !ok || v.now <= horizon
}
