package suites

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The package that carries librdkafka 2.15.1 with its tests.
const (
	librdkafkaPackage = "@confluentinc/kafka-javascript"
	librdkafkaVersion = "1.10.1"
	librdkafkaInstall = "apt-get install gcc g++ make npm libssl-dev zlib1g-dev libzstd-dev rapidjson-dev"
)

// brokerVersion is told to the suite, which leaves out what older brokers cannot do.
const brokerVersion = "4.2.0"

// testTimeout bounds one test of the suite.
const testTimeout = 4 * time.Minute

// testPassed is a line of the summary about a test that was not skipped: some need no broker, some an option of the build.
var testPassed = regexp.MustCompile(`(?m)\b0\d{3}_\w+ +\| +PASSED`)

// TestLibrdkafka runs librdkafka's suite, each test in a process of its own,
// as its own runner does it: quick sizes, no emulation of bad networks. All
// are run with both group protocols.
func TestLibrdkafka(t *testing.T) {
	millstream := binary(t)
	tests := buildLibrdkafka(t)
	bin, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	left := exclusions(t, "librdkafka.excluded")
	all := librdkafkaTests(t, tests)
	for _, scenario := range []struct {
		name   string
		env    []string
		server []string
		tests  []string
	}{
		{name: "classic", tests: all},
		{name: "consumer", env: []string{"TEST_CONSUMER_GROUP_PROTOCOL=consumer"}, tests: all},
		{name: "noautocreate", env: []string{"TEST_SCENARIO=noautocreate"}, server: []string{"--no-auto-create"}, tests: []string{"0045", "0107", "0111"}},
	} {
		t.Run(scenario.name, func(t *testing.T) {
			var names []string
			for _, n := range scenario.tests {
				name := scenario.name + "/" + n
				if !wanted(name) {
					continue
				}
				if why := excluded(left, name); why != "" {
					t.Logf("%s is not run: %s", name, why)
					continue
				}
				names = append(names, n)
			}
			if len(names) == 0 {
				t.Skip("nothing of it is to be run")
			}
			brokers := startServer(t, append([]string{"--default-partitions", "4"}, scenario.server...)...)
			run := &librdkafkaRun{dir: tests, logs: keptDir(t), env: append(os.Environ(), append(scenario.env,
				"LD_LIBRARY_PATH=../src:../src-cpp", "TEST_LEVEL=1", "TEST_KAFKA_VERSION="+brokerVersion,
				"KAFKA_PATH="+bin, "BROKERS="+brokers, "MILLSTREAM="+millstream)...)}
			run.config(t, brokers)
			run.all(t, names)
		})
	}
}

// buildLibrdkafka returns the directory with the built test-runner.
func buildLibrdkafka(t *testing.T) string {
	t.Helper()
	dir := suiteDir(t, "librdkafka-"+librdkafkaVersion)
	source := filepath.Join(dir, "package", "deps", "librdkafka")
	tests := filepath.Join(source, "tests")
	if _, err := os.Stat(filepath.Join(tests, "test-runner")); err == nil {
		return tests
	}
	for _, program := range []string{"npm", "tar", "gcc", "g++", "make"} {
		need(t, program, librdkafkaInstall)
	}
	packed := strings.Fields(command(t, dir, "npm", "pack", "--silent", librdkafkaPackage+"@"+librdkafkaVersion))
	if len(packed) == 0 {
		t.Fatal("npm pack names no file")
	}
	command(t, dir, "tar", "xzf", packed[len(packed)-1])
	jobs := fmt.Sprintf("-j%d", runtime.NumCPU())
	command(t, source, "./configure", "--disable-gssapi")
	command(t, source, "make", jobs, "libs")
	command(t, source, "make", jobs, "-C", "tests", "test-runner")
	return tests
}

// librdkafkaTests are the numbers of all tests there are.
func librdkafkaTests(t *testing.T, dir string) []string {
	t.Helper()
	var numbers []string
	for _, pattern := range []string{"0*-*.c", "0*-*.cpp"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			numbers = append(numbers, filepath.Base(f)[:4])
		}
	}
	slices.Sort(numbers)
	if numbers = slices.Compact(numbers); len(numbers) < 100 {
		t.Fatalf("only %d tests in %s", len(numbers), dir)
	}
	return numbers
}

// librdkafkaRun runs tests against one server.
type librdkafkaRun struct {
	dir, logs string
	env       []string

	mu      sync.Mutex
	outcome map[string]string
	failed  []string
}

// config writes the file that tells the tests where the broker is.
func (r *librdkafkaRun) config(t *testing.T, brokers string) {
	t.Helper()
	file := filepath.Join(r.logs, "test.conf")
	if err := os.WriteFile(file, []byte("metadata.broker.list="+brokers+"\ntest.topic.random=true\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r.env = append(r.env, "RDKAFKA_TEST_CONF="+file)
}

// all runs the tests, several at a time: most of them wait most of the time.
// What fails in company is run again alone, because the suite's own limits of
// time hold for one test on one machine; failing alone is a failure.
func (r *librdkafkaRun) all(t *testing.T, names []string) {
	r.outcome = make(map[string]string)
	var wg sync.WaitGroup
	queue := make(chan string)
	for range max(2, runtime.NumCPU()) {
		wg.Go(func() {
			for n := range queue {
				r.one(t, n)
			}
		})
	}
	for _, n := range names {
		queue <- n
	}
	close(queue)
	wg.Wait()
	again := r.failed
	r.failed = nil
	slices.Sort(again)
	for _, n := range again {
		t.Logf("%s failed beside others (%s) and is run alone", n, r.outcome[n])
		r.one(t, n)
	}
	counts := map[string]int{}
	for _, n := range names {
		word, _, _ := strings.Cut(r.outcome[n], " ")
		counts[strings.TrimSuffix(word, ":")]++
	}
	t.Logf("%d tests: %v", len(names), counts)
	for _, n := range r.failed {
		t.Errorf("%s: %s, its log is %s", n, r.outcome[n], r.log(n))
	}
}

func (r *librdkafkaRun) log(name string) string { return filepath.Join(r.logs, name+".log") }

// one runs one test and notes how it ended.
func (r *librdkafkaRun) one(t *testing.T, name string) {
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "./test-runner", "-Q", "-E", "-L", "-p1")
	cmd.Dir, cmd.Env = r.dir, append(slices.Clone(r.env), "TESTS="+name)
	start := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(start).Round(100 * time.Millisecond)
	outcome := "passed"
	switch {
	case ctx.Err() != nil:
		outcome = "failed: it did not end"
	case err != nil:
		outcome = fmt.Sprintf("failed: %v", err)
	case !testPassed.Match(out):
		outcome = "skipped by itself"
	}
	if werr := os.WriteFile(r.log(name), out, 0o644); werr != nil {
		outcome += "; " + werr.Error()
	}
	t.Logf("%s %s (%v)", name, outcome, took)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outcome[name] = outcome
	if strings.HasPrefix(outcome, "failed") {
		r.failed = append(r.failed, name)
	}
}
