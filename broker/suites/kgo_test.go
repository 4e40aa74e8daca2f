package suites

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// kgoModule is the client whose tests are run, in the version that this module depends on.
const kgoModule = "github.com/twmb/franz-go"

// TestKgo runs the tests of franz-go's kgo against one server.
func TestKgo(t *testing.T) {
	binary(t)
	version := strings.TrimSpace(command(t, ".", "go", "list", "-m", "-f", "{{.Version}}", kgoModule))
	program, dir := buildKgo(t, version)
	args := []string{"-test.v", "-test.timeout=20m"}
	if skip := skippedKgo(t); skip != "" {
		args = append(args, "-test.skip="+skip)
	}
	if only := os.Getenv(envOnly); only != "" {
		args = append(args, "-test.run="+only)
	}
	brokers := startServer(t, "--default-partitions", "4")
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = dir
	records := os.Getenv("KGO_TEST_RECORDS")
	if records == "" {
		records = "500000"
	}
	cmd.Env = append(os.Environ(), "KGO_SEEDS="+brokers, "KGO_TEST_RF=1", "KGO_TEST_RECORDS="+records, "KGO_LOG_LEVEL=none")
	out, err := cmd.CombinedOutput()
	log := filepath.Join(keptDir(t), "kgo.log")
	if werr := os.WriteFile(log, out, 0o644); werr != nil {
		t.Error(werr)
	}
	count := func(outcome string) int {
		return len(regexp.MustCompile(`(?m)^ *--- `+outcome+`:`).FindAll(out, -1))
	}
	t.Logf("%d passed, %d failed, %d skipped themselves; the log is %s", count("PASS"), count("FAIL"), count("SKIP"), log)
	for _, line := range regexp.MustCompile(`(?m)^ *--- FAIL: .*$`).FindAll(out, -1) {
		t.Errorf("%s", line)
	}
	if err != nil {
		t.Errorf("the suite ended with %v\n%s", err, tail(out))
	}
	if count("PASS") == 0 {
		t.Error("no test was run")
	}
}

// skippedKgo makes the expression for what is not run from the list.
func skippedKgo(t *testing.T) string {
	t.Helper()
	var names []string
	for _, x := range exclusions(t, "kgo.excluded") {
		t.Logf("%s is not run: %s", x.pattern, x.reason)
		levels := strings.Split(x.pattern, "/")
		for i := range levels {
			levels[i] = "^" + strings.ReplaceAll(levels[i], "*", ".*") + "$"
		}
		names = append(names, strings.Join(levels, "/"))
	}
	return strings.Join(names, "|")
}

// buildKgo returns the compiled tests and the directory that they run in.
func buildKgo(t *testing.T, version string) (program, dir string) {
	t.Helper()
	build := suiteDir(t, "kgo-"+version)
	program = filepath.Join(build, "kgo.test")
	dir = filepath.Join(build, "package")
	if _, err := os.Stat(program); err == nil {
		return program, dir
	}
	if _, err := os.Stat(filepath.Join(build, "go.mod")); err != nil {
		command(t, build, "go", "mod", "init", "suite")
	}
	command(t, build, "go", "get", "-t", kgoModule+"/pkg/kgo@"+version)
	module := strings.TrimSpace(command(t, build, "go", "list", "-m", "-f", "{{.Dir}}", kgoModule))
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(module, "pkg", "kgo"))); err != nil {
		t.Fatal(err)
	}
	command(t, build, "go", "test", "-c", "-o", program, kgoModule+"/pkg/kgo")
	return program, dir
}
