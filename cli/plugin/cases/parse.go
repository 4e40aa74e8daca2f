// Package cases runs the test cases of a plugin: YAML files that say what
// comes out when records go in (plugins/README.md describes the format). They
// run in the production host, with its limits, and without a broker.
package cases

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"
)

// Case is one document of a case file.
type Case struct {
	File    string
	Line    int
	Name    string
	Config  map[string]string
	Assets  map[string]string // asset name → path, relative to the case file's directory
	Outputs []string          // nil: those of the manifest
	Now     time.Time
	Input   []Record
	Output  map[string][]Record
	Rejects []Reject
	Error   string // "": setup must succeed
}

// Record is a record as a case gives or expects it. Nil and empty bytes differ.
type Record struct {
	Key       []byte
	Value     []byte
	Headers   []Header
	Timestamp *time.Time // nil: the default
}

// Header is one record header; a nil value is null.
type Header struct {
	Name  string
	Value []byte
}

// Reject is an expected verdict.
type Reject struct {
	Input  int
	Reason string // contained in the guest's reason
}

// defaultNow is the clock of cases that do not set one.
var defaultNow = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Load reads all case files of a directory, in the order of their names.
// Errors name file and line.
func Load(dir string) ([]Case, error) {
	var files []string
	for _, pattern := range []string{"*.yaml", "*.yml"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	var all []Case
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		parsed, err := Parse(file, content)
		if err != nil {
			return nil, err
		}
		all = append(all, parsed...)
	}
	return all, nil
}

// Parse reads the documents of one file.
func Parse(file string, content []byte) ([]Case, error) {
	d := yaml.NewDecoder(bytes.NewReader(content))
	var out []Case
	for n := 1; ; n++ {
		var doc yaml.Node
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if len(doc.Content) == 0 || isNull(doc.Content[0]) {
			continue
		}
		p := parser{file: file}
		c := p.document(doc.Content[0])
		if p.err != nil {
			return nil, p.err
		}
		if c.Name == "" {
			c.Name = filepath.Base(file) + " " + strconv.Itoa(n)
		}
		out = append(out, c)
	}
}

// parser keeps the first error.
type parser struct {
	file string
	err  error
}

func (p *parser) fail(n *yaml.Node, format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("%s:%d: %s", p.file, n.Line, fmt.Sprintf(format, args...))
	}
}

func (p *parser) document(n *yaml.Node) Case {
	c := Case{File: p.file, Line: n.Line, Now: defaultNow}
	given := map[string]bool{}
	p.mapping(n, "a case", func(key string, v *yaml.Node) bool {
		given[key] = true
		switch key {
		case "name":
			c.Name = string(p.scalar(v, "name"))
		case "config":
			c.Config = p.pairs(v, "config")
		case "assets":
			c.Assets = p.pairs(v, "assets")
		case "outputs":
			p.sequence(v, "outputs", func(item *yaml.Node) { c.Outputs = append(c.Outputs, string(p.scalar(item, "an output's name"))) })
		case "now":
			c.Now = p.time(v)
		case "input":
			p.sequence(v, "input", func(item *yaml.Node) { c.Input = append(c.Input, p.record(item)) })
		case "output":
			c.Output = p.outputs(v)
		case "rejects":
			p.sequence(v, "rejects", func(item *yaml.Node) { c.Rejects = append(c.Rejects, p.reject(item)) })
		case "error":
			c.Error = string(p.scalar(v, "error"))
		default:
			return false
		}
		return true
	})
	p.check(n, &c, given)
	return c
}

// check applies the rules about what goes together.
func (p *parser) check(n *yaml.Node, c *Case, given map[string]bool) {
	switch {
	case given["error"] && c.Error == "":
		p.fail(n, "error is empty: write a part of the message that setup must fail with")
	case given["error"] && (given["input"] || given["output"] || given["rejects"]):
		p.fail(n, "a case with error has no input, output or rejects: setup fails before any record")
	case !given["error"] && !given["output"] && !given["rejects"]:
		p.fail(n, "the case expects nothing: give output, rejects or error; that nothing comes out is written output: {}")
	}
	last := -1
	for _, r := range c.Rejects {
		if r.Input <= last || r.Input >= len(c.Input) {
			p.fail(n, "rejects names input %d: they are numbered 0 to %d and must ascend", r.Input, len(c.Input)-1)
		}
		last = r.Input
	}
	for name := range c.Output {
		if c.Outputs != nil && !contains(c.Outputs, name) {
			p.fail(n, "output %q is not among the bound outputs %q", name, c.Outputs)
		}
	}
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

func (p *parser) outputs(n *yaml.Node) map[string][]Record {
	out := map[string][]Record{}
	p.mapping(n, "output", func(name string, v *yaml.Node) bool {
		out[name] = []Record{}
		p.sequence(v, "output "+name, func(item *yaml.Node) { out[name] = append(out[name], p.record(item)) })
		return true
	})
	return out
}

func (p *parser) record(n *yaml.Node) Record {
	n = resolve(n)
	if n.Kind == yaml.ScalarNode {
		return Record{Value: p.scalar(n, "a record")}
	}
	var r Record
	p.mapping(n, "a record", func(key string, v *yaml.Node) bool {
		switch key {
		case "key":
			r.Key = p.scalar(v, "key")
		case "value":
			r.Value = p.scalar(v, "value")
		case "headers":
			p.sequence(v, "headers", func(item *yaml.Node) { r.Headers = append(r.Headers, p.header(item)) })
		case "timestamp":
			t := p.time(v)
			r.Timestamp = &t
		default:
			return false
		}
		return true
	})
	return r
}

func (p *parser) header(n *yaml.Node) Header {
	n = resolve(n)
	if n.Kind != yaml.MappingNode || len(n.Content) != 2 {
		p.fail(n, "a header is one name and one value: - name: value")
		return Header{}
	}
	return Header{Name: n.Content[0].Value, Value: p.scalar(n.Content[1], "a header's value")}
}

func (p *parser) reject(n *yaml.Node) Reject {
	var r Reject
	seen := false
	p.mapping(n, "a reject", func(key string, v *yaml.Node) bool {
		switch key {
		case "input":
			i, err := strconv.Atoi(string(p.scalar(v, "input")))
			if err != nil {
				p.fail(v, "input is the place of a record in input: 0, 1, 2, …")
			}
			r.Input, seen = i, true
		case "reason":
			r.Reason = string(p.scalar(v, "reason"))
		default:
			return false
		}
		return true
	})
	if !seen {
		p.fail(n, "a reject needs input: the place of the record in input")
	}
	return r
}

// mapping walks the pairs of a mapping; f returns false for a key that it does not know.
func (p *parser) mapping(n *yaml.Node, what string, f func(key string, v *yaml.Node) bool) {
	n = resolve(n)
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		p.fail(n, "%s must be a mapping", what)
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if seen[key.Value] {
			p.fail(key, "%s has %q twice", what, key.Value)
		}
		seen[key.Value] = true
		if !f(key.Value, n.Content[i+1]) {
			p.fail(key, "%s has no %q", what, key.Value)
		}
	}
}

func (p *parser) sequence(n *yaml.Node, what string, f func(*yaml.Node)) {
	n = resolve(n)
	if isNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		p.fail(n, "%s must be a list", what)
		return
	}
	for _, item := range n.Content {
		f(item)
	}
}

func (p *parser) pairs(n *yaml.Node, what string) map[string]string {
	out := map[string]string{}
	p.mapping(n, what, func(key string, v *yaml.Node) bool {
		out[key] = string(p.scalar(v, what+" "+key))
		return true
	})
	return out
}

// scalar returns a scalar's bytes as they are written; null is nil.
func (p *parser) scalar(n *yaml.Node, what string) []byte {
	n = resolve(n)
	switch {
	case n.Kind != yaml.ScalarNode:
		p.fail(n, "%s must be a scalar; write JSON in quotes, '{\"n\":1}'", what)
		return nil
	case isNull(n):
		return nil
	case n.Tag == "!!binary":
		var s string
		if err := n.Decode(&s); err != nil {
			p.fail(n, "%s: %v", what, err)
		}
		return []byte(s)
	}
	return []byte(n.Value)
}

func (p *parser) time(n *yaml.Node) time.Time {
	s := string(p.scalar(n, "a time"))
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		p.fail(n, "%q is not an RFC 3339 time such as 2026-01-01T00:00:00Z", s)
	}
	return t
}

func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }
