package module_test

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/millstream-io/millstream/runtime/module"
	"github.com/millstream-io/millstream/runtime/module/wasmtest"
)

func TestManifestRoundTripAndReplacement(t *testing.T) {
	m := &module.Manifest{
		Name: "translate", Version: "1.2.0", ABI: module.ABIVersion1, Language: "go",
		Config:  []module.ConfigKey{{Name: "to", Default: "es", Values: []string{"es", "fr"}}},
		Assets:  []module.AssetKey{{Name: "glossary", Description: "TSV"}},
		Outputs: []module.OutputPort{{Name: "es"}, {Name: "fr"}},
	}
	wasm := wasmtest.Guest{}.Bytes()
	first, err := module.WithManifest(wasm, &module.Manifest{Name: "old"})
	if err != nil {
		t.Fatal(err)
	}
	second, err := module.WithManifest(first, m)
	if err != nil {
		t.Fatal(err)
	}
	report, err := check(second)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(report.Manifest, m) {
		t.Errorf("got %+v, want %+v", report.Manifest, m)
	}
	if !strings.HasPrefix(string(second), string(wasm)) {
		t.Error("the module's own sections changed")
	}
	if read, err := module.ReadManifest(second); err != nil || !reflect.DeepEqual(read, m) {
		t.Errorf("read alone: %+v, %v", read, err)
	}
}

func TestReadManifestOf(t *testing.T) {
	with, err := module.WithManifest(wasmtest.Guest{}.Bytes(), &module.Manifest{Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	section := with[len(wasmtest.Guest{}.Bytes()):]
	for name, c := range map[string]struct {
		wasm []byte
		want string // part of the error; "": there is no manifest, and no error
	}{
		"a module without":     {wasmtest.Guest{}.Bytes(), ""},
		"no module":            {[]byte("wasm"), "no WebAssembly module"},
		"a module cut short":   {with[:len(with)-1], "unexpected end"},
		"two":                  {append(slices.Clone(with), section...), "a second manifest"},
		"one that is no JSON":  {bytes.Replace(with, []byte("{"), []byte("["), 1), "manifest: "},
		"one without its name": {bytes.Replace(with, []byte(`"name"`), []byte(`"eman"`), 1), "eman"},
	} {
		m, err := module.ReadManifest(c.wasm)
		if m != nil || (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %+v, %v, want %q", name, m, err, c.want)
		}
	}
}

func TestManifestValidate(t *testing.T) {
	tests := []struct {
		m    module.Manifest
		want string
	}{
		{module.Manifest{}, `name ""`},
		{module.Manifest{Name: "Up Per"}, "name"},
		{module.Manifest{Name: "a", ABI: "v9"}, `abi "v9"`},
		{module.Manifest{Name: "a", Config: []module.ConfigKey{{Name: "x"}, {Name: "x"}}}, `config key "x" appears twice`},
		{module.Manifest{Name: "a", Config: []module.ConfigKey{{Name: "x", Default: "c", Values: []string{"a", "b"}}}}, `none of its values`},
		{module.Manifest{Name: "a", Assets: []module.AssetKey{{Name: "../x"}}}, "asset"},
		{module.Manifest{Name: "a", Outputs: []module.OutputPort{{Name: "o"}, {Name: "o"}}}, `output "o" appears twice`},
		{module.Manifest{Name: "a", Outputs: make([]module.OutputPort, 257)}, "257 entries"},
		{module.Manifest{Name: "a", Description: "\xff"}, "UTF-8"},
	}
	for _, test := range tests {
		if err := test.m.Validate(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: got %v, want %q", test.m, err, test.want)
		}
		if _, err := module.WithManifest(wasmtest.Guest{}.Bytes(), &test.m); err == nil {
			t.Errorf("%+v: WithManifest accepted it", test.m)
		}
	}
}

func TestManifestSectionIsStrict(t *testing.T) {
	for content, want := range map[string]string{
		`{"name":"a"} {}`:    "behind the JSON object",
		`{"name":"a","x":1}`: "unknown field",
		`[]`:                 "is a JSON array, and has to be an object",
		`{"name":1}`:         "field name cannot be a JSON number",
		``:                   "is empty",
		`{"name":"` + strings.Repeat("a", 70<<10) + `"}`: "the limit is 65536",
	} {
		b := wasmtest.Guest{}.Builder()
		b.Custom(module.ManifestSection, []byte(content))
		if _, err := check(b.Bytes()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20s: got %v, want %q", content, err, want)
		}
	}
}
