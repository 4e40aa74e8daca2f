package main

import (
	"os"
	"strings"
	"testing"

	"github.com/millstream-io/millstream/sdk/go/transform"
	"github.com/millstream-io/millstream/sdk/go/transform/transformtest"
)

func run(t *testing.T, config map[string]string, assets map[string][]byte, values ...string) *transformtest.Result {
	t.Helper()
	records := make([]transform.Record, len(values))
	for i, v := range values {
		records[i] = transform.Record{Key: []byte("room-4"), Value: []byte(v), Timestamp: int64(1_700_000_000_000 + i), Headers: transform.NewHeaders("source", "diary", UnknownHeader, "old")}
	}
	return transformtest.Run(t, transformtest.Options{Config: config, Assets: assets}, records...)
}

func TestSentences(t *testing.T) {
	tests := []struct{ en, es, fr, unknown string }{
		{"Good morning! Welcome back to school.", "Buenos días! Bienvenidos de nuevo a la escuela.", "Bonjour! Bon retour à l'école.", "0 0"},
		{"Today is Monday and it is raining.", "Hoy es lunes y está lloviendo.", "Aujourd'hui est lundi et il pleut.", "0 0"},
		{"All the children are here, only Tom is absent.", "Todos los niños están aquí, solo Tom está ausente.", "Tous les enfants sont ici, seulement Tom est absent.", "1 1"},
		{"On Tuesday the children wrote a short essay about the weather.", "El martes los niños escribieron una redacción corta sobre el tiempo.", "Mardi les enfants ont écrit une rédaction courte sur le temps.", "0 0"},
		{"The plants are still small, but they grow every day.", "Las plantas son todavía pequeñas, pero crecen todos los días.", "Les plantes sont encore petites, mais ils poussent tous les jours.", "0 0"},
		{"I don't know. It's time to go home.", "No sé. Es hora de ir a casa.", "Je ne sais pas. Il est temps d'aller à la maison.", "0 0"},
		{"GOOD JOB, dear students!", "BUEN TRABAJO, queridos estudiantes!", "BON TRAVAIL, chers élèves!", "0 0"},
		{"The school trip is on Thursday, at 8:30.", "La excursión escolar es el jueves, a las 8:30.", "La sortie scolaire est jeudi, à 8:30.", "0 0"},
		{"We talked about the water cycle.", "Hablamos sobre el ciclo del agua.", "Nous avons parlé du cycle de l'eau.", "0 0"},
		{"See https://museum.example/school for the list", "Ver https://museum.example/school para la lista", "Voir https://museum.example/school pour la liste", "0 0"},
		{"", "", "", "0 0"},
	}
	var in []string
	for _, tt := range tests {
		in = append(in, tt.en)
	}
	es, fr := run(t, map[string]string{"to": "es"}, nil, in...), run(t, map[string]string{"to": "fr"}, nil, in...)
	for i, tt := range tests {
		a, b := es.Outputs[i].Record, fr.Outputs[i].Record
		if string(a.Value) != tt.es || string(b.Value) != tt.fr {
			t.Errorf("%q:\n got %q\nwant %q\n got %q\nwant %q", tt.en, a.Value, tt.es, b.Value, tt.fr)
		}
		ua, _ := a.Headers.Get(UnknownHeader)
		ub, _ := b.Headers.Get(UnknownHeader)
		if got := string(ua) + " " + string(ub); got != tt.unknown {
			t.Errorf("%q: unknown %s, want %s", tt.en, got, tt.unknown)
		}
		source, _ := a.Headers.Get("source")
		if string(a.Key) != "room-4" || a.Timestamp != int64(1_700_000_000_000+i) || a.Headers.Len() != 2 || string(source) != "diary" || a.Value == nil {
			t.Errorf("%q: record %+v", tt.en, a)
		}
	}
}

func TestField(t *testing.T) {
	in := `{"id": 1.50, "author": {"text": "The \"house\" is red"}, "text": "a\tbook" , "text2":"the"}`
	got := run(t, map[string]string{"to": "es", "field": "author.text"}, nil, in, `{"author":{}}`, `{"author":{"text":7}}`, `the house`)
	want := `{"id": 1.50, "author": {"text": "El \"casa\" es roja"}, "text": "a\tbook" , "text2":"the"}`
	if len(got.Outputs) != 1 || string(got.Outputs[0].Record.Value) != want {
		t.Errorf("got %s, want %s", got.Outputs[0].Record.Value, want)
	}
	reasons := []string{"the value has no field author.text", "field author.text is no string", "not JSON at byte 0"}
	if len(got.Rejects) != len(reasons) {
		t.Fatalf("rejects %+v", got.Rejects)
	}
	for i, r := range got.Rejects {
		if r.Input != i+1 || !strings.Contains(r.Reason, reasons[i]) {
			t.Errorf("%+v, want %q", r, reasons[i])
		}
	}
}

func TestAsset(t *testing.T) {
	got := run(t, map[string]string{"to": "de"}, map[string][]byte{"glossary": []byte("# mine\nthe house\tdas Haus\n")}, "The house")
	if v := got.Values("out"); len(v) != 1 || v[0] != "Das Haus" {
		t.Errorf("got %q", v)
	}
}

func TestNoAllocation(t *testing.T) {
	p := &plugin{}
	if _, err := transformtest.Start(transformtest.Options{Config: map[string]string{"to": "fr", "field": "text"}, OnSetup: p.setup, OnRecord: p.record}); err != nil {
		t.Fatal(err)
	}
	document := []byte(`{"id":7,"text":"Good morning! The red houses of the \"teachers\" are very old, and I think that the École is here."}`)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := p.translateField(document); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a record", n)
	}
}

// TestReadme: what the README shows is what comes out.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows, to := 0, ""
	for _, line := range strings.Split(string(readme), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 5 {
			to = ""
			continue
		}
		in, out, unknown := strings.TrimSpace(cells[1]), strings.TrimSpace(cells[2]), strings.TrimSpace(cells[3])
		if code, ok := strings.CutPrefix(out, "`to="); ok {
			to = strings.TrimSuffix(code, "`")
			continue
		}
		if to == "" || strings.HasPrefix(in, "---") {
			continue
		}
		rows++
		got := run(t, map[string]string{"to": to}, nil, in).Outputs[0].Record
		if n, _ := got.Headers.Get(UnknownHeader); string(got.Value) != out || string(n) != unknown {
			t.Errorf("%q gives %q, %s unknown; the README says %q, %s", in, got.Value, n, out, unknown)
		}
	}
	if rows < 8 {
		t.Errorf("found only %d rows of samples", rows)
	}
}

func TestTombstone(t *testing.T) {
	for _, config := range []map[string]string{{"to": "es"}, {"to": "es", "field": "text"}} {
		got := transformtest.Run(t, transformtest.Options{Config: config}, transform.Record{Key: []byte("k")})
		if len(got.Outputs) != 1 || got.Outputs[0].Record.Value != nil {
			t.Errorf("%v: %+v", config, got)
		}
	}
}

func TestRefused(t *testing.T) {
	tests := []struct {
		name   string
		config map[string]string
		asset  string
		want   string
	}{
		{"no target", nil, "", "config to is missing"},
		{"unknown target", map[string]string{"to": "xx"}, "", "no built-in glossary en-xx"},
		{"unknown source", map[string]string{"to": "es", "from": "de"}, "", "config from=de"},
		{"a bad glossary", map[string]string{"to": "es"}, "a\tb\nhouse casa\n", "glossary line 2: no tab"},
		{"an empty glossary", map[string]string{"to": "es"}, "# nothing\n", "no entries"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := transformtest.Options{Config: tt.config}
			if tt.asset != "" {
				o.Assets = map[string][]byte{"glossary": []byte(tt.asset)}
			}
			if _, err := transformtest.Start(o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}
