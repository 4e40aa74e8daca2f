package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/millstream-io/millstream/sdk/go/transform"
	"github.com/millstream-io/millstream/sdk/go/transform/transformtest"
)

func TestRoute(t *testing.T) {
	records := []transform.Record{
		{Key: []byte("a"), Value: []byte(`{"to":"b"}`)},
		{Key: []byte("b"), Value: []byte(`{"to":"zzz"}`)},
		{Value: []byte(`no JSON`)},
		{Key: []byte(strings.Repeat("x", 59) + "é\xff and more"), Value: nil},
	}
	tests := []struct {
		on, outputs      string
		routed, rejected []string
	}{
		{"key", "a b other", []string{"a0", "b1", "other2", "other3"}, nil},
		{"field:to", "a b other", []string{"b0", "other1", "other2", "other3"}, nil},
		{"key", "a b", []string{"a0", "b1"}, []string{"the record names no output", "no output is named " + strings.Repeat("x", 59) + "…"}},
		{"field:to", "a b", []string{"b0"}, []string{"no output is named zzz", "not JSON at byte 0: no value starts like this", "the record names no output"}},
	}
	for _, tt := range tests {
		t.Run(tt.on+" "+tt.outputs, func(t *testing.T) {
			got := transformtest.Run(t, transformtest.Options{Outputs: strings.Fields(tt.outputs), Config: map[string]string{"on": tt.on}}, records...)
			var routed, rejected []string
			for _, o := range got.Outputs {
				routed = append(routed, o.Name+string(rune('0'+o.Input)))
			}
			for _, r := range got.Rejects {
				rejected = append(rejected, r.Reason)
			}
			slices.SortFunc(routed, func(a, b string) int { return strings.Compare(a[len(a)-1:], b[len(b)-1:]) })
			if !slices.Equal(routed, tt.routed) || !slices.Equal(rejected, tt.rejected) {
				t.Errorf("routed %q, rejected %q", routed, rejected)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	for _, tt := range []struct {
		config map[string]string
		want   string
	}{
		{nil, "config on is missing"},
		{map[string]string{"on": "x"}, "config on=x"},
		{map[string]string{"on": "key", "other": "nowhere"}, "config other=nowhere: output nowhere is not bound"},
	} {
		if _, err := transformtest.Start(transformtest.Options{Config: tt.config}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %q", tt.config, err, tt.want)
		}
	}
}
