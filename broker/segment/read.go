package segment

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/millstream-io/millstream/broker/record"
)

// seekBytes is how much of the log is read at once while looking for a batch.
const seekBytes = 4096

// maxDecompressedBytes limits what a lookup by timestamp decompresses; a
// larger batch is answered with its first offset.
const maxDecompressedBytes = 64 << 20

// Place is a position in a segment where a batch begins, so that a reader
// who goes on where it stopped needs no lookup.
type Place struct {
	Offset   int64 // of the batch, at least
	Position int64
}

func corrupt(s *Segment, position int64, err error) error {
	return fmt.Errorf("%w: %s at position %d: %w", ErrCorrupt, s.Path(), position, err)
}

// Read appends whole batches to dst: from the one that holds offset, or the
// first one behind it, those that end below upTo; at least one if there is
// any, else as many as fit in maxBytes. from may give a place known from an
// earlier Read that is not behind offset; the zero Place if none is. It
// returns the place behind what it read. Nothing is allocated when dst has room.
func (s *Segment) Read(dst []byte, offset int64, maxBytes int, upTo int64, from Place) ([]byte, Place, error) {
	size := s.size.Load()
	start := len(dst)
	known := from.Position > 0 && from.Offset == offset
	if !known {
		var err error
		if dst, from.Position, err = s.seek(dst, offset, size); err != nil {
			return dst[:start], Place{}, err
		}
	}
	at := from.Position
	want := min(int64(maxBytes), size-at)
	if want < size-at {
		if p, ok := s.index.before(at + want); ok && int64(p.position) > at {
			want = int64(p.position) - at // a batch border: nothing is read in vain
		}
	}
	if want = min(max(want, record.HeaderBytes), size-at); want <= 0 {
		return dst[:start], Place{Offset: offset, Position: at}, nil
	}
	dst, err := s.fill(dst[:start], at, int(want))
	if err != nil {
		return dst[:start], Place{}, err
	}
	end, next := start, max(offset, s.base)
	for first := true; ; first = false {
		h, err := s.headerAt(dst[end:], at+int64(end-start), size)
		if errors.Is(err, record.ErrTruncated) {
			break
		}
		if err != nil {
			return dst[:start], Place{}, err
		}
		if first && !known {
			next = min(h.BaseOffset, next) // offset may lie within the batch
		}
		if err := checkOrder(s, &h, next); err != nil {
			return dst[:start], Place{}, corrupt(s, at+int64(end-start), err)
		}
		beyond := h.LastOffset() >= upTo
		if beyond && !first {
			break // the next read begins here and looks closer
		}
		if end+h.Size() > len(dst) {
			if !first {
				break
			}
			have := len(dst) - start
			if dst, err = s.fill(dst, at+int64(have), h.Size()-have); err != nil {
				return dst[:start], Place{}, err
			}
		}
		if err := verify(s, dst[end:], &h, at+int64(end-start)); err != nil {
			return dst[:start], Place{}, err
		}
		if beyond {
			err := checkEntries(s, dst[end:end+h.Size()], at)
			return dst[:start], Place{Offset: next, Position: at}, err
		}
		end += h.Size()
		next = h.LastOffset() + 1
		if end-start >= maxBytes {
			break
		}
	}
	if err := checkEntries(s, dst[start:end], at); err != nil {
		return dst[:start], Place{}, err
	}
	return dst[:end], Place{Offset: next, Position: at + int64(end-start)}, nil
}

// verify checks what an earlier process wrote, or what was written long ago.
func verify(s *Segment, b []byte, h *record.Header, at int64) error {
	if at >= s.verifyBelow.Load() {
		return nil
	}
	err := record.CheckCRC(b)
	if err == nil && s.o.CheckEpoch != nil {
		err = s.o.CheckEpoch(h.LastOffset(), h.PartitionLeaderEpoch)
	}
	if ends := s.next.Load(); err == nil && h.LastOffset() >= ends {
		err = fmt.Errorf("batch that ends at offset %d, the segment ends before %d", h.LastOffset(), ends)
	}
	if err != nil {
		return corrupt(s, at, err)
	}
	return nil
}

// checkEntries compares the base offsets of batches, which lie at position at,
// with the index entries of a sparse segment. Where offsets follow each other
// without a gap they prove each other; where some are missing only this does.
func checkEntries(s *Segment, batches []byte, at int64) error {
	if len(batches) == 0 || !s.sparse.Load() {
		return nil
	}
	err := compareEntries(s, batches, at)
	if errors.Is(err, errIndex) {
		if err = s.rebuildIndex(); err == nil {
			err = compareEntries(s, batches, at)
		}
	}
	return err
}

func compareEntries(s *Segment, batches []byte, at int64) error {
	var damage error
	scratch := make([]byte, pointBytes)
	err := s.index.entries(at, scratch, func(p point) bool {
		h, err := s.headerAt(batches, at, s.size.Load())
		if err == nil && (int64(p.position) != at || s.base+int64(p.rel) != h.BaseOffset) {
			err = corrupt(s, at, fmt.Errorf("batch at offset %d, the index has offset %d at position %d", h.BaseOffset, s.base+int64(p.rel), p.position))
		}
		if err != nil {
			damage = err
			return false
		}
		at += int64(h.Size())
		batches = batches[h.Size():]
		return len(batches) > 0
	})
	if damage != nil {
		return damage
	}
	return err
}

// FirstHeader returns the header of a segment's first batch; ok is false if there is none.
func FirstHeader(s *Segment) (h record.Header, ok bool, err error) {
	size := s.size.Load()
	if size == 0 {
		return h, false, nil
	}
	b, err := s.fill(nil, 0, int(min(record.HeaderBytes, size)))
	if err == nil {
		h, err = s.headerAt(b, 0, size)
	}
	return h, err == nil, err
}

// fill appends n bytes of the log from position at to dst.
func (s *Segment) fill(dst []byte, at int64, n int) ([]byte, error) {
	start := len(dst)
	dst = slices.Grow(dst, n)[:start+n]
	if _, err := s.log.ReadAt(dst[start:], at); err != nil {
		if err == io.EOF {
			return dst[:start], corrupt(s, at, fmt.Errorf("the file ends before byte %d", at+int64(n)))
		}
		return dst[:start], fmt.Errorf("read %s at position %d: %w", s.Path(), at, err)
	}
	return dst, nil
}

// headerAt parses the batch header at the start of b, which lies at position
// at, and checks that its batch lies within the first size bytes of the log.
// record.ErrTruncated means that b is too short for a header.
func (s *Segment) headerAt(b []byte, at, size int64) (record.Header, error) {
	if len(b) < record.HeaderBytes {
		if at+record.HeaderBytes > size && at < size {
			return record.Header{}, corrupt(s, at, fmt.Errorf("%d bytes are left, a header has %d", size-at, record.HeaderBytes))
		}
		return record.Header{}, record.ErrTruncated
	}
	h, err := record.ParsePrefix(b)
	if err != nil {
		return h, corrupt(s, at, err)
	}
	if at+int64(h.Size()) > size {
		return h, corrupt(s, at, fmt.Errorf("batch of %d bytes, %d are left", h.Size(), size-at))
	}
	if h.BaseOffset < s.base {
		return h, corrupt(s, at, fmt.Errorf("batch at offset %d before the segment's first %d", h.BaseOffset, s.base))
	}
	return h, nil
}

// seek returns the position of the batch that holds offset, or of the first
// one behind it; size if there is none. It uses the spare room of dst.
func (s *Segment) seek(dst []byte, offset, size int64) ([]byte, int64, error) {
	if offset <= s.base {
		return dst, 0, nil
	}
	dst = slices.Grow(dst, seekBytes)
	scratch := dst[len(dst) : len(dst)+seekBytes]
	p, err := s.index.floor(offset, scratch)
	if err == nil {
		var position int64
		position, err = s.scan(scratch, int64(p.position), &p, size, func(h *record.Header) bool { return h.LastOffset() >= offset })
		if err == nil {
			return dst, position, nil
		}
	}
	if !errors.Is(err, errIndex) {
		return dst, 0, err
	}
	if err := s.rebuildIndex(); err != nil {
		return dst, 0, err
	}
	if p, err = s.index.floor(offset, scratch); err != nil {
		return dst, 0, err
	}
	position, err := s.scan(scratch, int64(p.position), &p, size, func(h *record.Header) bool { return h.LastOffset() >= offset })
	if errors.Is(err, errIndex) { // the index is right: it is the log that is not
		err = corrupt(s, int64(p.position), fmt.Errorf("no batch with offset %d begins here", s.base+int64(p.rel)))
	}
	return dst, position, err
}

// scan walks batch headers from position at on and returns the position of
// the first one for which found holds, or size. entry is the index entry that
// gave the position, or nil: errIndex says that it does not name a batch of the log.
func (s *Segment) scan(scratch []byte, at int64, entry *point, size int64, found func(*record.Header) bool) (int64, error) {
	check := entry != nil && *entry != point{}
	next := int64(-1) // not known yet
	for at < size {
		n := int(min(int64(len(scratch)), size-at))
		chunk, err := s.fill(scratch[:0], at, n)
		if err != nil {
			return 0, err
		}
		for begin := at; at < size && at-begin+record.HeaderBytes <= int64(n) || at == begin; {
			h, err := s.headerAt(chunk[at-begin:], at, size)
			if check && (err != nil || h.BaseOffset != s.base+int64(entry.rel)) && !s.sparse.Load() {
				return 0, errIndex // if it is the log that is damaged, the rebuild finds out
			}
			if err != nil {
				return 0, err
			}
			check = false
			if next >= 0 {
				if err := checkOrder(s, &h, next); err != nil {
					return 0, corrupt(s, at, err)
				}
			}
			next = h.LastOffset() + 1
			if found(&h) {
				return at, nil
			}
			at += int64(h.Size())
		}
	}
	return size, nil
}

// OffsetForTimestamp returns the first record at offset from or behind it
// whose timestamp (ms) is at least timestamp; ok is false if there is none.
func (s *Segment) OffsetForTimestamp(timestamp, from int64) (offset, found int64, ok bool, err error) {
	size := s.size.Load()
	if s.maxTimestamp.Load() < timestamp || size == 0 {
		return 0, 0, false, nil
	}
	scratch := make([]byte, seekBytes)
	stamped, err := s.index.stampBefore(timestamp, scratch)
	if errors.Is(err, errIndex) {
		if err = s.rebuildIndex(); err == nil {
			stamped, err = s.index.stampBefore(timestamp, scratch)
		}
	}
	if err != nil {
		return 0, 0, false, err
	}
	var batch []byte
	_, at, err := s.seek(nil, max(stamped, from), size)
	for err == nil && at < size {
		var h record.Header
		at, err = s.scan(scratch, at, nil, size, func(b *record.Header) bool {
			h = *b
			return b.MaxTimestamp >= timestamp
		})
		if err != nil || at == size {
			break
		}
		if batch, err = s.fill(batch[:0], at, h.Size()); err != nil {
			break
		}
		if err = checkEntries(s, batch, at); err != nil {
			break
		}
		if offset, found, ok, err = searchBatch(batch, timestamp, from); err != nil {
			err = corrupt(s, at, err)
		}
		if ok || err != nil {
			return offset, found, ok, err
		}
		at += int64(h.Size())
	}
	return 0, 0, false, err
}

// searchBatch returns the first record of a batch at offset from or behind it with at least timestamp.
func searchBatch(batch []byte, timestamp, from int64) (offset, found int64, ok bool, err error) {
	if err := record.CheckCRC(batch); err != nil {
		return 0, 0, false, err
	}
	it, _, err := record.Iterate(batch, nil, maxDecompressedBytes)
	if errors.Is(err, record.ErrTooLarge) {
		h, err := record.ParseHeader(batch)
		return h.BaseOffset, h.MaxTimestamp, err == nil, err
	}
	if err != nil {
		return 0, 0, false, err
	}
	var r record.Record
	for it.Next(&r) {
		if r.Timestamp >= timestamp && r.Offset >= from {
			return r.Offset, r.Timestamp, true, nil
		}
	}
	return 0, 0, false, it.Err()
}

// MaxTimestampFrom returns the largest timestamp (ms) of the records at offset
// from and behind it, or NoTimestamp.
func (s *Segment) MaxTimestampFrom(from int64) (int64, error) {
	size := s.size.Load()
	_, at, err := s.seek(nil, from, size)
	if err != nil {
		return NoTimestamp, err
	}
	largest := int64(NoTimestamp)
	partial := 0 // size of a first batch that begins before from
	if _, err = s.scan(make([]byte, seekBytes), at, nil, size, func(h *record.Header) bool {
		if h.BaseOffset < from {
			partial = h.Size()
		} else {
			largest = max(largest, h.MaxTimestamp)
		}
		return false
	}); err != nil || partial == 0 {
		return largest, err
	}
	batch, err := s.fill(nil, at, partial)
	if err != nil {
		return NoTimestamp, err
	}
	it, _, err := record.Iterate(batch, nil, maxDecompressedBytes)
	if err != nil {
		return NoTimestamp, corrupt(s, at, err)
	}
	for r := (record.Record{}); it.Next(&r); {
		if r.Offset >= from {
			largest = max(largest, r.Timestamp)
		}
	}
	if it.Err() != nil {
		return NoTimestamp, corrupt(s, at, it.Err())
	}
	return largest, nil
}
