// Package jsontext finds and rewrites one field of a JSON document and leaves
// every other byte as it is. It exists because a guest that only needs one field
// should neither carry encoding/json (some 200 KB of module) nor decode and
// re-encode what it does not look at, which would lose number formats, key
// order and duplicate keys.
//
// It accepts exactly the documents that encoding/json accepts, up to MaxDepth
// levels. It allocates nothing but what its callers' buffers need to grow.
package jsontext

import (
	"strconv"
	"unicode/utf8"
	"unsafe"
)

// MaxDepth bounds the nesting of arrays and objects: a guest's stack is small.
const MaxDepth = 200

// SyntaxError is a document that is not JSON.
type SyntaxError struct {
	Offset int // in bytes, of what is wrong
	Reason string
}

// Error implements error.
func (e *SyntaxError) Error() string {
	return "not JSON at byte " + strconv.Itoa(e.Offset) + ": " + e.Reason
}

// Kind is the kind of a JSON value.
type Kind byte

// The kinds of values.
const (
	Null Kind = iota
	Bool
	Number
	String
	Array
	Object
)

// Span is where a value stands in its document: doc[Start:End] is its text, quotes and brackets included.
type Span struct {
	Start, End int
	Kind       Kind
}

// Find checks the whole document and returns where the value of the field stands, if the document has it.
// The path names object keys from the outside in, parted by dots ("author.name"); a key that
// itself contains a dot cannot be reached. Of equal keys the last one counts, as in
// encoding/json. The only error is *SyntaxError.
func Find(doc []byte, path string) (span Span, found bool, err error) {
	p := parser{doc: doc}
	p.space()
	span, found = p.value(path, 0)
	p.space()
	if p.reason == "" && p.at < len(doc) {
		p.fail("text after the value")
	}
	if p.reason != "" {
		return Span{}, false, &SyntaxError{Offset: p.wrong, Reason: p.reason}
	}
	return span, found, nil
}

type parser struct {
	doc    []byte
	at     int
	reason string // what is wrong, set once
	wrong  int    // where
}

func (p *parser) fail(reason string) {
	if p.reason == "" {
		p.reason, p.wrong = reason, p.at
	}
}

// peek returns the byte at the position, 0 at the end (a NUL byte is nowhere allowed outside of strings, nor inside).
func (p *parser) peek() byte {
	if p.at < len(p.doc) {
		return p.doc[p.at]
	}
	return 0
}

func (p *parser) space() {
	for p.at < len(p.doc) {
		switch p.doc[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

// value steps over one value. With a path it also looks for the field in it; an empty path with
// want false looks for nothing.
func (p *parser) value(path string, depth int) (Span, bool) {
	if depth > MaxDepth {
		p.fail("nested deeper than " + strconv.Itoa(MaxDepth) + " levels")
		return Span{}, false
	}
	switch c := p.peek(); {
	case c == '{':
		return p.object(path, depth)
	case c == '[':
		p.array(depth)
	case c == '"':
		p.str()
	case c == '-' || c >= '0' && c <= '9':
		p.number()
	case c == 't':
		p.word("true")
	case c == 'f':
		p.word("false")
	case c == 'n':
		p.word("null")
	case p.at >= len(p.doc):
		p.fail("ends where a value should be")
	default:
		p.fail("no value starts like this")
	}
	return Span{}, false
}

func (p *parser) object(path string, depth int) (found Span, ok bool) {
	name, rest := cut(path)
	p.at++
	p.space()
	if p.peek() == '}' {
		p.at++
		return Span{}, false
	}
	for p.reason == "" {
		key := p.at
		p.str()
		keyEnd := p.at
		p.space()
		if p.peek() != ':' {
			p.fail("a colon is missing after a key")
			break
		}
		p.at++
		p.space()
		wanted := p.reason == "" && path != "" && equalKey(p.doc[key:keyEnd], name)
		inner := ""
		if wanted {
			inner = rest
		}
		start, kind := p.at, kindOf(p.peek())
		sub, subOK := p.value(inner, depth+1)
		switch {
		case wanted && rest == "":
			found, ok = Span{Start: start, End: p.at, Kind: kind}, true
		case wanted:
			found, ok = sub, subOK
		}
		p.space()
		switch p.peek() {
		case ',':
			p.at++
			p.space()
		case '}':
			p.at++
			return found, ok
		default:
			p.fail("an object is not closed")
		}
	}
	return Span{}, false
}

func (p *parser) array(depth int) {
	p.at++
	p.space()
	if p.peek() == ']' {
		p.at++
		return
	}
	for p.reason == "" {
		p.value("", depth+1)
		p.space()
		switch p.peek() {
		case ',':
			p.at++
			p.space()
		case ']':
			p.at++
			return
		default:
			p.fail("an array is not closed")
		}
	}
}

func (p *parser) str() {
	if p.peek() != '"' {
		p.fail("a string in quotes is missing")
		return
	}
	for i := p.at + 1; i < len(p.doc); i++ {
		switch c := p.doc[i]; {
		case c == '"':
			p.at = i + 1
			return
		case c < ' ':
			p.at = i
			p.fail("a control character in a string")
			return
		case c == '\\':
			n := escapeLen(p.doc[i:])
			if n == 0 {
				p.at = i
				p.fail("an unknown escape in a string")
				return
			}
			i += n - 1
		}
	}
	p.at = len(p.doc)
	p.fail("a string is not closed")
}

func (p *parser) number() {
	if p.peek() == '-' {
		p.at++
	}
	switch c := p.peek(); {
	case c == '0':
		p.at++
	case c >= '1' && c <= '9':
		p.digits()
	default:
		p.fail("a digit is missing")
		return
	}
	if p.peek() == '.' {
		p.at++
		p.needDigits()
	}
	if c := p.peek(); c == 'e' || c == 'E' {
		p.at++
		if c := p.peek(); c == '+' || c == '-' {
			p.at++
		}
		p.needDigits()
	}
}

func (p *parser) needDigits() {
	before := p.at
	p.digits()
	if p.at == before {
		p.fail("a digit is missing")
	}
}

func (p *parser) digits() {
	for c := p.peek(); c >= '0' && c <= '9'; c = p.peek() {
		p.at++
	}
}

func (p *parser) word(w string) {
	if len(p.doc)-p.at < len(w) || view(p.doc[p.at:p.at+len(w)]) != w {
		p.fail("no value starts like this")
		return
	}
	p.at += len(w)
}

func kindOf(c byte) Kind {
	switch c {
	case '{':
		return Object
	case '[':
		return Array
	case '"':
		return String
	case 't', 'f':
		return Bool
	case 'n':
		return Null
	}
	return Number
}

// cut parts a path at its first dot.
func cut(path string) (name, rest string) {
	for i := 0; i < len(path); i++ {
		if path[i] == '.' {
			return path[:i], path[i+1:]
		}
	}
	return path, ""
}

// equalKey compares a key as it stands in a document, with quotes, to a name.
func equalKey(quoted []byte, name string) bool {
	body := quoted[1 : len(quoted)-1]
	if len(body) == len(name) {
		return view(body) == name // an escape is longer than what it stands for, so equal lengths mean plain text
	}
	if len(body) < len(name) {
		return false
	}
	var buf [utf8.UTFMax]byte
	for i := 0; i < len(body); {
		n, size := unescape(body[i:], &buf)
		if n > len(name) || view(buf[:n]) != name[:n] {
			return false
		}
		name = name[n:]
		i += size
	}
	return name == ""
}

// view returns the bytes of b as a string without copying them. TinyGo copies in every string(b), even in a comparison.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// AppendText appends what a JSON string says to dst. quoted is the text of a span of kind String.
// Half a surrogate pair becomes U+FFFD, as in encoding/json; bytes that are not UTF-8 stay as they are.
func AppendText(dst, quoted []byte) []byte {
	if len(quoted) < 2 {
		return dst
	}
	body := quoted[1 : len(quoted)-1]
	var buf [utf8.UTFMax]byte
	for i := 0; i < len(body); {
		if body[i] != '\\' {
			j := i + 1
			for j < len(body) && body[j] != '\\' {
				j++
			}
			dst = append(dst, body[i:j]...)
			i = j
			continue
		}
		n, size := unescape(body[i:], &buf)
		dst = append(dst, buf[:n]...)
		i += size
	}
	return dst
}

// AppendQuoted appends text as a JSON string with its quotes to dst. Only what JSON demands is escaped.
// Bytes that are not UTF-8 become U+FFFD: JSON cannot hold them.
func AppendQuoted(dst, text []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := 0; i < len(text); {
		c := text[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRune(text[i:])
			dst = utf8.AppendRune(dst, r) // RuneError is U+FFFD
			i += size
			continue
		}
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
		i++
	}
	return append(dst, '"')
}
