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
	at := 0
	for i := range int(h.Count) {
		length, from := varint(b, at)
		if from < 0 || length < 0 || length > int64(len(b)-from) {
			return found, fmt.Errorf("%w: record %d of %d has a bad length", ErrInvalidBatch, i, h.Count)
		}
		at = from + int(length)
		delta, keyless, ok := plainRecord(b[from:at], i)
		if !ok {
			return found, fmt.Errorf("%w: record %d of %d is malformed or out of order", ErrInvalidBatch, i, h.Count)
		}
		found.add(i, h.BaseTimestamp+delta, wantKeys && keyless)
	}
	if at != len(b) {
		return found, fmt.Errorf("%w: %d bytes behind the last of %d records", ErrInvalidBatch, len(b)-at, h.Count)
	}
	return found, nil
}

// plainRecord checks one record without its length field; index is the offset delta it must have.
func plainRecord(r []byte, index int) (timestampDelta int64, keyless, ok bool) {
	timestampDelta, at := varint(r, 1) // behind the attributes, which are unused
	if at < 0 {
		return 0, false, false
	}
	delta, at := varint(r, at)
	if at < 0 || delta != int64(index) {
		return 0, false, false
	}
	key, at := varint(r, at)
	if at < 0 || key < -1 || key > int64(len(r)-at) {
		return 0, false, false
	}
	value, at := varint(r, at+int(max(key, 0)))
	if at < 0 || value < -1 || value > int64(len(r)-at) {
		return 0, false, false
	}
	headers, at := varint(r, at+int(max(value, 0)))
	if at < 0 || headers < 0 {
		return 0, false, false
	}
	for ; headers > 0 && at >= 0; headers-- {
		if at = skipHeader(r, at); at < 0 {
			return 0, false, false
		}
	}
	return timestampDelta, key < 0, at == len(r)
}

// skipHeader returns the position behind the header at position at, -1 if it is malformed.
func skipHeader(r []byte, at int) int {
	name, at := varint(r, at)
	if at < 0 || name < 0 || name > int64(len(r)-at) {
		return -1
	}
	value, at := varint(r, at+int(name))
	if at < 0 || value < -1 || value > int64(len(r)-at) {
		return -1
	}
	return at + int(max(value, 0))
}

// varint decodes the zigzag number at position at and returns the position
// behind it, -1 if there is none. Most are of one byte, and that is inlined.
func varint(b []byte, at int) (v int64, next int) {
	if uint(at) < uint(len(b)) && b[at] < 0x80 {
		u := b[at]
		return int64(u>>1) ^ -int64(u&1), at + 1
	}
	return longVarint(b, at)
}

func longVarint(b []byte, at int) (v int64, next int) {
	if at >= 0 && at+1 < len(b) && b[at+1] < 0x80 {
		u := uint64(b[at]&0x7f) | uint64(b[at+1])<<7
		return int64(u>>1) ^ -int64(u&1), at + 2
	}
	if uint(at) >= uint(len(b)) {
		return 0, -1
	}
	v, n := binary.Varint(b[at:])
	if n <= 0 {
		return 0, -1
	}
	return v, at + n
}
