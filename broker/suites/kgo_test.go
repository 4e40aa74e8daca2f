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
	records := os.Getenv("KGO_TEST_RECORDS")
	if records == "" {
		records = "500000"
	}
	run := &kgoRun{program: program, dir: dir, logs: keptDir(t),
		env: append(os.Environ(), "KGO_SEEDS="+brokers, "KGO_TEST_RF=1", "KGO_TEST_RECORDS="+records, "KGO_LOG_LEVEL=none")}
	out, err := run.test(t, "kgo", args...)
	count := func(outcome string) int {
		return len(regexp.MustCompile(`(?m)^ *--- `+outcome+`:`).FindAll(out, -1))
	}
	t.Logf("%d passed, %d failed, %d skipped themselves; the log is in %s", count("PASS"), count("FAIL"), count("SKIP"), run.logs)
	failed := regexp.MustCompile(`(?m)^--- FAIL: (\S+)`).FindAllSubmatch(out, -1)
	if count("PASS") == 0 || (err != nil && len(failed) == 0) {
		t.Errorf("the suite ended with %v\n%s", err, tail(out))
	}
	// The suite runs side by side what is bounded in time, much of it without
	// any broker. What fails in company is run again alone; failing alone is a failure.
	for _, match := range failed {
		name := string(match[1])
		t.Logf("%s failed beside others and is run alone", name)
		if out, err := run.test(t, name, "-test.v", "-test.timeout=10m", "-test.run=^"+name+"$"); err != nil {
			t.Errorf("%s: %v\n%s", name, err, tail(out))
		}
	}
}

// kgoRun runs the compiled tests against one server.
type kgoRun struct {
	program, dir, logs string
	env                []string
}

func (r *kgoRun) test(t *testing.T, name string, args ...string) (out []byte, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), r.program, args...)
	cmd.Dir, cmd.Env = r.dir, r.env
	out, err = cmd.CombinedOutput()
	if werr := os.WriteFile(filepath.Join(r.logs, name+".log"), out, 0o644); werr != nil {
		t.Error(werr)
	}
	return out, err
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
