package topic

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/millstream-io/millstream/broker/record"
)

// surveyPlain walks uncompressed records. It is the price of every produced
// record, so it looks at lengths only and never at keys and values.
func surveyPlain(b []byte, h *record.Header, wantKeys bool) (survey, error) {
	found := survey{minTimestamp: math.MaxInt64, maxTimestamp: noTimestamp}
	for i := range int(h.Count) {
		length, n := varint(b)
		if n <= 0 || length < 0 || length > int64(len(b)-n) {
			return found, fmt.Errorf("%w: record %d of %d has a bad length", ErrInvalidBatch, i, h.Count)
		}
		delta, keyless, ok := plainRecord(b[n:n+int(length)], i)
		if !ok {
			return found, fmt.Errorf("%w: record %d of %d is malformed or out of order", ErrInvalidBatch, i, h.Count)
		}
		found.add(i, h.BaseTimestamp+delta, wantKeys && keyless)
		b = b[n+int(length):]
	}
	if len(b) != 0 {
		return found, fmt.Errorf("%w: %d bytes behind the last of %d records", ErrInvalidBatch, len(b), h.Count)
	}
	return found, nil
}

// plainRecord checks one record without its length field; index is the offset delta it must have.
func plainRecord(r []byte, index int) (timestampDelta int64, keyless, ok bool) {
	if len(r) == 0 {
		return 0, false, false
	}
	r = r[1:] // attributes, unused
	timestampDelta, n := varint(r)
	if n <= 0 {
		return 0, false, false
	}
	r = r[n:]
	delta, n := varint(r)
	if n <= 0 || delta != int64(index) {
		return 0, false, false
	}
	keyBytes, r, ok := skip(r[n:], true)
	if !ok {
		return 0, false, false
	}
	if _, r, ok = skip(r, true); !ok {
		return 0, false, false
	}
	headers, n := varint(r)
	if n <= 0 || headers < 0 {
		return 0, false, false
	}
	r = r[n:]
	for ; headers > 0; headers-- {
		if _, r, ok = skip(r, false); !ok {
			return 0, false, false
		}
		if _, r, ok = skip(r, true); !ok {
			return 0, false, false
		}
	}
	return timestampDelta, keyBytes < 0, len(r) == 0
}

// skip passes over a field with its length in front; -1 is null, where a field may be null.
func skip(b []byte, nullable bool) (length int64, rest []byte, ok bool) {
	length, n := varint(b)
	if n <= 0 || length > int64(len(b)-n) || length < -1 || (length == -1 && !nullable) {
		return 0, nil, false
	}
	return length, b[n+int(max(length, 0)):], true
}

// varint decodes a zigzag number; nearly all are of one byte or two.
func varint(b []byte) (int64, int) {
	if len(b) > 1 {
		if b[0] < 0x80 {
			return unzigzag(uint64(b[0])), 1
		}
		if b[1] < 0x80 {
			return unzigzag(uint64(b[0]&0x7f) | uint64(b[1])<<7), 2
		}
	}
	return binary.Varint(b)
}

func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }
