// Filter keeps or drops records by their value, key, a header or a field of a
// JSON value. See README.md.
package main

import (
	"bytes"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"unsafe"

	"github.com/millstream-io/millstream/plugins/internal/subject"
	"github.com/millstream-io/millstream/sdk/go/transform"
)

func init() {
	f := &filter{}
	transform.OnSetup(f.setup)
	transform.OnRecord(f.record)
}

func main() {}

// filter is the state of one instance.
type filter struct {
	on         *subject.Subject
	drop       bool
	invalid    string // what to do with a value that is not JSON
	conditions []condition
}

// condition is one test of the subject's text; found is false where the record has no such part.
type condition func(text []byte, found bool) bool

func (f *filter) setup(s *transform.Setup) error {
	on, err := subject.Parse(s.ConfigOr("on", "value"))
	if err != nil {
		return err
	}
	*f = filter{on: on}
	if f.drop, err = either(s, "mode", "keep", "drop"); err != nil {
		return err
	}
	f.invalid = s.ConfigOr("invalid", "reject")
	if f.invalid != "reject" && f.invalid != "keep" && f.invalid != "drop" {
		return errors.New("config invalid=" + f.invalid + ": must be reject, keep or drop")
	}
	return f.addConditions(s)
}

// either reads a config value that is one of two words; it reports whether it is the second. The first is the default.
func either(s *transform.Setup, name, first, second string) (bool, error) {
	switch v := s.ConfigOr(name, first); v {
	case first:
		return false, nil
	case second:
		return true, nil
	default:
		return false, errors.New("config " + name + "=" + v + ": must be " + first + " or " + second)
	}
}

func (f *filter) addConditions(s *transform.Setup) error {
	if want, ok := s.LookupConfig("equals"); ok {
		f.add(func(text []byte, found bool) bool { return found && view(text) == want })
	}
	if part, ok := s.LookupConfig("contains"); ok {
		f.add(func(text []byte, found bool) bool { return found && strings.Contains(view(text), part) })
	}
	if prefix, ok := s.LookupConfig("prefix"); ok {
		f.add(func(text []byte, found bool) bool { return found && strings.HasPrefix(view(text), prefix) })
	}
	if pattern, ok := s.LookupConfig("matches"); ok {
		re, err := regexp.Compile(pattern)
		if err != nil {
			return errors.New("config matches=" + pattern + ": " + err.Error())
		}
		f.add(func(text []byte, found bool) bool { return found && re.Match(text) })
	}
	if _, ok := s.LookupConfig("exists"); ok {
		want, err := either(s, "exists", "false", "true")
		if err != nil {
			return err
		}
		f.add(func(_ []byte, found bool) bool { return found == want })
	}
	for _, name := range []string{"above", "below"} {
		limit, ok := s.LookupConfig(name)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(limit, 64)
		if err != nil || n != n {
			return errors.New("config " + name + "=" + limit + ": must be a number")
		}
		f.add(compare(name == "above", n))
	}
	if len(f.conditions) == 0 {
		return errors.New("no condition: give at least one of equals, contains, prefix, matches, exists, above, below")
	}
	return nil
}

func (f *filter) add(c condition) { f.conditions = append(f.conditions, c) }

// compare returns a condition that the text is a number above or below a limit.
func compare(above bool, limit float64) condition {
	return func(text []byte, found bool) bool {
		text = bytes.TrimSpace(text)
		if !found || !numeric(text) {
			return false
		}
		n, err := strconv.ParseFloat(view(text), 64)
		if err != nil {
			return false
		}
		if above {
			return n > limit
		}
		return n < limit
	}
}

// numeric reports whether text can be a decimal number. It keeps hexadecimal, inf and nan out, and spares the error for ordinary words.
func numeric(text []byte) bool {
	for _, c := range text {
		if (c < '0' || c > '9') && c != '-' && c != '+' && c != '.' && c != 'e' && c != 'E' {
			return false
		}
	}
	return len(text) > 0
}

func (f *filter) record(c *transform.Context, r transform.Record) error {
	text, found, err := f.on.Text(r)
	if err != nil {
		switch f.invalid {
		case "reject":
			return err
		case "keep":
			c.Emit(r)
		}
		return nil
	}
	holds := true
	for _, condition := range f.conditions {
		holds = holds && condition(text, found)
	}
	if holds != f.drop {
		c.Emit(r)
	}
	return nil
}

// view returns the bytes of b as a string without copying them. TinyGo copies in every string(b), even in a comparison.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
