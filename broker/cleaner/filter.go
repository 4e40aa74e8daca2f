package cleaner

import (
	"errors"
	"fmt"
	"hash/maphash"

	"github.com/millstream-io/millstream/broker/record"
)

// maxDecompressedBytes bounds the memory for one batch's records. A larger
// batch is kept as it is and drops nothing.
const maxDecompressedBytes = 256 << 20

// keyHash stands for a key: 128 bits of a keyed hash, so that two keys do not
// meet by chance nor by intent.
type keyHash [2]uint64

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

// filter is the commitlog.Filter of a compaction. It is called for all batches in order.
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
	out, err := c.filterBatch(dst, batch, h, v)
	if err != nil {
		return dst, fmt.Errorf("batch at offset %d: %w", h.BaseOffset, err)
	}
	if h.Transactional() && len(out) > len(dst) {
		v.transactions.kept[h.ProducerID] = true
	}
	return out, nil
}

func (c *Cleaner) filterBatch(dst, batch []byte, h record.Header, v *view) ([]byte, error) {
	seen, kept, tombstones := 0, 0, 0
	err := c.eachRecord(batch, func(r *record.Record) {
		seen++
		if c.keeps(v, &h, r) {
			kept++
			if r.Value == nil {
				tombstones++
			}
		}
	})
	if err != nil {
		return dst, err
	}
	_, met := h.DeleteHorizon()
	switch {
	case seen == 0 && h.Count > 0: // too large to look into
		return append(dst, batch...), nil
	case kept == 0 && !v.mustStay(&h):
		return dst, nil
	case kept == seen && (tombstones > 0) == met:
		return append(dst, batch...), nil
	}
	original := h
	switch {
	case tombstones == 0:
		h.ClearDeleteHorizon()
	case !met:
		h.SetDeleteHorizon(v.horizon)
	}
	c.build.ResetFrom(dst, h)
	err = c.eachRecord(batch, func(r *record.Record) {
		if c.keeps(v, &original, r) {
			c.build.AppendAt(r)
		}
	})
	return c.build.Finish(), err
}

// mustStay reports whether a batch that has lost all its records stays nevertheless:
// it has the last sequence numbers of a producer that may go on.
func (v *view) mustStay(h *record.Header) bool {
	return h.ProducerID >= 0 && v.producers[h.ProducerID] == h.LastOffset() && (v.active == nil || v.active(h.ProducerID))
}

// filterMarker keeps a marker for as long as anything of its transaction is left, and for the time of a tombstone after that.
func (c *Cleaner) filterMarker(dst, batch []byte, h record.Header, v *view) ([]byte, error) {
	m, ends, err := record.ParseMarker(batch)
	if err != nil {
		return dst, err
	}
	horizon, met := h.DeleteHorizon()
	hollow := ends && !v.transactions.kept[h.ProducerID]
	delete(v.transactions.kept, h.ProducerID)
	if hollow && met && v.now > horizon {
		return dst, nil
	}
	if ends && !m.Commit {
		v.transactions.abortMarkers = append(v.transactions.abortMarkers, h.LastOffset())
	}
	if !hollow || met {
		return append(dst, batch...), nil
	}
	h.SetDeleteHorizon(v.horizon)
	c.build.ResetFrom(dst, h)
	err = c.eachRecord(batch, c.build.AppendAt)
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
