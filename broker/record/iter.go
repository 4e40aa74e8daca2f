package record

import "fmt"

// Iter walks the records of a batch without allocating.
type Iter struct {
	rest       []byte // records not decoded yet
	left       int32  // records not decoded yet, as the header counts them
	lastDelta  int64  // offset delta of the record before
	maxDelta   int64
	baseOffset int64
	timestamp  int64 // base, or the broker's for all
	appendTime bool
	err        error
}

// Iterate returns an iterator over the records of the whole batch b, whose
// views alias b. Compressed records are decompressed into scratch (grown as
// needed, at most maxBytes, else ErrTooLarge), and the views alias that; the
// returned slice is to be passed in again next time. The checksum is not
// checked: see CheckCRC.
func Iterate(b []byte, scratch []byte, maxBytes int) (it Iter, grown []byte, err error) {
	h, err := ParseHeader(b)
	if err != nil {
		return Iter{}, scratch, err
	}
	records := b[HeaderBytes:h.Size()]
	if codec := h.Codec(); codec != None {
		if scratch, err = decompress(scratch[:0], records, codec, maxBytes); err != nil {
			return Iter{}, scratch, err
		}
		records = scratch
	}
	it = Iter{
		rest:       records,
		left:       h.Count,
		lastDelta:  -1,
		maxDelta:   int64(h.LastOffsetDelta),
		baseOffset: h.BaseOffset,
		timestamp:  h.BaseTimestamp,
		appendTime: h.LogAppendTime(),
	}
	if it.appendTime {
		it.timestamp = h.MaxTimestamp
	}
	return it, scratch, nil
}

// Next decodes the next record into r and reports whether there was one.
// Offsets grow from record to record and stay within the batch, lengths stay
// within the record; anything else ends the iteration with Err.
func (it *Iter) Next(r *Record) bool { return it.nextShort(r) || it.nextAny(r) }

// shortRecordBytes is how far nextShort reads before it knows more.
const shortRecordBytes = 9

// nextShort decodes a well-formed record whose numbers all take one or two
// bytes, as nearly all do, in half the time of nextAny. To anything else it
// says false and has changed nothing but r.
func (it *Iter) nextShort(r *Record) bool {
	b := it.rest
	if it.left <= 0 || len(b) < shortRecordBytes {
		return false
	}
	size, at := short(b, 0)
	end := at + int(size>>1)
	timestamp, at := short(b, at+1) // behind the attributes
	delta, at := short(b, at)
	key, at := short(b, at)
	if size|timestamp|delta|key >= shortLimit || (size|delta)&1 != 0 || end > len(b) ||
		int64(delta>>1) <= it.lastDelta || int64(delta>>1) > it.maxDelta {
		return false
	}
	r.Key = nil
	if key != 1 {
		n := int(key >> 1)
		if key&1 != 0 || at+n > end {
			return false
		}
		r.Key = b[at : at+n : at+n]
		at += n
	}
	if at+2 > len(b) {
		return false
	}
	value, at := short(b, at)
	r.Value = nil
	if value != 1 {
		n := int(value >> 1)
		if value >= shortLimit || value&1 != 0 || at+n > end {
			return false
		}
		r.Value = b[at : at+n : at+n]
		at += n
	}
	if at >= end {
		return false
	}
	count := int(b[at] >> 1)
	if at++; b[at-1] >= 0x80 || b[at-1]&1 != 0 || count > (end-at)/2 || count == 0 && at != end {
		return false
	}
	r.Headers, r.HeaderCount = b[at:end:end], count
	r.Offset = it.baseOffset + int64(delta>>1)
	r.Timestamp = it.timestamp
	if !it.appendTime {
		r.Timestamp += int64(timestamp>>1) ^ -int64(timestamp&1)
	}
	it.rest = b[end:]
	it.lastDelta = int64(delta >> 1)
	it.left--
	return true
}

// nextAny is Next for every record, and says what is wrong with a bad one.
func (it *Iter) nextAny(r *Record) bool {
	if it.left <= 0 {
		if len(it.rest) != 0 && it.err == nil {
			it.err = fmt.Errorf("%w: %d bytes after the last record", ErrCorrupt, len(it.rest))
		}
		return false
	}
	size, n := varint(it.rest)
	if n == 0 || size < 0 || size > len(it.rest)-n {
		return it.fail("record length")
	}
	b := it.rest[n : n+size : n+size]
	it.rest = it.rest[n+size:]
	if len(b) < 1 { // the record's attributes, unused by the format
		return it.fail("record attributes")
	}
	b = b[1:]
	timestampDelta, n := varlong(b)
	if n == 0 {
		return it.fail("timestamp delta")
	}
	b = b[n:]
	delta, n := varint(b)
	if n == 0 || int64(delta) <= it.lastDelta || int64(delta) > it.maxDelta {
		return it.fail("offset delta")
	}
	b = b[n:]
	var ok bool
	if r.Key, b, ok = field(b); !ok {
		return it.fail("key length")
	}
	if r.Value, b, ok = field(b); !ok {
		return it.fail("value length")
	}
	headers, n := varint(b)
	if n == 0 || headers < 0 || headers > (len(b)-n)/2 || (headers == 0 && len(b) != n) {
		return it.fail("header count")
	}
	r.Headers, r.HeaderCount = b[n:], headers
	r.Offset = it.baseOffset + int64(delta)
	r.Timestamp = it.timestamp
	if !it.appendTime {
		r.Timestamp += timestampDelta
	}
	it.lastDelta = int64(delta)
	it.left--
	return true
}

// field cuts a length-prefixed byte string off b; -1 is null, which is not empty.
func field(b []byte) (value, rest []byte, ok bool) {
	size, n := varint(b)
	if n == 0 || size < -1 || size > len(b)-n {
		return nil, nil, false
	}
	if size == -1 {
		return nil, b[n:], true
	}
	return b[n : n+size : n+size], b[n+size:], true
}

func (it *Iter) fail(what string) bool {
	it.err = fmt.Errorf("%w: bad %s in the record after offset %d", ErrCorrupt, what, it.baseOffset+it.lastDelta)
	it.left = 0
	it.rest = nil
	return false
}

// Err returns what ended the iteration early (ErrCorrupt), or nil.
func (it *Iter) Err() error { return it.err }

// HeaderIter walks the encoded headers of one record.
type HeaderIter struct {
	rest []byte
	left int
	err  error
}

// IterateHeaders starts a walk over r.Headers.
func IterateHeaders(r *Record) HeaderIter {
	return HeaderIter{rest: r.Headers, left: r.HeaderCount}
}

// Next returns the next header. value is nil for a null one.
func (h *HeaderIter) Next() (name, value []byte, ok bool) {
	if h.left <= 0 {
		if len(h.rest) != 0 && h.err == nil {
			h.err = fmt.Errorf("%w: %d bytes after the last header", ErrCorrupt, len(h.rest))
		}
		return nil, nil, false
	}
	name, rest, ok := field(h.rest)
	if ok && name != nil {
		if value, rest, ok = field(rest); ok {
			h.rest = rest
			h.left--
			return name, value, true
		}
	}
	h.err = fmt.Errorf("%w: bad length in a record header, %d headers before the end", ErrCorrupt, h.left)
	h.left, h.rest = 0, nil
	return nil, nil, false
}

// Err returns what ended the walk early (ErrCorrupt), or nil. Iter.Next does
// not look into headers: who must know that they are well formed walks them.
func (h *HeaderIter) Err() error { return h.err }
