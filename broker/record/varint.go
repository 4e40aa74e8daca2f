package record

// The varints of the record format are protobuf's zig-zag ones. A decoder
// returns the number of bytes it took, or 0 when b ends too early or the
// value does not fit.

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

// varint decodes a zig-zag varint of at most 32 bits. One and two bytes, the
// lengths below 8 KiB, are decoded without a loop.
func varint(b []byte) (int, int) {
	if len(b) > 1 {
		c := uint32(b[0])
		if c < 0x80 {
			return int(int32(c>>1) ^ -int32(c&1)), 1
		}
		if d := uint32(b[1]); d < 0x80 {
			u := c&0x7f | d<<7
			return int(int32(u>>1) ^ -int32(u&1)), 2
		}
	}
	return varintSlow(b)
}

func varintSlow(b []byte) (int, int) {
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
func varintBytes(v int64) int {
	n := 1
	for u := zigzag(v); u >= 0x80; u >>= 7 {
		n++
	}
	return n
}

func appendVarint(dst []byte, v int64) []byte {
	u := zigzag(v)
	for u >= 0x80 {
		dst = append(dst, byte(u)|0x80)
		u >>= 7
	}
	return append(dst, byte(u))
}
