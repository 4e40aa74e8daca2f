package stream

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestWhatWasNotHandedOutIsNotLost(t *testing.T) {
	b := bound{from: 10, to: 20} // up to 9 was handed out
	for _, c := range []struct {
		name   string
		err    error
		unread bool
	}{
		{"aborted records behind what was handed out", &kgo.ErrDataLoss{ConsumedTo: 14, ResetTo: 12}, true},
		{"from there on", &kgo.ErrDataLoss{ConsumedTo: 14, ResetTo: 10}, true},
		{"a record that was handed out", &kgo.ErrDataLoss{ConsumedTo: 14, ResetTo: 9}, false},
		{"nobody knows what", &kgo.ErrDataLoss{ConsumedTo: 14, ResetTo: 14}, false},
		{"another error", errors.New("another"), false},
	} {
		if got := b.unread(c.err); got != c.unread {
			t.Errorf("%s: unread %v, want %v", c.name, got, c.unread)
		}
	}
}
