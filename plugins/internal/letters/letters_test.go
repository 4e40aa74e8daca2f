package letters

import (
	"testing"
	"unicode"
)

// TestLetters holds the ranges against package unicode where they claim to be exact.
func TestLetters(t *testing.T) {
	for r := rune(0); r < 0x180; r++ {
		if IsLetter(r) != unicode.IsLetter(r) {
			t.Errorf("IsLetter(%q) = %v", r, IsLetter(r))
		}
		if got, want := ToLower(r), unicode.ToLower(r); got != want {
			t.Errorf("ToLower(%q) = %q, want %q", r, got, want)
		}
		if got, want := ToUpper(r), unicode.ToUpper(r); got != want && r != 'µ' {
			t.Errorf("ToUpper(%q) = %q, want %q", r, got, want)
		}
	}
	for _, r := range "αβγςωДдЖжЁёїЇΣσ" {
		if !IsLetter(r) || ToLower(r) != unicode.ToLower(r) || r != 'ς' && ToUpper(r) != unicode.ToUpper(r) {
			t.Errorf("%q: letter %v, lower %q, upper %q", r, IsLetter(r), ToLower(r), ToUpper(r))
		}
	}
	for _, r := range "漢字かなกไทยअ" {
		if unicode.IsLetter(r) && !IsLetter(r) {
			t.Errorf("%q is no letter", r)
		}
	}
	for _, r := range "—–“”‘…€→★、。「」😀¿¡«»°×÷" {
		if IsLetter(r) {
			t.Errorf("%q is a letter", r)
		}
	}
}
