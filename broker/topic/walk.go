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
		if next, delta, keyless := usualRecord(b, at, i); next > 0 {
			at = next
			found.add(i, h.BaseTimestamp+delta, wantKeys && keyless)
			continue
		}
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

// usualBytes is how far usualRecord reads before it compares a position with the end.
const usualBytes = 16

// usualRecord checks a record of the usual form: its length, offset delta and
// timestamp delta take at most three bytes, its key and value lengths two, and
// the number of its headers one. It returns the position behind the record; of any
// other, good or bad, it knows nothing and returns 0.
func usualRecord(b []byte, at, index int) (next int, timestampDelta int64, keyless bool) {
	if len(b)-at < usualBytes {
		return 0, 0, false
	}
	size, i := upToThree(b, at)
	next = i + int(size>>1)
	timestamp, i := upToThree(b, i+1) // behind the attributes, which are unused
	delta, i := upToThree(b, i)
	key, i := upToTwo(b, i)
	if size&1 != 0 || delta != uint(index)<<1 || (size|timestamp) >= threeLimit || key >= twoLimit || next > len(b) {
		return 0, 0, false
	}
	keyless = key == 1
	if !keyless {
		if i += int(key >> 1); key&1 != 0 || i+2 >= next {
			return 0, 0, false
		}
	}
	value, i := upToTwo(b, i)
	if value != 1 {
		if value&1 != 0 || value >= twoLimit {
			return 0, 0, false
		}
		i += int(value >> 1)
	}
	if i >= next {
		return 0, 0, false
	}
	headers := b[i]
	for i++; headers != 0; headers -= 2 {
		if headers&0x81 != 0 {
			return 0, 0, false
		}
		if i = skipHeader(b[:next], i); i < 0 {
			return 0, 0, false
		}
	}
	if i != next {
		return 0, 0, false
	}
	return next, int64(timestamp>>1) ^ -int64(timestamp&1), keyless
}

// What upToTwo and upToThree return for a longer number is at least so much.
const (
	twoLimit   = 1 << 14
	threeLimit = 1 << 21
)

// upToTwo decodes a number of one or two bytes, not yet un-zig-zagged.
func upToTwo(b []byte, at int) (u uint, next int) {
	u = uint(b[at])
	at++
	if u >= 0x80 {
		u = u&0x7f | uint(b[at])<<7
		at++
	}
	return u, at
}

// upToThree decodes a number of one to three bytes, not yet un-zig-zagged.
func upToThree(b []byte, at int) (u uint, next int) {
	u, at = upToTwo(b, at)
	if u >= twoLimit {
		u = u&(twoLimit-1) | uint(b[at])<<14
		at++
	}
	return u, at
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
