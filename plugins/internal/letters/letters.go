// Package letters tells letters and their case by ranges, without the tables of
// package unicode, which would make a small module twice as large. It is
// exact for ASCII, Latin-1 and Latin Extended-A, knows the case of Greek and
// Cyrillic, and elsewhere takes for a letter what is neither punctuation nor symbol.
package letters

import "unicode/utf8"

// IsLetter reports whether r is a letter.
func IsLetter(r rune) bool {
	switch {
	case r < 0x80:
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	case r < 0xc0:
		return r == 'ª' || r == 'µ' || r == 'º'
	case r == '×' || r == '÷' || r == utf8.RuneError:
		return false
	case r >= 0x2000 && r < 0x2c00: // punctuation, currency, arrows, signs, dingbats, braille
		return false
	case r >= 0x2e00 && r < 0x2e80, r >= 0x3000 && r < 0x3040: // supplemental and CJK punctuation
		return false
	case r >= 0xd800 && r < 0xf900: // surrogates, private use
		return false
	case r >= 0xfe00 && r < 0xfe70, r >= 0xff00 && r < 0xff21: // variation selectors, forms of punctuation
		return false
	case r >= 0x1f000 && r < 0x20000: // pictures
		return false
	}
	return r < 0xe0000
}

// ToLower returns r in lower case.
func ToLower(r rune) rune {
	switch {
	case r < 0x80:
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
	case r >= 0xc0 && r <= 0xde && r != '×':
		return r + 0x20
	case r >= 0x100 && r < 0x180:
		return extendedLower(r)
	case r >= 0x391 && r <= 0x3a9 && r != 0x3a2, r >= 0x410 && r <= 0x42f:
		return r + 0x20
	case r >= 0x400 && r <= 0x40f:
		return r + 0x50
	}
	return r
}

// ToUpper returns r in upper case; a letter without one (ß) stays.
func ToUpper(r rune) rune {
	switch {
	case r < 0x80:
		if r >= 'a' && r <= 'z' {
			return r - 'a' + 'A'
		}
	case r >= 0xe0 && r <= 0xfe && r != '÷':
		return r - 0x20
	case r == 0xff:
		return 0x178
	case r >= 0x100 && r < 0x180:
		return extendedUpper(r)
	case r >= 0x3b1 && r <= 0x3c9 && r != 0x3c2, r >= 0x430 && r <= 0x44f:
		return r - 0x20
	case r >= 0x450 && r <= 0x45f:
		return r - 0x50
	}
	return r
}

// evenUpper reports whether r of Latin Extended-A stands in a run where upper-case letters have even numbers, each followed by
// its lower case; oddUpper the same for odd ones.
func evenUpper(r rune) bool {
	return r < 0x138 && r != 0x130 && r != 0x131 || r >= 0x14a && r < 0x178
}

func oddUpper(r rune) bool { return r >= 0x139 && r < 0x149 || r >= 0x179 && r < 0x17f }

func extendedLower(r rune) rune {
	switch {
	case r == 0x178:
		return 0xff
	case r == 0x130:
		return 'i'
	case evenUpper(r):
		return r | 1
	case oddUpper(r) && r&1 == 1:
		return r + 1
	}
	return r
}

func extendedUpper(r rune) rune {
	switch {
	case r == 0x131:
		return 'I'
	case r == 0x17f:
		return 'S'
	case evenUpper(r):
		return r &^ 1
	case oddUpper(r) && r&1 == 0:
		return r - 1
	}
	return r
}
