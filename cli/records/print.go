package records

import (
	"bufio"
	"encoding/json"
	"strings"

	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/twmb/franz-go/pkg/kgo"
)

// printer writes records in the form that the flags ask for.
type printer struct {
	out        *bufio.Writer
	json       *json.Encoder
	separator  string
	keys       bool
	headers    bool
	timestamps bool
	escape     bool
}

func newPrinter(o *consumeOptions, out *bufio.Writer) *printer {
	p := &printer{
		out: out, separator: strings.ReplaceAll(o.keySeparator, `\t`, "\t"), keys: o.keys || o.keySeparator != "",
		headers: o.headers, timestamps: o.timestamps, escape: o.env.OutTerminal,
	}
	if p.keys && p.separator == "" {
		p.separator = "\t"
	}
	if o.env.JSON {
		p.json = json.NewEncoder(out)
		p.json.SetEscapeHTML(false)
	}
	return p
}

func (p *printer) print(r *kgo.Record) error {
	if p.json != nil {
		return p.json.Encode(newDocument(r))
	}
	if p.timestamps {
		p.out.WriteString(r.Timestamp.UTC().Format(timestampLayout))
		p.out.WriteByte('\t')
	}
	if p.headers {
		for i, h := range r.Headers {
			if i > 0 {
				p.out.WriteByte(',')
			}
			p.bytes([]byte(h.Key))
			p.out.WriteByte('=')
			p.bytes(h.Value)
		}
		p.out.WriteByte('\t')
	}
	if p.keys {
		p.bytes(r.Key)
		p.out.WriteString(p.separator)
	}
	p.bytes(r.Value)
	return p.out.WriteByte('\n')
}

func (p *printer) bytes(b []byte) {
	if p.escape {
		b = terminal.Escape(b)
	}
	p.out.Write(b)
}
