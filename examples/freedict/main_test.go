package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millstream-io/millstream/plugins/translate/phrasebook"
)

func convert(t *testing.T, index, dict, base string) (glossary, report string) {
	t.Helper()
	var out, err strings.Builder
	if e := run(index, dict, base, &out, &err); e != nil {
		t.Fatal(e)
	}
	return out.String(), err.String()
}

func TestConvert(t *testing.T) {
	got, report := convert(t, "testdata/tiny.index", "testdata/tiny.dict.dz", "testdata/base.tsv")
	want := "house\tcasa\tf\nthe\tel|la|los|las\tdet\narm\tbrazo\nice cream\thelado\nMonday\tlunes\nzucchini\tcalabacín\nof course\tpor supuesto\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if want := "2 entries of the base, 5 of the dictionary; left out: 2 that are there already, 1 that no text can match\n"; report != want {
		t.Errorf("got %q, want %q", report, want)
	}
	translates(t, got, "Of course: the house, ice cream and zucchini!", "Por supuesto: la casa, helado and calabacín!")
}

func translates(t *testing.T, glossary, in, want string) {
	t.Helper()
	g, err := phrasebook.Parse(glossary)
	if err != nil {
		t.Fatal(err)
	}
	if out, _ := phrasebook.New(g, phrasebook.LanguageOf("es")).Append(nil, []byte(in)); string(out) != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

// TestDebian converts the dictionary of the Debian package, where it is installed.
func TestDebian(t *testing.T) {
	const index, dict = "/usr/share/dictd/freedict-eng-spa.index", "/usr/share/dictd/freedict-eng-spa.dict.dz"
	if _, err := os.Stat(dict); err != nil {
		t.Skip("the package dict-freedict-eng-spa is not installed")
	}
	got, report := convert(t, index, dict, "../../plugins/translate/glossary/en-es.tsv")
	t.Log(report)
	if n := strings.Count(got, "\n"); n < 8000 {
		t.Errorf("%d entries", n)
	}
	translates(t, got, "An old army, a good aroma", "Un viejo ejército, un buen olor")
}

func TestBadInput(t *testing.T) {
	write := func(name, text string) string {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	tests := []struct{ name, index, dict, want string }{
		{"no files", "", "", "give -index FILE"},
		{"a missing file", "testdata/none", "testdata/tiny.dict.dz", "no such file"},
		{"a broken index", write("x.index", "arm\tA\n"), "testdata/tiny.dict.dz", "line 1"},
		{"a bad number", write("x.index", "arm\tA\t!\n"), "testdata/tiny.dict.dz", "line 1"},
		{"beyond the end", write("x.index", "arm\tA\t///\n"), "testdata/tiny.dict.dz", "behind the end"},
		{"a cut dictionary", "testdata/tiny.index", write("x.dict.dz", "\x1f\x8b\x08\x00"), "x.dict.dz"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			if err := run(tt.index, tt.dict, "", &out, &out); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}
