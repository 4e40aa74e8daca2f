// Route sends each record to the output that one of its parts names. See README.md.
package main

import (
	"errors"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/millstream-io/millstream/plugins/internal/subject"
	"github.com/millstream-io/millstream/sdk/go/transform"
)

func init() {
	r := &router{}
	transform.OnSetup(r.setup)
	transform.OnRecord(r.record)
}

func main() {}

// defaultOther need not be bound to a topic; an output that is asked for by name must be.
const defaultOther = "other"

// router is the state of one instance.
type router struct {
	on          *subject.Subject
	outputs     []string
	fallback    transform.Output
	hasFallback bool
}

func (r *router) setup(s *transform.Setup) error {
	value, ok := s.LookupConfig("on")
	if !ok {
		return errors.New("config on is missing: what names the output, key, value, header:NAME or field:PATH")
	}
	on, err := subject.Parse(value)
	if err != nil {
		return err
	}
	*r = router{on: on, outputs: s.Outputs()}
	name := s.ConfigOr("other", defaultOther)
	r.fallback, err = s.Output(name)
	r.hasFallback = err == nil
	if err != nil && name != defaultOther {
		return errors.New("config other=" + name + ": " + err.Error())
	}
	return nil
}

func (r *router) record(c *transform.Context, in transform.Record) error {
	text, found, err := r.on.Text(in)
	if err != nil && !r.hasFallback {
		return err
	}
	if err == nil && found {
		name := unsafe.String(unsafe.SliceData(text), len(text))
		for i, output := range r.outputs {
			if output == name {
				c.EmitTo(transform.Output(i), in)
				return nil
			}
		}
		if !r.hasFallback {
			return errors.New("no output is named " + shortened(name))
		}
	}
	if !r.hasFallback {
		return errors.New("the record names no output")
	}
	c.EmitTo(r.fallback, in)
	return nil
}

// shortened makes any text one that a message can bear: valid, and no longer than 60 bytes.
func shortened(s string) string {
	most := 60
	if len(s) > most {
		for most > 0 && !utf8.RuneStart(s[most]) {
			most--
		}
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "�")
}
