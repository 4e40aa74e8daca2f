package deploy

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/millstream-io/millstream/runtime/module"
)

func valid() Spec {
	return Spec{
		Name: "es", Module: module.DigestOf([]byte("m")).String(),
		Inputs: []string{"notes"}, Outputs: []Output{{Name: "out", Topic: "notes.es"}},
		OnError: OnErrorDeadLetter, Start: "latest", State: Running,
	}
}

func manifest() *module.Manifest {
	return &module.Manifest{
		Name: "translate",
		Config: []module.ConfigKey{
			{Name: "to", Required: true, Description: "target language", Values: []string{"es", "fr"}},
			{Name: "field", Default: "text"},
		},
		Assets:  []module.AssetKey{{Name: "glossary"}, {Name: "names", Required: true}},
		Outputs: []module.OutputPort{{Name: "es"}, {Name: "fr"}},
	}
}

func TestValidateByItself(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Spec)
		want   string // in the error; "" = accepted
	}{
		{"as it is", func(*Spec) {}, ""},
		{"no name", func(s *Spec) { s.Name = "" }, "--name"},
		{"dots", func(s *Spec) { s.Name = ".." }, `cannot be ".."`},
		{"space in name", func(s *Spec) { s.Name = "my job" }, "position 2"},
		{"slash in name", func(s *Spec) { s.Name = "a/b" }, "use only letters"},
		{"longest name", func(s *Spec) { s.Name = strings.Repeat("n", 245) }, ""},
		{"long name", func(s *Spec) { s.Name = strings.Repeat("n", 246) }, "246 bytes, at most 245"},
		{"internal name", func(s *Spec) { s.Name = "__x" }, "two underscores"},
		{"module is a file", func(s *Spec) { s.Module = "es.wasm" }, "upload it first"},
		{"short digest", func(s *Spec) { s.Module = "sha256:abc" }, "64 lower case hex digits"},
		{"upper case digest", func(s *Spec) { s.Module = strings.ToUpper(s.Module) }, "not a digest"},
		{"no input", func(s *Spec) { s.Inputs = nil }, "--from"},
		{"input twice", func(s *Spec) { s.Inputs = []string{"a", "a"} }, `"a" is named twice`},
		{"bad input", func(s *Spec) { s.Inputs = []string{"ä"} }, "'ä' at position 0"},
		{"internal input", func(s *Spec) { s.Inputs = []string{"__consumer_offsets"} }, "system's own"},
		{"no output", func(s *Spec) { s.Outputs = nil }, "--to"},
		{"output twice", func(s *Spec) { s.Outputs = append(s.Outputs, Output{"out", "b"}) }, `"out" is bound twice`},
		{"two outputs, one topic", func(s *Spec) { s.Outputs = append(s.Outputs, Output{"b", "notes.es"}) }, ""},
		{"output without topic", func(s *Spec) { s.Outputs[0].Topic = "" }, "output topic has no name"},
		{"policy", func(s *Spec) { s.OnError = "skipp" }, `did you mean "skip"?`},
		{"state", func(s *Spec) { s.State = "on" }, "running, paused"},
		{"start", func(s *Spec) { s.Start = "yesterday" }, "use latest, earliest"},
		{"memory too small", func(s *Spec) { s.Limits.MemoryBytes = 1 }, "limit memory_bytes is 1, allowed are 65536 to 536870912"},
		{"memory too large", func(s *Spec) { s.Limits.MemoryBytes = 1 << 40 }, "memory_bytes"},
		{"negative fuel", func(s *Spec) { s.Limits.FuelPerRecord = -1 }, "fuel_per_record"},
		{"wall time", func(s *Spec) { s.Limits.WallTime = time.Hour }, "limit wall_time is 1h0m0s"},
		{"log lines", func(s *Spec) { s.Limits.LogLines = 1 << 20 }, "log_lines"},
		{"config without key", func(s *Spec) { s.Config = map[string]string{"": "x"} }, "KEY=VALUE"},
		{"config too large", func(s *Spec) { s.Config = map[string]string{"k": strings.Repeat("x", 2<<20)} }, "as an asset"},
		{"asset is a file", func(s *Spec) { s.Assets = map[string]string{"a": "b.tsv"} }, `asset a "b.tsv" is not a digest`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := valid()
			c.change(&s)
			wantError(t, s.Validate(nil), ErrInvalid, c.want)
		})
	}
}

func wantError(t *testing.T, err, is error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("refused: %v", err)
	case want != "" && err == nil:
		t.Errorf("accepted, want an error with %q", want)
	case want != "" && (!errors.Is(err, is) || !strings.Contains(err.Error(), want)):
		t.Errorf("error is %q, want %q in it", err, want)
	}
}

func TestValidateAgainstTheManifest(t *testing.T) {
	asset := module.DigestOf([]byte("a")).String()
	for _, c := range []struct {
		name   string
		change func(*Spec)
		want   string
	}{
		{"as it is", func(*Spec) {}, ""},
		{"one of two outputs", func(s *Spec) { s.Outputs = s.Outputs[:1] }, ""},
		{"unknown output", func(s *Spec) { s.Outputs[0].Name = "ess" }, `no output "ess" (did you mean "es"?); its outputs: es, fr`},
		{"nameless output", func(s *Spec) { s.Outputs[0].Name = "" }, "OUTPUT one of es, fr"},
		{"unknown key", func(s *Spec) { s.Config["feild"] = "x" }, `no config key "feild" (did you mean "field"?)`},
		{"key of other case", func(s *Spec) { s.Config["TO"] = "es" }, `did you mean "to"?`},
		{"missing key", func(s *Spec) { delete(s.Config, "to") }, `needs the config value "to" (target language): give it with --config to=VALUE`},
		{"value not allowed", func(s *Spec) { s.Config["to"] = "de" }, `to="de" is not allowed; allowed: es, fr`},
		{"missing asset", func(s *Spec) { s.Assets = nil }, "--asset names=FILE"},
		{"unknown asset", func(s *Spec) { s.Assets["glosary"] = asset }, `did you mean "glossary"?`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := valid()
			s.Config = map[string]string{"to": "es"}
			s.Assets = map[string]string{"names": asset}
			s.Outputs = []Output{{"es", "notes.es"}, {"fr", "notes.fr"}}
			c.change(&s)
			wantError(t, s.Validate(manifest()), ErrInvalid, c.want)
		})
	}
}

// A router sends records to whatever outputs its deployment has.
func TestModuleWithoutDeclaredOutputsTakesThoseOfItsDeployment(t *testing.T) {
	router := &module.Manifest{Name: "route"}
	for _, c := range []struct {
		name    string
		outputs []Output
		want    string
	}{
		{"names of its own", []Output{{"es", "notes.es"}, {"fr", "notes.fr"}}, ""},
		{"a single topic", []Output{{Topic: "notes.es"}}, ""},
		{"several topics without names", []Output{{Topic: "notes.es"}, {Topic: "notes.fr"}}, "write --to OUTPUT=notes.es"},
		{"none", nil, "give one with --to"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := valid()
			s.Outputs = c.outputs
			wantError(t, s.WithDefaults(router).Validate(router), ErrInvalid, c.want)
		})
	}
}

func TestDefaults(t *testing.T) {
	s := Spec{Outputs: []Output{{Topic: "t"}}}.WithDefaults(nil)
	if s.OnError != OnErrorDeadLetter || s.Start != "latest" || s.State != Running || s.Outputs[0].Name != "out" {
		t.Errorf("defaults are %+v", s)
	}
	one := &module.Manifest{Outputs: []module.OutputPort{{Name: "kept"}}}
	if s := (Spec{Outputs: []Output{{Topic: "t"}}}).WithDefaults(one); s.Outputs[0].Name != "kept" {
		t.Errorf("the only output is called %q", s.Outputs[0].Name)
	}
	given := Spec{Config: map[string]string{"to": "es"}}
	if c := given.EffectiveConfig(manifest()); c["to"] != "es" || c["field"] != "text" || len(c) != 2 {
		t.Errorf("effective config is %v", c)
	}
}

func TestParseStart(t *testing.T) {
	origin := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]Start{
		"":                          {},
		"latest":                    {},
		"earliest":                  {Kind: StartEarliest},
		"0":                         {Kind: StartOffset},
		"42":                        {Kind: StartOffset, Offset: 42},
		"2026-01-31T10:00:00Z":      {Kind: StartTimestamp, Time: origin.Add(-2 * time.Hour)},
		"2026-01-31T11:00:00+01:00": {Kind: StartTimestamp, Time: origin.Add(-2 * time.Hour)},
		"90m":                       {Kind: StartTimestamp, Time: origin.Add(-90 * time.Minute)},
		"7d":                        {Kind: StartTimestamp, Time: origin.Add(-7 * 24 * time.Hour)},
		"1h ago":                    {Kind: StartTimestamp, Time: origin.Add(-time.Hour)},
	} {
		got, err := ParseStart(text, origin)
		if err != nil || got.Kind != want.Kind || got.Offset != want.Offset || !got.Time.Equal(want.Time) {
			t.Errorf("%q gives %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"-1", "-5m", "now", "1.5", "12:00", "99999999999999999999", "-3d", "2026-01-31", "d"} {
		if got, err := ParseStart(text, origin); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q gives %+v, %v", text, got, err)
		}
	}
}

func edge(name, from, to string) Spec {
	return Spec{Name: name, Inputs: []string{from}, Outputs: []Output{{"out", to}}, OnError: OnErrorSkip}
}

func TestCycles(t *testing.T) {
	for _, c := range []struct {
		name   string
		s      Spec
		others []Spec
		want   string
	}{
		{"none", edge("a", "x", "y"), []Spec{edge("b", "y", "z")}, ""},
		{"diamond", edge("a", "x", "y"), []Spec{edge("b", "y", "z"), edge("c", "y", "z"), edge("d", "z", "w")}, ""},
		{"itself", edge("a", "x", "x"), nil, "a → x → a"},
		{"two", edge("a", "x", "y"), []Spec{edge("b", "y", "x")}, "a → y → b → x → a"},
		{"three", edge("a", "x", "y"), []Spec{edge("c", "z", "x"), edge("b", "y", "z"), edge("dead end", "y", "q")}, "a → y → b → z → c → x → a"},
		{"by dead letters", edge("retry", "b.dlq", "y"), []Spec{{Name: "b", Inputs: []string{"y"}, Outputs: []Output{{"out", "z"}}, OnError: OnErrorDeadLetter}}, "retry → y → b → b.dlq → retry"},
		{"dead letters not written", edge("retry", "b.dlq", "y"), []Spec{edge("b", "y", "z")}, ""},
		{"a cycle of others is not ours", edge("a", "x", "y"), []Spec{edge("b", "y", "y")}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantError(t, c.s.CheckCycle(c.others), ErrCycle, c.want)
		})
	}
}

func TestMissingTopics(t *testing.T) {
	s := valid()
	wantError(t, s.CheckTopics(map[string]int{"notes": 1, "notes.es": 2}), ErrMissingTopics, "")
	wantError(t, s.CheckTopics(map[string]int{"notes": 1}), ErrMissingTopics, "notes.es; deploy with --create-topics")
}

func TestParseDigest(t *testing.T) {
	d := module.DigestOf([]byte("x"))
	if got, err := ParseDigest(d.String()); err != nil || got != d {
		t.Errorf("digest %v is read as %v, %v", d, got, err)
	}
}

func FuzzParseStart(f *testing.F) {
	for _, s := range []string{"latest", "42", "7d", "1h ago", "2026-01-31T10:00:00Z"} {
		f.Add(s)
	}
	origin := time.Unix(1_700_000_000, 0)
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := ParseStart(text, origin); err == nil && got.Kind == StartOffset && got.Offset < 0 {
			t.Errorf("%q gives the offset %d", text, got.Offset)
		}
	})
}
