package deployment

import (
	"bytes"
	"testing"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/runtime/admin"
	"github.com/millstream-io/millstream/runtime/deploy"
)

// What a module says of itself cannot write on the terminal of who looks.
func TestRemarksAreHarmless(t *testing.T) {
	var out bytes.Buffer
	tell(&command.Env{Out: &out}, "", "reject: \x1b[31mred\u202e", "fine: ünïcode")
	if want := "  reject: \\x1b[31mred\\u202e\n  fine: ünïcode\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

// A run that has come to its end is not paused by `millstream pause`, and is not said to be.
func TestWhatBecameOfADeployment(t *testing.T) {
	for _, c := range []struct{ done, state, phase, want string }{
		{"paused", deploy.Paused, "paused", "paused d: paused"},
		{"paused", deploy.Completed, "completed", "not paused, d does not run: completed"},
		{"resumed", deploy.Running, "starting", "resumed d: starting"},
	} {
		s := &admin.Status{Spec: deploy.Spec{Name: "d", State: c.state}, Phase: c.phase}
		if got := outcome(c.done, s); got != c.want {
			t.Errorf("%s, now %s: %q, want %q", c.done, c.state, got, c.want)
		}
	}
}
