package acceptance

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKill kills the server in mid-stream and starts it again: what was
// acknowledged is there, deployments are back, every input has its output.
func TestKill(t *testing.T) {
	plugin := upperPlugin(t)
	dir := t.TempDir()
	s := start(t, dir)
	s.millstream(t, "", "topic", "create", "in", "--partitions", "2")
	s.millstream(t, "", "deploy", plugin, "--name", "loud", "--from", "in", "--to", "out", "--create-topics")
	const rounds, perRound = 5, 400
	for round := range rounds {
		var lines strings.Builder
		for i := range perRound {
			fmt.Fprintf(&lines, "k%d:round %d line %d\n", i%7, round, i)
		}
		s.millstream(t, lines.String(), "produce", "in", "--key-separator", ":")
		s.stop(t, syscall.SIGKILL)
		s = start(t, dir)
	}
	seen := map[string]bool{}
	deadline := time.Now().Add(30 * time.Second)
	for len(seen) < rounds*perRound && time.Now().Before(deadline) {
		for line := range strings.Lines(s.millstream(t, "", "consume", "out", "--from", "start")) {
			seen[line] = true
		}
	}
	for round := range rounds {
		for i := range perRound {
			if want := fmt.Sprintf("ROUND %d LINE %d\n", round, i); !seen[want] {
				t.Fatalf("%q is lost (%d of %d there)", want, len(seen), rounds*perRound)
			}
		}
	}
	var statuses []struct {
		Spec  struct{ Name string }
		Phase string
	}
	if err := json.Unmarshal([]byte(s.millstream(t, "", "list", "--json")), &statuses); err != nil {
		t.Fatal(err)
	}
	if len(statuses) != 1 || statuses[0].Spec.Name != "loud" || statuses[0].Phase != "running" {
		t.Errorf("deployments after the last start: %+v", statuses)
	}
}

// upperPlugin returns what to deploy: the ready-made plugin if the binary has it.
func upperPlugin(t *testing.T) string {
	t.Helper()
	if !strings.Contains(builtPlugins(t), "upper") {
		lack(t, "the ready-made plugins", "make plugins")
	}
	return "plugin:upper"
}
