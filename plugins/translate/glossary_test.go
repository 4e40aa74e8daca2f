package main

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/millstream-io/millstream/plugins/translate/phrasebook"
)

// TestEveryEntry: every entry of the built-in glossaries is found by its source, and says one of its forms.
func TestEveryEntry(t *testing.T) {
	for code, text := range map[string]string{"es": spanish, "fr": french} {
		g, err := phrasebook.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		tr := phrasebook.New(g, phrasebook.LanguageOf(code))
		for _, line := range strings.Split(text, "\n") {
			source, rest, ok := strings.Cut(line, "\t")
			if !ok || strings.HasPrefix(line, "#") {
				continue
			}
			target, _, _ := strings.Cut(rest, "\t")
			out, unknown := tr.Append(nil, []byte(source))
			if unknown != 0 || !slices.Contains(strings.Split(strings.ToLower(target), "|"), strings.ToLower(string(out))) {
				t.Errorf("en-%s: %q gives %q, %d unknown; want %q", code, source, out, unknown, target)
			}
		}
	}
}

// TestGlossaries keeps the built-in glossaries in order, so that an entry is found by eye and a change is one line.
func TestGlossaries(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		atLeast    int
	}{{"en-es", spanish, 1500}, {"en-fr", french, 400}} {
		t.Run(tt.name, func(t *testing.T) {
			g, err := phrasebook.Parse(tt.text) // refuses duplicates, unknown classes, wrong forms, what is not UTF-8
			if err != nil {
				t.Fatal(err)
			}
			if g.Len() < tt.atLeast {
				t.Errorf("%d entries, want at least %d", g.Len(), tt.atLeast)
			}
			var sources []string
			for i, line := range strings.Split(strings.TrimSuffix(tt.text, "\n"), "\n") {
				if strings.HasPrefix(line, "#") {
					continue
				}
				source, target, _ := strings.Cut(line, "\t")
				sources = append(sources, strings.ToLower(source))
				for _, bad := range []string{"\r", "  ", "�", "Ã", "¿", "?", "!", " \t", "\t "} {
					if strings.Contains(line, bad) {
						t.Errorf("line %d holds %q: %s", i+1, bad, line)
					}
				}
				for _, r := range source + target {
					if r < 0x20 && r != '\t' || r > 0x17f || r == utf8.RuneError {
						t.Errorf("line %d holds %q: %s", i+1, r, line)
					}
				}
			}
			for i := 1; i < len(sources); i++ {
				if sources[i-1] >= sources[i] {
					t.Errorf("%q stands behind %q", sources[i], sources[i-1])
				}
			}
			if !slices.Contains(sources, "good morning") {
				t.Error("no good morning")
			}
		})
	}
}
