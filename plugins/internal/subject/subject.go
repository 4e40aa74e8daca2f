// Package subject picks the part of a record that a plugin's config key "on"
// names: the value, the key, a header or a field of a JSON value. It allocates
// nothing per record once its buffer has grown.
package subject

import (
	"errors"
	"strings"

	"github.com/millstream-io/millstream/plugins/internal/jsontext"
	"github.com/millstream-io/millstream/sdk/go/transform"
)

// Subject is a parsed config value. It belongs to one instance of a plugin.
type Subject struct {
	part string // "value", "key", "header" or "field"
	name string // of the header, or the path of the field
	text []byte // what a field's string says
}

// Parse reads "value", "key", "header:NAME" or "field:PATH".
func Parse(on string) (*Subject, error) {
	part, name, named := strings.Cut(on, ":")
	switch part {
	case "value", "key":
		if !named {
			return &Subject{part: part}, nil
		}
	case "header", "field":
		if name != "" {
			return &Subject{part: part, name: name}, nil
		}
	}
	return nil, errors.New("config on=" + on + ": must be value, key, header:NAME or field:PATH (field:author.name reaches inside)")
}

// Text returns what the record says there. found is false where it says nothing: a null, a header or field that is not there. The text
// of a field is what its string says, or the JSON of anything else; a JSON null is found as "null". The error is
// a value that is not JSON. The text is valid until the next call.
func (s *Subject) Text(r transform.Record) (text []byte, found bool, err error) {
	switch s.part {
	case "key":
		return r.Key, r.Key != nil, nil
	case "header":
		v, _ := r.Headers.Get(s.name)
		return v, v != nil, nil
	case "value":
		return r.Value, r.Value != nil, nil
	}
	if r.Value == nil {
		return nil, false, nil
	}
	span, found, err := jsontext.Find(r.Value, s.name)
	if err != nil || !found {
		return nil, false, err
	}
	text = r.Value[span.Start:span.End]
	if span.Kind == jsontext.String {
		s.text = jsontext.AppendText(s.text[:0], text)
		text = s.text
	}
	return text, true, nil
}
