package phrasebook

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestParseNamesTheLine(t *testing.T) {
	long := strings.Repeat("x", MaxPhraseBytes+1)
	tests := []struct {
		name, in string
		line     int
		reason   string
	}{
		{"no tab", "a\tb\n\nhouse casa\n", 3, "no tab"},
		{"no source", "\tcasa\n", 1, "no source"},
		{"no target", "house\t \n", 1, "no translation"},
		{"twice", "# x\nhouse\tcasa\nHouse\thogar\n", 3, `"House" stands already in line 2`},
		{"not UTF-8", "house\tcas\xff\n", 1, "not UTF-8"},
		{"punctuation in the source", "house!\tcasa\n", 1, "no text can match"},
		{"a space at the end", "house \tcasa\n", 1, "a space too many"},
		{"two spaces", "the  house\tcasa\n", 1, "a space too many"},
		{"a hyphen at the end", "house-\tcasa\n", 1, "no text can match"},
		{"a digit", "house 2\tcasa\n", 1, "no text can match"},
		{"too many words", "a b c d e f g h i\tx\n", 1, "more than 8 words"},
		{"too long a source", long + "\tx\n", 1, "longer than 120"},
		{"too long a target", "x\t" + strings.Repeat("y", MaxTargetBytes+1) + "\n", 1, "longer than 500"},
		{"class", "house\tcasa\tz\n", 1, `unknown word class "z"`},
		{"class with a space", "house\tcasa\tm f\n", 1, "unknown word class"},
		{"columns", "house\tcasa\tf\tx\n", 1, "more than three columns"},
		{"three forms", "house\ta|b|c\n", 1, "3 forms where 1, 2, 4 or 5"},
		{"forms of a plural", "houses\ta|b\tfp\n", 1, "2 forms where 1"},
		{"forms of be", "is\tes\tbe\n", 1, "1 forms where 2"},
		{"an empty form", "the\tel||los|las\n", 1, "an empty form"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse(tt.in)
			var bad *LineError
			if !errors.As(err, &bad) || bad.Line != tt.line || !strings.Contains(bad.Reason, tt.reason) {
				t.Errorf("%v, want line %d: %s", err, tt.line, tt.reason)
			}
		})
	}
}

func TestParseEmpty(t *testing.T) {
	for _, in := range []string{"", "\n\n", "# only\n# comments", "\ufeff"} {
		if _, err := Parse(in); !errors.Is(err, ErrEmpty) {
			t.Errorf("Parse(%q): %v, want ErrEmpty", in, err)
		}
	}
}

func TestParseForms(t *testing.T) {
	g, err := Parse("\ufeff# BOM, Windows line ends, no newline at the end\r\nÉcole Normale\tx\r\no’clock\ty")
	if err != nil || g.Len() != 2 {
		t.Fatalf("%v", err)
	}
	got, _ := New(g, LanguageOf("es")).Append(nil, []byte("école normale, O'CLOCK"))
	if string(got) != "x, Y" {
		t.Errorf("got %q", got)
	}
}

// TestParseLarge: a dictionary of tens of thousands of lines is found again, line by line.
func TestParseLarge(t *testing.T) {
	var b strings.Builder
	word := func(i int) string {
		return string([]byte{'a' + byte(i%26), 'a' + byte(i/26%26), 'a' + byte(i/676%26), 'a' + byte(i/17576%26)})
	}
	const n = 40_000
	for i := range n {
		fmt.Fprintf(&b, "%s common head\tt%d\n", word(i), i)
	}
	g, err := Parse(b.String())
	if err != nil || g.Len() != n {
		t.Fatal(err)
	}
	tr := New(g, LanguageOf("es"))
	for i := 0; i < n; i += 997 {
		if got, _ := tr.Append(nil, []byte(word(i)+" common head")); string(got) != fmt.Sprintf("t%d", i) {
			t.Fatalf("%d: got %q", i, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("the\tel|la|los|las\nhouse\tcasa\tf\n", "the houses")
	f.Add("is\tes|está\tbe\nred car\tx\tadj", "Is RED car")
	f.Fuzz(func(t *testing.T, glossary, text string) {
		g, err := Parse(glossary)
		if err != nil {
			return
		}
		for _, code := range []string{"es", "fr", "xx"} {
			New(g, LanguageOf(code)).Append(nil, []byte(text))
		}
	})
}
