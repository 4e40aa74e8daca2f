package suites

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// envRequireTools makes a missing tool a failure instead of a skip.
const envRequireTools = "MILLSTREAM_REQUIRE_TOOLS"

const javaInstall = "apt-get install openjdk-17-jdk-headless maven"

// Where Apache Kafka keeps the main classes of its system tests.
const (
	kafkaTools   = "org.apache.kafka.tools."
	streamsTests = "org.apache.kafka.streams.tests."
)

// TestJava runs main classes of Apache Kafka, which its system tests drive,
// and a program of Kafka Streams against servers, one server for each.
func TestJava(t *testing.T) {
	binary(t)
	for _, program := range []string{"java", "javac", "mvn"} {
		if _, err := exec.LookPath(program); err != nil && os.Getenv(envRequireTools) == "" {
			t.Skipf("NOT RUN: %v; install it: %s", err, javaInstall)
		}
		need(t, program, javaInstall)
	}
	for _, x := range exclusions(t, "java.excluded") {
		t.Logf("%s is not run: %s", x.pattern, x.reason)
	}
	jars := buildJava(t)
	for _, main := range []struct {
		name string
		run  func(*testing.T, *jvm)
	}{
		{"ClientCompatibilityTest", clientCompatibility},
		{"VerifiableClients", verifiableClients},
		{"AdminTools", adminTools},
		{"Performance", performance},
		{"TransactionalMessageCopier", transactionalCopier},
		{"WordCount", wordCount},
		{"StreamsEosTest", streamsEos},
		{"StreamsSmokeTest", streamsSmoke},
	} {
		t.Run(main.name, func(t *testing.T) {
			if !wanted(main.name) {
				t.Skipf("%s does not ask for it", envOnly)
			}
			main.run(t, &jvm{jars: jars, server: newServer(t)})
		})
	}
}

// buildJava returns the class path of the jars and of our own classes.
func buildJava(t *testing.T) string {
	t.Helper()
	const pom, source = "pom.xml", "WordCount.java"
	dir, err := filepath.Abs(suiteDir(t, "java"))
	if err != nil {
		t.Fatal(err)
	}
	read := func(path string) []byte {
		b, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return b
	}
	jars, classes := filepath.Join(dir, "jars"), filepath.Join(dir, "classes")
	want, copied := read(filepath.Join("testdata", "java", pom)), filepath.Join(dir, pom)
	if !bytes.Equal(read(copied), want) {
		if err := os.RemoveAll(jars); err != nil {
			t.Fatal(err)
		}
		command(t, ".", "mvn", "-q", "-B", "-f", filepath.Join("testdata", "java", pom), "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+jars)
		if err := os.WriteFile(copied, want, 0o644); err != nil { // last: it says that the jars are complete
			t.Fatal(err)
		}
	}
	command(t, ".", "javac", "-cp", filepath.Join(jars, "*"), "-d", classes, filepath.Join("testdata", "java", source))
	return filepath.Join(jars, "*") + string(filepath.ListSeparator) + classes
}

// jvm starts programs of Java for one test, beside one server.
type jvm struct {
	jars    string
	server  *server
	started int
}

// run runs a main class to its end, which has to be a good one, and returns what it printed.
func (j *jvm) run(t *testing.T, limit time.Duration, class string, args ...string) []string {
	t.Helper()
	p := j.start(t, class, args...)
	if err := p.wait(t, limit); err != nil {
		t.Fatalf("%s: %v, its log is %s", class, err, p.log)
	}
	return p.printed()
}

// topics makes topics.
func (j *jvm) topics(t *testing.T, partitions string, names ...string) {
	t.Helper()
	for _, name := range names {
		command(t, ".", binary(t), "topic", "create", name, "--partitions", partitions, "--brokers", j.server.brokers)
	}
}

// start begins a main class, which is killed when the test ends. Its output is a file of its own in keptDir.
func (j *jvm) start(t *testing.T, class string, args ...string) *process {
	t.Helper()
	config, err := filepath.Abs(filepath.Join("testdata", "java", "log4j2.properties"))
	if err != nil {
		t.Fatal(err)
	}
	j.started++
	name := fmt.Sprintf("%d-%s", j.started, class[strings.LastIndexByte(class, '.')+1:])
	p := &process{name: name, log: filepath.Join(keptDir(t), name+".log"), ended: make(chan struct{}), more: make(chan struct{}, 1)}
	log, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	// These programs live for seconds: compiling hot code thoroughly would cost more than it saves.
	p.cmd = exec.Command("java", append([]string{"-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
		"-Dlog4j2.configurationFile=" + config, "-cp", j.jars, class}, args...)...)
	p.cmd.Dir = t.TempDir()
	p.cmd.Stderr = log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.kill()
		log.Close()
	})
	go func() {
		s := bufio.NewScanner(out)
		s.Buffer(nil, 4<<20) // an event of a tool is one line, whatever it lists
		for s.Scan() {
			_, _ = log.WriteString(s.Text() + "\n")
			p.mu.Lock()
			p.lines = append(p.lines, s.Text())
			p.mu.Unlock()
			select {
			case p.more <- struct{}{}:
			default:
			}
		}
		_, _ = io.Copy(io.Discard, out)
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return p
}

// process is a running main class.
type process struct {
	name, log string
	cmd       *exec.Cmd
	ended     chan struct{} // closed at its end
	err       error         // how it ended, once ended is closed
	more      chan struct{} // a line was printed

	mu    sync.Mutex
	lines []string
}

// printed are the lines of standard output until now.
func (p *process) printed() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.lines)
}

// await returns when count lines match, counted from the beginning.
func (p *process) await(t *testing.T, limit time.Duration, pattern *regexp.Regexp, count int) {
	t.Helper()
	for deadline := time.After(limit); ; {
		if n := matches(p.printed(), pattern); n >= count {
			return
		}
		select {
		case <-p.more:
		case <-p.ended:
			if matches(p.printed(), pattern) < count {
				t.Fatalf("%s ended (%v) before it printed %s %d times, its log is %s", p.name, p.err, pattern, count, p.log)
			}
			return
		case <-deadline:
			t.Fatalf("%s has not printed %s %d times in %v, its log is %s", p.name, pattern, count, limit, p.log)
		}
	}
}

// wait returns how the process ended.
func (p *process) wait(t *testing.T, limit time.Duration) error {
	t.Helper()
	select {
	case <-p.ended:
		return p.err
	case <-time.After(limit):
		p.kill()
		t.Fatalf("%s did not end in %v, its log is %s", p.name, limit, p.log)
		return nil
	}
}

// stop ends the process as an operator does. The exit code says nothing: a JVM ended by a signal never says 0.
func (p *process) stop(t *testing.T) {
	t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = p.wait(t, time.Minute)
}

// kill ends the process as kill -9 does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

func matches(lines []string, pattern *regexp.Regexp) int {
	n := 0
	for _, l := range lines {
		if pattern.MatchString(l) {
			n++
		}
	}
	return n
}

// consume returns the records of a topic that are committed, in the order of their partitions.
func consume(t *testing.T, brokers, topic string, flags ...string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary(t), append([]string{"consume", topic, "--brokers", brokers}, flags...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("consume %s: %v\n%s", topic, err, stderr.Bytes())
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}
