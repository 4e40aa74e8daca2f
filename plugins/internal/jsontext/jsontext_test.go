package jsontext

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestFind(t *testing.T) {
	tests := []struct{ doc, path, want string }{
		{`{"text":"hello"}`, "text", `"hello"`},
		{` { "a" : 1 , "text" : "x y" } `, "text", `"x y"`},
		{`{"a":{"text":1},"text":2}`, "text", `2`},
		{`{"a":{"text":1},"text":2}`, "a.text", `1`},
		{`{"a":{"b":{"c":[1,{"c":2}]}}}`, "a.b.c", `[1,{"c":2}]`},
		{`{"a":1,"a":2}`, "a", `2`},
		{`{"\u0061b":true}`, "ab", `true`},
		{`{"caf\u00e9":null}`, "café", `null`},
		{`{"\ud83d\ude00":-0.5e+3}`, "😀", `-0.5e+3`},
		{`{"":1}`, "", ``},
		{`{"a":1}`, "b", ``},
		{`{"a":1}`, "a.b", ``},
		{`{"a":{"b":1},"a":3}`, "a.b", ``},
		{`[{"a":1}]`, "a", ``},
		{`"a"`, "a", ``},
	}
	for _, tt := range tests {
		span, found, err := Find([]byte(tt.doc), tt.path)
		if err != nil || found != (tt.want != "") || tt.doc[span.Start:span.End] != tt.want {
			t.Errorf("Find(%s, %s) = %q, %v, want %s", tt.doc, tt.path, tt.doc[span.Start:span.End], err, tt.want)
		}
	}
}

func TestFindNamesThePlace(t *testing.T) {
	tests := []struct {
		doc    string
		offset int
		reason string
	}{
		{``, 0, "ends where a value should be"},
		{`hello`, 0, "no value starts like this"},
		{`{"a":1,}`, 7, "a string in quotes is missing"},
		{`{"a" 1}`, 5, "a colon is missing"},
		{`{"a":1`, 6, "not closed"},
		{`{"a":01}`, 6, "not closed"},
		{`{"a":1.}`, 7, "a digit is missing"},
		{`{"a":"\x"}`, 6, "unknown escape"},
		{"{\"a\":\"\n\"}", 6, "control character"},
		{`{"a":1} x`, 8, "text after the value"},
		{`[1`, 2, "not closed"},
		{strings.Repeat("[", MaxDepth+2), MaxDepth + 1, "nested deeper"},
	}
	for _, tt := range tests {
		_, _, err := Find([]byte(tt.doc), "a")
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || syntax.Offset != tt.offset || !strings.Contains(err.Error(), tt.reason) {
			t.Errorf("Find(%.40s): %v, want %q at %d", tt.doc, err, tt.reason, tt.offset)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	doc := []byte(`{"id":7,"author":{"name":"Ann"},"text":"The \"quoted\" caf\u00e9"}`)
	buf := make([]byte, 0, 256)
	n := testing.AllocsPerRun(100, func() {
		span, found, err := Find(doc, "text")
		if err != nil || !found {
			t.Fatal(found, err)
		}
		buf = AppendText(buf[:0], doc[span.Start:span.End])
		buf = AppendQuoted(buf[:0], buf[:5])
	})
	if n != 0 {
		t.Errorf("%v allocations a document", n)
	}
}

// FuzzFind holds the package against encoding/json: the same documents are valid, the same value is found, and strings
// survive being read and written.
func FuzzFind(f *testing.F) {
	for _, s := range []string{`{"a":"b"}`, `{"a":[1,2,{"a":null}],"a":"\ud83d\ude00\ud83d"}`, `{"a":1e5,"b":"\\\""}`, `{"a":{"a":"x"}}`, "{\"a\":\"\xff\"}", `[]`, `{"a":-0}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		span, found, err := Find(doc, "a")
		var syntax *SyntaxError
		if errors.As(err, &syntax) {
			if json.Valid(doc) && !strings.Contains(syntax.Reason, "nested") {
				t.Fatalf("%q: %v, but it is valid", doc, err)
			}
			return
		}
		if !json.Valid(doc) {
			t.Fatalf("%q is not valid, Find says %v", doc, err)
		}
		var m map[string]json.RawMessage
		if json.Unmarshal(doc, &m) != nil {
			m = nil
		}
		want, ok := m["a"]
		if ok != found {
			t.Fatalf("%q: Find says %v, encoding/json found %q", doc, found, want)
		}
		if !ok {
			return
		}
		got := doc[span.Start:span.End]
		if !bytes.Equal(got, bytes.TrimSpace(want)) {
			t.Fatalf("%q: found %q, want %q", doc, got, want)
		}
		if span.Kind != String || !utf8.Valid(got) {
			return
		}
		var text string
		if err := json.Unmarshal(got, &text); err != nil {
			t.Fatal(err)
		}
		if s := string(AppendText(nil, got)); s != text {
			t.Fatalf("%q reads %q, want %q", got, s, text)
		}
		var again string
		if err := json.Unmarshal(AppendQuoted(nil, []byte(text)), &again); err != nil || again != text {
			t.Fatalf("%q written and read: %q, %v", text, again, err)
		}
	})
}
