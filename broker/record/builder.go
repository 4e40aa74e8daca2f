package record

import (
	"fmt"
	"slices"
)

// maxVarintBytes is the largest size of a record's length.
const maxVarintBytes = 10

// Builder builds batches. Usage: Reset, then Append for each record, at last
// Finish. The zero value is ready for Reset; a Builder that is used again
// keeps its buffers and compressors. It is not safe for concurrent use.
type Builder struct {
	dst   []byte
	start int    // of the batch in dst
	raw   []byte // records to be compressed
	head  Header
	keep  bool // the batch replaces another one: see ResetFrom
	comp  compressor
}

// Reset begins a new batch; dst is extended (its content before is kept, so
// batches can be put one behind the other).
func (w *Builder) Reset(dst []byte, codec Codec) {
	w.begin(dst, Header{
		Magic:                Magic,
		PartitionLeaderEpoch: -1,
		Attributes:           int16(codec) & attrCodec,
		LastOffsetDelta:      -1,
		ProducerID:           -1,
		ProducerEpoch:        -1,
		BaseSequence:         -1,
	})
	w.keep = false
}

// ResetFrom begins a batch that replaces the one with header h and holds a
// part of its records: offsets, timestamps, producer, codec and attributes
// stay what they were, even if no record is left. Records are added by AppendAt.
func (w *Builder) ResetFrom(dst []byte, h Header) {
	h.Count = 0
	w.begin(dst, h)
	w.keep = true
}

func (w *Builder) begin(dst []byte, h Header) {
	w.start = len(dst)
	w.dst = slices.Grow(dst, HeaderBytes)[:len(dst)+HeaderBytes]
	w.raw = w.raw[:0]
	w.head = h
}

// Append adds a record at the next offset with already known headers (encoded
// as in a batch, see AppendHeader); nil key or value = null. timestamp in ms.
func (w *Builder) Append(timestamp int64, key, value, encodedHeaders []byte, headerCount int) {
	h := &w.head
	if h.Count == 0 {
		h.BaseTimestamp, h.MaxTimestamp = timestamp, timestamp
	}
	h.MaxTimestamp = max(h.MaxTimestamp, timestamp)
	h.LastOffsetDelta++
	if headerCount != 0 || !w.addShort(timestamp-h.BaseTimestamp, int64(h.LastOffsetDelta), key, value) {
		w.add(timestamp-h.BaseTimestamp, int64(h.LastOffsetDelta), key, value, encodedHeaders, headerCount)
	}
}

// AppendAt adds r at its own offset after ResetFrom. Offsets must grow.
func (w *Builder) AppendAt(r *Record) {
	h := &w.head
	if !h.LogAppendTime() {
		if h.Count == 0 {
			h.MaxTimestamp = r.Timestamp
		}
		h.MaxTimestamp = max(h.MaxTimestamp, r.Timestamp)
	}
	w.add(r.Timestamp-h.BaseTimestamp, r.Offset-h.BaseOffset, r.Key, r.Value, r.Headers, r.HeaderCount)
}

// addShort adds a record without headers, whose numbers all take one or two bytes, as nearly all do, in half the
// time of add. To any other, in a batch that is to be compressed, and where there is no room it says false and has changed nothing.
func (w *Builder) addShort(timestampDelta, offsetDelta int64, key, value []byte) bool {
	timestamp, delta := zigzag(timestampDelta), zigzag(offsetDelta)
	start, fields := len(w.dst), len(key)+len(value)
	if timestamp|delta >= shortLimit || fields > maxShortFields || cap(w.dst)-start < maxShortBytes+fields || w.head.Codec() != None {
		return false
	}
	sizeBytes := 2
	if fields < 64 {
		if sizeBytes = 1; fields+maxShortBytes >= 64 {
			return false // or two: add finds out
		}
	}
	b := w.dst[start : start+maxShortBytes+fields]
	b[sizeBytes] = 0 // attributes
	at := putShort(b, sizeBytes+1, uint(timestamp))
	at = putShort(b, at, uint(delta))
	if key == nil {
		b[at] = 1
		at++
	} else {
		at = putShort(b, at, uint(len(key))<<1)
		at += copy(b[at:], key)
	}
	if value == nil {
		b[at] = 1
		at++
	} else {
		at = putShort(b, at, uint(len(value))<<1)
		at += copy(b[at:], value)
	}
	b[at] = 0 // headers
	at++
	putShort(b, 0, uint(at-sizeBytes)<<1)
	w.dst = w.dst[:start+at]
	w.head.Count++
	return true
}

const (
	// maxShortBytes is the most that addShort writes beside key and value: five numbers, attributes, header count.
	maxShortBytes = 5*2 + 2
	// maxShortFields is how long key and value may be together, so that all lengths take two bytes at most.
	maxShortFields = shortLimit/2 - 1 - maxShortBytes
)

func (w *Builder) add(timestampDelta, offsetDelta int64, key, value, headers []byte, headerCount int) {
	w.head.Count++
	compressed := w.head.Codec() != None
	b := w.dst
	if compressed {
		b = w.raw
	}
	size := 1 + varintBytes(timestampDelta) + varintBytes(offsetDelta) + fieldBytes(key) + fieldBytes(value) +
		varintBytes(int64(headerCount)) + len(headers)
	start := len(b)
	if cap(b)-start < size+maxVarintBytes {
		b = slices.Grow(b, size+maxVarintBytes)
	}
	b = b[:cap(b)]
	at := start
	at += putVarint(b[at:], int64(size))
	b[at] = 0
	at++
	at += putVarint(b[at:], timestampDelta)
	at += putVarint(b[at:], offsetDelta)
	at += putField(b[at:], key)
	at += putField(b[at:], value)
	at += putVarint(b[at:], int64(headerCount))
	at += copy(b[at:], headers)
	b = b[:at]
	if compressed {
		w.raw = b
	} else {
		w.dst = b
	}
}

func fieldBytes(v []byte) int {
	if v == nil {
		return 1
	}
	return varintBytes(int64(len(v))) + len(v)
}

// putField encodes v at the start of b, which has room, and returns its size; nil is -1.
func putField(b, v []byte) int {
	if v == nil {
		b[0] = 1
		return 1
	}
	n := putVarint(b, int64(len(v)))
	return n + copy(b[n:], v)
}

// AppendHeader encodes one header behind dst in the batch's form, for Append.
// A nil value is null; a name cannot be.
func AppendHeader(dst, name, value []byte) []byte {
	dst = append(appendVarint(dst, int64(len(name))), name...)
	if value == nil {
		return append(dst, 1) // -1
	}
	return append(appendVarint(dst, int64(len(value))), value...)
}

// Count tells how many records have been added so far.
func (w *Builder) Count() int { return int(w.head.Count) }

// SizeBytes tells how large the batch is so far, uncompressed.
func (w *Builder) SizeBytes() int { return len(w.dst) - w.start + len(w.raw) }

// SetProducer sets producer id, epoch, base sequence and whether the batch is
// transactional. It is called between Reset and Finish.
func (w *Builder) SetProducer(id int64, epoch int16, baseSequence int32, transactional bool) {
	h := &w.head
	h.ProducerID, h.ProducerEpoch, h.BaseSequence = id, epoch, baseSequence
	h.Attributes &^= attrTransactional
	if transactional {
		h.Attributes |= attrTransactional
	}
}

// SetControl marks the batch as a transaction marker.
func (w *Builder) SetControl() { w.head.Attributes |= attrControl }

// Finish writes the header and the checksum and returns dst with the batch
// appended. Producer id, epoch and sequence are -1 unless SetProducer was
// called. A batch without records is no batch: nothing is appended then,
// except after ResetFrom.
func (w *Builder) Finish() []byte {
	dst := w.dst
	w.dst = nil
	if w.head.Count == 0 && !w.keep {
		return dst[:w.start]
	}
	if codec := w.head.Codec(); codec != None {
		var err error
		if dst, err = w.comp.compress(dst, w.raw, codec); err != nil {
			// Writing to memory does not fail; an unknown codec is the caller's bug, and raw bytes are always right.
			dst = append(dst[:w.start+HeaderBytes], w.raw...)
			w.head.Attributes &^= attrCodec
		}
	}
	b := dst[w.start:]
	w.head.Length = int32(len(b) - LengthOverhead)
	w.head.put(b)
	putCRC(b)
	return dst
}

// String names a codec as Kafka's configs do.
func (c Codec) String() string {
	switch c {
	case None:
		return "none"
	case Gzip:
		return "gzip"
	case Snappy:
		return "snappy"
	case LZ4:
		return "lz4"
	case Zstd:
		return "zstd"
	}
	return fmt.Sprintf("codec %d", int8(c))
}
