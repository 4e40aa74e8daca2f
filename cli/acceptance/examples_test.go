package acceptance

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func builtPlugins(t *testing.T) string {
	t.Helper()
	out, err := exec.Command(binary, "plugin", "list").CombinedOutput()
	if err != nil {
		t.Fatalf("plugin list: %v\n%s", err, out)
	}
	return string(out)
}

// TestExamples runs the script of every example; the list is the directory.
func TestExamples(t *testing.T) {
	scripts, err := filepath.Glob("../../examples/*/run.sh")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no examples found: %v", err)
	}
	if !strings.Contains(builtPlugins(t), "translate") {
		lack(t, "the ready-made plugins", "make plugins")
	}
	for _, script := range scripts {
		t.Run(filepath.Base(filepath.Dir(script)), func(t *testing.T) {
			cmd := exec.Command("bash", "run.sh")
			cmd.Dir = filepath.Dir(script)
			cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(binary)+string(os.PathListSeparator)+os.Getenv("PATH"), "MILLSTREAM="+binary)
			cmd.WaitDelay = 10 * time.Second
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			t.Logf("%s", out)
		})
	}
}

// TestDemo runs what `make demo` runs.
func TestDemo(t *testing.T) {
	if !strings.Contains(builtPlugins(t), "translate") {
		lack(t, "the ready-made plugins", "make plugins")
	}
	out, err := exec.Command(binary, "demo").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
