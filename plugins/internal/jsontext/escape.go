package jsontext

import "unicode/utf8"

// escapeLen returns the length of the escape that b starts with (its backslash included), 0 if it is none.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := hex4(b); ok {
			return 6
		}
	}
	return 0
}

// hex4 reads \uXXXX at the start of b.
func hex4(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range b[2:6] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// unescape reads one character of a checked string body into buf and returns its length in UTF-8 and how many
// bytes of the body it took.
func unescape(b []byte, buf *[utf8.UTFMax]byte) (n, size int) {
	if b[0] != '\\' {
		buf[0] = b[0]
		return 1, 1
	}
	switch c := b[1]; c {
	case 'b':
		buf[0] = '\b'
	case 'f':
		buf[0] = '\f'
	case 'n':
		buf[0] = '\n'
	case 'r':
		buf[0] = '\r'
	case 't':
		buf[0] = '\t'
	case 'u':
		r, _ := hex4(b)
		size = 6
		if r >= 0xd800 && r < 0xe000 {
			low, ok := hex4(b[6:])
			if ok && r < 0xdc00 && low >= 0xdc00 && low < 0xe000 {
				r, size = (r-0xd800)<<10|(low-0xdc00)+0x10000, 12
			} else {
				r = utf8.RuneError
			}
		}
		return utf8.EncodeRune(buf[:], r), size
	default:
		buf[0] = c
	}
	return 1, 2
}
