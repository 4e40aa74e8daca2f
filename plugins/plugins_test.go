package plugins

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestList(t *testing.T) {
	list, err := List()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range list {
		got = append(got, p.Name)
		if !regexp.MustCompile(`^\d+\.\d+\.\d+$`).MatchString(p.Version) || p.Description == "" {
			t.Errorf("%s: version %q, description %q", p.Name, p.Version, p.Description)
		}
		for _, c := range p.Config {
			if c.Name == "" || c.Description == "" || c.Default != "" && len(c.Values) > 0 && !slices.Contains(c.Values, c.Default) {
				t.Errorf("%s: config key %+v", p.Name, c)
			}
		}
		for _, part := range append(p.Assets, p.Outputs...) {
			if part.Name == "" || part.Description == "" {
				t.Errorf("%s: %+v", p.Name, part)
			}
		}
	}
	for _, name := range []string{"filter", "route", "translate", "upper"} {
		if !slices.Contains(got, name) {
			t.Errorf("%s is missing in %v", name, got)
		}
	}
	if !slices.IsSorted(got) {
		t.Errorf("not ordered: %v", got)
	}
}

// TestComplete: every plugin has what plugins/README.md says, and its README names every config key.
func TestComplete(t *testing.T) {
	list, err := List()
	if err != nil {
		t.Fatal(err)
	}
	index, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		readme, err := os.ReadFile(filepath.Join(p.Name, "README.md"))
		if err != nil {
			t.Error(err)
		}
		for _, c := range p.Config {
			if !bytes.Contains(readme, []byte("`"+c.Name+"`")) {
				t.Errorf("%s/README.md says nothing about config %s", p.Name, c.Name)
			}
		}
		if cases, _ := filepath.Glob(filepath.Join(p.Name, "testdata/cases/*.yaml")); len(cases) == 0 {
			t.Errorf("%s has no cases", p.Name)
		}
		if !strings.Contains(string(index), "("+p.Name+"/README.md)") {
			t.Errorf("README.md does not list %s", p.Name)
		}
	}
}

func TestOpen(t *testing.T) {
	if _, err := Open("nothing"); !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "translate") {
		t.Errorf("Open(nothing): %v", err)
	}
	if _, err := Open("../plugins/upper"); !errors.Is(err, ErrUnknown) {
		t.Errorf("Open of a path: %v", err)
	}
	list, err := List()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		b, err := Open(p.Name)
		switch {
		case p.Built && (err != nil || !bytes.HasPrefix(b, []byte("\x00asm"))):
			t.Errorf("Open(%s): %v, %d bytes", p.Name, err, len(b))
		case !p.Built && (!errors.Is(err, ErrNotBuilt) || !strings.Contains(err.Error(), "make plugins")):
			t.Errorf("Open(%s): %v", p.Name, err)
		}
	}
}
