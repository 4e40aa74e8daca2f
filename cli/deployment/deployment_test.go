package deployment

import (
	"bytes"
	"testing"

	"github.com/millstream-io/millstream/cli/command"
)

// What a module says of itself cannot write on the terminal of who looks.
func TestRemarksAreHarmless(t *testing.T) {
	var out bytes.Buffer
	tell(&command.Env{Out: &out}, "", "reject: \x1b[31mred\u202e", "fine: ünïcode")
	if want := "  reject: \\x1b[31mred\\u202e\n  fine: ünïcode\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
