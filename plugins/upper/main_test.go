package main

import (
	"bytes"
	"testing"

	"github.com/millstream-io/millstream/sdk/go/transform"
	"github.com/millstream-io/millstream/sdk/go/transform/transformtest"
)

func TestUpper(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", ""},
		{"hello, World 42 `{@[", "HELLO, WORLD 42 `{@["},
		{"¿qué tal, señor? œuvre, ÿ", "¿QUÉ TAL, SEÑOR? ŒUVRE, Ÿ"},
		{"straße ж ω 漢", "STRAßE Ж Ω 漢"},
		{"a\xffb\xc3", "A\xffB\xc3"},
	}
	for _, tt := range tests {
		got := transformtest.Run(t, transformtest.Options{}, transform.Record{Key: []byte("Key"), Value: []byte(tt.in), Headers: transform.NewHeaders("h", "v")})
		if len(got.Outputs) != 1 || len(got.Rejects) != 0 {
			t.Fatalf("%q: %+v", tt.in, got)
		}
		r := got.Outputs[0].Record
		if string(r.Value) != tt.want || r.Value == nil || string(r.Key) != "Key" || r.Headers.Len() != 1 {
			t.Errorf("%q: got %q, key %q; want %q", tt.in, r.Value, r.Key, tt.want)
		}
	}
}

func TestTombstone(t *testing.T) {
	got := transformtest.Run(t, transformtest.Options{}, transform.Record{Key: []byte("k")})
	if len(got.Outputs) != 1 || got.Outputs[0].Record.Value != nil {
		t.Errorf("a tombstone became %+v", got.Outputs)
	}
}

func TestNoAllocation(t *testing.T) {
	for _, text := range []string{"plain ascii text", "ñandú"} {
		buf := make([]byte, 100)
		in := []byte(text)
		if n := testing.AllocsPerRun(100, func() { upperCase(buf[:0], in) }); n != 0 {
			t.Errorf("%q: %v allocations", text, n)
		}
	}
}

// FuzzUpper: it agrees with package bytes on ASCII, never grows and is idempotent.
func FuzzUpper(f *testing.F) {
	f.Add([]byte("aé\xff"))
	f.Fuzz(func(t *testing.T, in []byte) {
		got := upperCase(make([]byte, 0, len(in)), in)
		if again := upperCase(make([]byte, 0, len(got)), got); !bytes.Equal(again, got) {
			t.Fatalf("%q: %q, then %q", in, got, again)
		}
		ascii := bytes.Map(func(r rune) rune {
			if r >= 0x80 {
				return -1
			}
			return r
		}, in)
		if got := upperCase(make([]byte, 0, len(ascii)), ascii); !bytes.Equal(got, bytes.ToUpper(ascii)) {
			t.Fatalf("%q: %q", ascii, got)
		}
	})
}
