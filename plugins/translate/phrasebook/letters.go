package phrasebook

import (
	"unicode/utf8"

	"github.com/millstream-io/millstream/plugins/internal/letters"
)

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// appendLower appends s in lower case.
func appendLower(dst []byte, s string) []byte {
	for _, r := range s {
		dst = utf8.AppendRune(dst, letters.ToLower(r))
	}
	return dst
}

// appendUpper appends s in upper case.
func appendUpper(dst []byte, s string) []byte {
	for _, r := range s {
		dst = utf8.AppendRune(dst, letters.ToUpper(r))
	}
	return dst
}

// appendCapitalised appends s with its first letter in upper case, and, if every is set, the first letter of each word.
func appendCapitalised(dst []byte, s string, every bool) []byte {
	pending := true
	for _, r := range s {
		switch {
		case pending && letters.IsLetter(r):
			r, pending = letters.ToUpper(r), false
		case every && r == ' ':
			pending = true
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}
