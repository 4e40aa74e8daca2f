package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/millstream-io/millstream/sdk/go/transform"
	"github.com/millstream-io/millstream/sdk/go/transform/transformtest"
)

// config reads "a=b c=d".
func config(s string) map[string]string {
	m := map[string]string{}
	for _, pair := range strings.Fields(s) {
		k, v, _ := strings.Cut(pair, "=")
		m[k] = v
	}
	return m
}

func TestFilter(t *testing.T) {
	records := []transform.Record{
		{Key: []byte("a"), Value: []byte(`{"type":"note","n":5,"by":{"name":"Ann"}}`), Headers: transform.NewHeaders("lang", "en")},
		{Key: []byte("b"), Value: []byte(`{"type":"no\u0074e","n":-1.5,"by":null}`), Headers: transform.NewHeaders("lang", "es")},
		{Key: []byte("c"), Value: []byte(`{"type":"todo","n":"7"}`)},
		{Key: nil, Value: []byte(`{"n":1e3}`)},
		{Key: []byte("e"), Value: nil},
		{Key: []byte("f"), Value: []byte(`plain text`)},
	}
	tests := []struct{ config, kept, rejected string }{
		{"on=field:type equals=note", "0 1", "5"},
		{"on=field:type equals=note mode=drop", "2 3 4", "5"},
		{"on=field:type equals=note invalid=keep", "0 1 5", ""},
		{"on=field:type equals=note invalid=drop", "0 1", ""},
		{"on=field:by.name contains=nn", "0", "5"},
		{"on=field:by exists=true", "0 1", "5"},
		{"on=field:by exists=false", "2 3 4", "5"},
		{"on=field:n above=0", "0 2 3", "5"},
		{"on=field:n above=0 below=6", "0", "5"},
		{"on=field:type matches=^t.*o$", "2", "5"},
		{"on=field:type prefix=no", "0 1", "5"},
		{"contains=type", "0 1 2", ""},
		{"exists=true mode=drop", "4", ""},
		{"on=key matches=^[ab]$", "0 1", ""},
		{"on=key exists=false", "3", ""},
		{"on=header:lang equals=es", "1", ""},
		{"on=header:lang exists=false", "2 3 4 5", ""},
	}
	for _, tt := range tests {
		t.Run(tt.config, func(t *testing.T) {
			got := transformtest.Run(t, transformtest.Options{Config: config(tt.config)}, records...)
			var kept, rejected []string
			for _, o := range got.Outputs {
				kept = append(kept, string(rune('0'+o.Input)))
				in := records[o.Input]
				if string(o.Record.Value) != string(in.Value) || string(o.Record.Key) != string(in.Key) || o.Record.Headers.Len() != in.Headers.Len() || (o.Record.Value == nil) != (in.Value == nil) {
					t.Errorf("record %d changed to %+v", o.Input, o.Record)
				}
			}
			for _, r := range got.Rejects {
				rejected = append(rejected, string(rune('0'+r.Input)))
			}
			if !slices.Equal(kept, strings.Fields(tt.kept)) || !slices.Equal(rejected, strings.Fields(tt.rejected)) {
				t.Errorf("kept %v, rejected %v; want %s, %s", kept, rejected, tt.kept, tt.rejected)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	for _, tt := range []struct{ config, want string }{
		{"", "no condition"},
		{"on=field equals=a", "config on=field: must be"},
		{"on=value:x equals=a", "config on=value:x: must be"},
		{"on=header: equals=a", "config on=header:: must be"},
		{"on=body equals=a", "config on=body: must be"},
		{"mode=throw equals=a", "config mode=throw: must be keep or drop"},
		{"exists=yes", "config exists=yes: must be false or true"},
		{"matches=(", "config matches=(: error parsing regexp"},
		{"above=ten", "config above=ten: must be a number"},
		{"below=NaN", "config below=NaN: must be a number"},
		{"invalid=ignore equals=a", "config invalid=ignore: must be"},
	} {
		if _, err := transformtest.Start(transformtest.Options{Config: config(tt.config)}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.config, err, tt.want)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	r, err := transformtest.Start(transformtest.Options{})
	if err == nil {
		t.Fatal("no condition was accepted", r)
	}
	f := &filter{}
	start(t, f, "on=field:type equals=note above=-1 exists=true mode=drop")
	record := transform.Record{Value: []byte(`{"n":[1,2,{"a":"b"}],"type":"n\u006fte"}`)}
	if n := testing.AllocsPerRun(100, func() {
		text, found, err := f.on.Text(record)
		for _, c := range f.conditions {
			c(text, found)
		}
		if err != nil || !found {
			t.Fatal(err, found)
		}
	}); n != 0 {
		t.Errorf("%v allocations a record", n)
	}
}

func start(t *testing.T, f *filter, c string) {
	t.Helper()
	_, err := transformtest.Start(transformtest.Options{Config: config(c), OnSetup: f.setup, OnRecord: f.record})
	if err != nil {
		t.Fatal(err)
	}
}
