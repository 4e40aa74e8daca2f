package cases

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	got, err := Parse("a.yaml", []byte(`
name: everything
config: {to: es, n: 042}
assets: {glossary: ../words.tsv}
outputs: [out, other]
now: 2026-02-03T04:05:06Z
input:
  - short
  - key: 42
    value: !!binary aGVsbG8=
    headers:
      - a: 1
      - a: null
      - b: ""
    timestamp: 2026-03-02T08:15:00Z
  - value: ~
  - ""
output:
  out:
    - true
rejects:
  - input: 2
    reason: why
  - input: 3
---
error: no glossary
---
output: {}
`))
	if err != nil {
		t.Fatal(err)
	}
	stamp := time.Date(2026, 3, 2, 8, 15, 0, 0, time.UTC)
	want := []Case{
		{
			File: "a.yaml", Line: 2, Name: "everything",
			Config: map[string]string{"to": "es", "n": "042"}, Assets: map[string]string{"glossary": "../words.tsv"},
			Outputs: []string{"out", "other"}, Now: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC),
			Input: []Record{
				{Value: []byte("short")},
				{Key: []byte("42"), Value: []byte("hello"), Timestamp: &stamp, Headers: []Header{{"a", []byte("1")}, {"a", nil}, {"b", []byte{}}}},
				{},
				{Value: []byte{}},
			},
			Output:  map[string][]Record{"out": {{Value: []byte("true")}}},
			Rejects: []Reject{{Input: 2, Reason: "why"}, {Input: 3}},
		},
		{File: "a.yaml", Line: 26, Name: "a.yaml 2", Now: defaultNow, Error: "no glossary"},
		{File: "a.yaml", Line: 28, Name: "a.yaml 3", Now: defaultNow, Output: map[string][]Record{}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestParseRefuses(t *testing.T) {
	for doc, want := range map[string]string{
		"input: [a]":                           "a.yaml:1: the case expects nothing",
		"ouput: {}":                            `a case has no "ouput"`,
		"output: {}\ninput:\n  - {vlaue: x}":   `a.yaml:3: a record has no "vlaue"`,
		"output: {}\ninput: [{value: {a: 1}}]": "must be a scalar",
		"output: {}\ninput: x":                 "input must be a list",
		"error: x\noutput: {}":                 "a case with error has no",
		"error:":                               "error is empty",
		"rejects: [{input: 0}]":                "rejects names input 0",
		"input: [a, b]\nrejects: [{input: 1}, {input: 0}]": "must ascend",
		"input: [a]\nrejects: [{reason: x}]":               "a reject needs input",
		"input: [a]\nrejects: [{input: x}]":                "input is the place",
		"outputs: [a]\noutput: {b: [x]}":                   `output "b" is not among`,
		"output: {out: [{headers: [{a: 1, b: 2}]}]}":       "a header is one name and one value",
		"output: {out: [{timestamp: noon}]}":               "not an RFC 3339 time",
		"now: noon\noutput: {}":                            "not an RFC 3339 time",
		"output: {}\noutput: {}":                           `"output" twice`,
		"- a":                                              "a case must be a mapping",
		"output: {out: [!!binary '?']}":                    "a record",
		"a: [":                                             "a.yaml: yaml:",
	} {
		if got, err := Parse("a.yaml", []byte(doc)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %+v, %v; want an error with %q", doc, got, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("name: x\ninput: [&a b, *a]\noutput: {out: [{key: !!binary aA==, headers: [{a: ~}]}]}\n---\nerror: y"))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = Parse("fuzz.yaml", b) })
}

func TestCompare(t *testing.T) {
	base := time.UnixMilli(1000)
	r := &run{c: Case{Now: base, Input: []Record{{}, {}}, Rejects: []Reject{{Input: 1, Reason: "full"}}}, result: &Result{}, now: base}
	r.compareOutput("out", []Record{{Value: []byte("añb"), Headers: []Header{{"h", nil}}}, {Value: []byte("same")}, {Key: []byte("k")}}, []output{
		{Record: Record{Key: []byte{}, Value: []byte("añc")}, timestamp: 1001},
		{Record: Record{Value: []byte("same")}, timestamp: 1000},
	})
	r.compareRejects(nil)
	want := []string{
		"output out, record 0: key\n  want  null\n  got   \"\"",
		"output out, record 0: value\n  want  \"añb\"\n  got   \"añc\"\n           ^",
		"output out, record 0: headers\n  want  h=null\n  got   none",
		"output out, record 0: timestamp\n  want  1970-01-01T00:00:01Z, that of input 0\n  got   1970-01-01T00:00:01.001Z",
		"output out, record 2 is missing\n  want  key \"k\", value null",
		"input 1 was accepted\n  want  rejected",
	}
	if d := cmp.Diff(want, r.result.Failures); d != "" {
		t.Error(d)
	}
}
