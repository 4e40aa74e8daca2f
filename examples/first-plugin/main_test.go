package main

import (
	"slices"
	"testing"

	"github.com/millstream-io/millstream/sdk/go/transform"
	"github.com/millstream-io/millstream/sdk/go/transform/transformtest"
)

func TestHello(t *testing.T) {
	got := transformtest.Run(t, transformtest.Options{},
		transform.Record{Value: []byte("Ann")},
		transform.Record{Key: []byte("k"), Value: []byte("Ben")})
	if want := []string{"Hello, Ann", "Hello, Ben"}; !slices.Equal(got.Values("out"), want) {
		t.Errorf("got %q, want %q", got.Values("out"), want)
	}
	if key := got.Outputs[1].Record.Key; string(key) != "k" {
		t.Errorf("the key became %q", key)
	}
}
