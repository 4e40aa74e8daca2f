package module

import (
	"fmt"
	"unicode/utf8"
)

// reader walks bytes of a module between pos and end. The first fault sticks:
// later reads return zero values, so callers check fault once per step.
type reader struct {
	b     []byte
	pos   int
	end   int
	fault *Refusal
}

func (r *reader) failAt(pos int, format string, args ...any) {
	if r.fault == nil {
		r.fault = &Refusal{Reason: fmt.Sprintf(format, args...), Position: pos}
	}
}

func (r *reader) fail(format string, args ...any) { r.failAt(r.pos, format, args...) }

func (r *reader) failFix(pos int, fix, format string, args ...any) {
	r.failAt(pos, format, args...)
	if r.fault.Fix == "" && r.fault.Position == pos {
		r.fault.Fix = fix
	}
}

func (r *reader) remaining() int { return r.end - r.pos }

func (r *reader) byte() byte {
	if r.fault != nil {
		return 0
	}
	if r.pos >= r.end {
		r.fail("unexpected end")
		return 0
	}
	c := r.b[r.pos]
	r.pos++
	return c
}

func (r *reader) skip(n int) {
	if r.fault != nil {
		return
	}
	if n > r.end-r.pos {
		r.fail("unexpected end")
		return
	}
	r.pos += n
}

// u32 reads an unsigned LEB128 of at most 32 bits and 5 bytes.
func (r *reader) u32() uint32 {
	if r.pos < r.end && r.fault == nil {
		if c := r.b[r.pos]; c < 0x80 {
			r.pos++
			return uint32(c)
		}
	}
	return r.u32Slow()
}

func (r *reader) u32Slow() uint32 {
	start := r.pos
	var v uint32
	for shift := 0; shift < 35; shift += 7 {
		c := r.byte()
		if r.fault != nil {
			return 0
		}
		if shift == 28 && c > 0x0f {
			break
		}
		v |= uint32(c&0x7f) << shift
		if c < 0x80 {
			return v
		}
	}
	r.failAt(start, "malformed number: not a 32-bit LEB128")
	return 0
}

// signed reads a signed LEB128 of the given width in bits (32, 33 or 64).
func (r *reader) signed(bits int) int64 {
	start := r.pos
	var v int64
	for shift := 0; shift < bits; shift += 7 {
		c := r.byte()
		if r.fault != nil {
			return 0
		}
		v |= int64(c&0x7f) << shift
		if c >= 0x80 {
			continue
		}
		used := bits - shift // bits of this byte that belong to the number
		if used < 7 {
			// The unused bits must repeat the sign.
			rest := int8(c<<1) >> used // c's bit 6 is the sign after the shift
			if rest != 0 && rest != -1 {
				break
			}
		}
		if shift+7 < 64 && c&0x40 != 0 {
			v |= -1 << (shift + 7)
		}
		return v
	}
	r.failAt(start, "malformed number: not a %d-bit LEB128", bits)
	return 0
}

// count reads the number of entries that follow, each of at least one byte.
func (r *reader) count(what string, limit int) int {
	start := r.pos
	n := int(r.u32())
	if r.fault != nil {
		return 0
	}
	if n > r.end-r.pos {
		r.failAt(start, "claims %d %s in %d bytes", n, what, r.end-r.pos)
		return 0
	}
	if n > limit {
		r.failFix(start, "slim the module or raise the limit", "has %d %s, the limit is %d", n, what, limit)
		return 0
	}
	return n
}

// name reads a UTF-8 string of bounded length; the result is a view.
func (r *reader) name(what string) []byte {
	start := r.pos
	n := int(r.u32())
	if r.fault != nil {
		return nil
	}
	if n > r.end-r.pos {
		r.failAt(start, "%s claims %d bytes, %d are left", what, n, r.end-r.pos)
		return nil
	}
	if n > maxNameBytes {
		r.failAt(start, "%s has %d bytes, the limit is %d", what, n, maxNameBytes)
		return nil
	}
	s := r.b[r.pos : r.pos+n]
	if !utf8.Valid(s) {
		r.failAt(start, "%s is not UTF-8", what)
		return nil
	}
	r.pos += n
	return s
}
