// Package suites runs the test-suites of Kafka clients against the real
// binary: librdkafka's own, that of franz-go's kgo, and the main classes of
// Apache Kafka's system tests. It holds tests only.
//
// The suites are fetched by the ordinary clients of their ecosystems, built
// once below MILLSTREAM_SUITES_DIR (default: the user's cache) and run by
// `make suite-librdkafka`, `make suite-kgo` and `make suite-java`; without the environment that
// these set, the tests are skipped. What is not run stands in
// testdata/*.excluded, each with its reason; anything else that fails is a
// failure here. The logs of failed tests are kept and named.
package suites

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// Environment that the make targets set.
const (
	envBinary = "MILLSTREAM_SUITES_BINARY" // the binary under test
	envDir    = "MILLSTREAM_SUITES_DIR"    // where suites are built
	envOnly   = "MILLSTREAM_SUITES_ONLY"   // names or patterns of tests, with commas; empty: all
)

// binary is the path of the binary under test.
func binary(t *testing.T) string {
	t.Helper()
	b := os.Getenv(envBinary)
	if b == "" {
		t.Skipf("%s is not set: run make suite-librdkafka, suite-kgo or suite-java", envBinary)
	}
	if b, err := filepath.Abs(b); err == nil {
		return b
	}
	return b
}

// suiteDir is the directory that a suite is built in; it is kept between runs.
func suiteDir(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv(envDir)
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatalf("%v; set %s", err, envDir)
		}
		dir = filepath.Join(cache, "millstream", "suites")
	}
	dir = filepath.Join(dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// command runs a program in dir; its output is shown if it fails.
func command(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, tail(out))
	}
	return string(out)
}

// tail is the end of an output: what went wrong stands there.
func tail(b []byte) []byte {
	const most = 8 << 10
	return b[max(0, len(b)-most):]
}

// exclusion is a pattern of tests that are not run.
type exclusion struct{ pattern, reason string }

// exclusions reads a list: on each line a pattern (see path.Match) and the reason.
func exclusions(t *testing.T, file string) []exclusion {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []exclusion
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		pattern, reason, _ := strings.Cut(line, " ")
		if reason = strings.TrimSpace(reason); reason == "" {
			t.Errorf("%s: %s is left out without a reason", file, pattern)
		}
		if _, err := path.Match(pattern, ""); err != nil {
			t.Errorf("%s: %s: %v", file, pattern, err)
		}
		out = append(out, exclusion{pattern, reason})
	}
	return out
}

// excluded returns why a test is not run, "" if it is.
func excluded(list []exclusion, name string) string {
	for _, x := range list {
		if ok, err := path.Match(x.pattern, name); ok && err == nil {
			return x.reason
		}
	}
	return ""
}

// wanted reports whether the caller has asked for a test.
func wanted(name string) bool {
	only := os.Getenv(envOnly)
	if only == "" {
		return true
	}
	for pattern := range strings.SplitSeq(only, ",") {
		if ok, err := path.Match(pattern, name); ok && err == nil {
			return true
		}
	}
	return false
}

// keptDir is where the logs of a test are kept after the run.
func keptDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(suiteDir(t, "logs"), strings.ReplaceAll(t.Name(), "/", "-"))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// need returns the path of a program that a suite is built with.
func need(t *testing.T, program, install string) string {
	t.Helper()
	p, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(fmt.Errorf("%w; install it: %s", err, install))
	}
	return p
}
