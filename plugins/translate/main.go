// Translate translates text events with a glossary: a phrasebook, not a
// language model. See README.md.
package main

import (
	_ "embed"
	"errors"
	"strconv"
	"unsafe"

	"github.com/millstream-io/millstream/plugins/internal/jsontext"
	"github.com/millstream-io/millstream/plugins/translate/phrasebook"
	"github.com/millstream-io/millstream/sdk/go/transform"
)

// UnknownHeader says how many words of a text the glossary does not have.
const UnknownHeader = "millstream-translate-unknown"

//go:embed glossary/en-es.tsv
var spanish string

//go:embed glossary/en-fr.tsv
var french string

// plugin is the state of one instance. Its buffers are used again for every record.
type plugin struct {
	translator *phrasebook.Translator
	field      string // of a JSON value; empty: the value is the text
	text       []byte // what the field says
	target     []byte // its translation
	value      []byte // the value that is emitted
	count      []byte
}

func init() {
	p := &plugin{}
	transform.OnSetup(p.setup)
	transform.OnRecord(p.record)
}

func main() {}

func (p *plugin) setup(s *transform.Setup) error {
	*p = plugin{field: s.Config("field"), value: make([]byte, 0, 1024)} // never nil: an empty value is not null
	to := s.Config("to")
	if to == "" {
		return errors.New("config to is missing: the target language, to=es or to=fr, or another with an asset glossary")
	}
	if from := s.ConfigOr("from", "en"); from != "en" {
		return errors.New("config from=" + from + ": only English texts can be translated, from=en")
	}
	text, err := glossary(s, to)
	if err != nil {
		return err
	}
	g, err := phrasebook.Parse(text)
	if err != nil {
		return err
	}
	p.translator = phrasebook.New(g, phrasebook.LanguageOf(to))
	s.Log(transform.LevelInfo, "glossary en-"+to+": "+strconv.Itoa(g.Len())+" entries")
	return nil
}

// glossary returns the asset's text or the built-in one. Assets stay valid and unchanged.
func glossary(s *transform.Setup, to string) (string, error) {
	if asset, ok := s.Asset("glossary"); ok {
		return unsafe.String(unsafe.SliceData(asset), len(asset)), nil
	}
	switch to {
	case "es":
		return spanish, nil
	case "fr":
		return french, nil
	}
	return "", errors.New("config to=" + to + ": there is no built-in glossary en-" + to + ": use to=es or to=fr, or give a glossary, --asset glossary=FILE.tsv")
}

func (p *plugin) record(c *transform.Context, r transform.Record) error {
	unknown := 0
	switch {
	case r.Value == nil: // a tombstone says nothing, and must reach whoever deletes by it
	case p.field != "":
		n, err := p.translateField(r.Value)
		if err != nil {
			return err
		}
		r.Value, unknown = p.value, n
	default:
		p.value, unknown = p.translator.Append(p.value[:0], r.Value)
		r.Value = p.value
	}
	p.count = strconv.AppendInt(p.count[:0], int64(unknown), 10)
	r.Headers.Set(UnknownHeader, p.count)
	c.Emit(r)
	return nil
}

// translateField makes p.value the document with the translation in the place of the field's text. The rest of the document
// stays as it is, byte for byte.
func (p *plugin) translateField(document []byte) (unknown int, err error) {
	span, found, err := jsontext.Find(document, p.field)
	if err != nil {
		return 0, err
	}
	if !found {
		return 0, errors.New("the value has no field " + p.field)
	}
	if span.Kind != jsontext.String {
		return 0, errors.New("field " + p.field + " is no string")
	}
	p.text = jsontext.AppendText(p.text[:0], document[span.Start:span.End])
	p.target, unknown = p.translator.Append(p.target[:0], p.text)
	p.value = append(p.value[:0], document[:span.Start]...)
	p.value = jsontext.AppendQuoted(p.value, p.target)
	p.value = append(p.value, document[span.End:]...)
	return unknown, nil
}
