package record

import "math/bits"

// The varints of the record format are protobuf's zig-zag ones. A decoder
// returns the number of bytes it took, or 0 when b ends too early or the
// value does not fit.

// short decodes a varint of one or two bytes at b[at], not yet un-zig-zagged,
// and returns the position behind it. A longer one shows as shortLimit or
// more. The caller has checked that there are two bytes.
func short(b []byte, at int) (uint, int) {
	u := uint(b[at])
	at++
	if u >= 0x80 {
		u = u&0x7f | uint(b[at])<<7
		at++
	}
	return u, at
}

const shortLimit = 1 << 14

// putShort encodes u, which is zig-zagged and below shortLimit, at b[at] and returns the position behind it.
func putShort(b []byte, at int, u uint) int {
	if u < 0x80 {
		b[at] = byte(u)
		return at + 1
	}
	b[at+1] = byte(u >> 7)
	b[at] = byte(u) | 0x80
	return at + 2
}

// varlong decodes a zig-zag varint of at most 64 bits.
func varlong(b []byte) (int64, int) {
	var u uint64
	for i := 0; i < len(b) && i < 10; i++ {
		c := b[i]
		if c < 0x80 {
			if i == 9 && c > 1 {
				return 0, 0
			}
			u |= uint64(c) << (7 * i)
			return int64(u>>1) ^ -int64(u&1), i + 1
		}
		u |= uint64(c&0x7f) << (7 * i)
	}
	return 0, 0
}

// varint decodes a zig-zag varint of at most 32 bits.
func varint(b []byte) (int, int) {
	var u uint32
	for i := 0; i < len(b) && i < 5; i++ {
		c := b[i]
		if c < 0x80 {
			if i == 4 && c > 0x0f {
				return 0, 0
			}
			u |= uint32(c) << (7 * i)
			return int(int32(u>>1) ^ -int32(u&1)), i + 1
		}
		u |= uint32(c&0x7f) << (7 * i)
	}
	return 0, 0
}

func zigzag(v int64) uint64 { return uint64(v)<<1 ^ uint64(v>>63) }

// varintBytes is the encoded size of v.
func varintBytes(v int64) int { return (bits.Len64(zigzag(v)|1) + 6) / 7 }

func appendVarint(dst []byte, v int64) []byte {
	u := zigzag(v)
	for u >= 0x80 {
		dst = append(dst, byte(u)|0x80)
		u >>= 7
	}
	return append(dst, byte(u))
}

// putVarint encodes v at the start of b, which has room, and returns its size.
func putVarint(b []byte, v int64) int {
	u, n := zigzag(v), 0
	for u >= 0x80 {
		b[n] = byte(u) | 0x80
		u >>= 7
		n++
	}
	b[n] = byte(u)
	return n + 1
}
