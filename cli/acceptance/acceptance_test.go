// Package acceptance runs the real binary as its users do: unmodified Kafka
// clients in several languages against it, the examples, the quick start of the README.
// What is not on the machine is skipped aloud; with MILLSTREAM_REQUIRE_TOOLS
// set, as on CI, it fails instead.
package acceptance

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// binary is the path of the built command; TestMain sets it.
var binary string

func TestMain(m *testing.M) {
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "millstream-acceptance-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "millstream")
	build := exec.Command("go", "build", "-o", binary, "../millstream")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the binary: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// lack skips a test for want of a tool, or fails it where tools are required.
func lack(t *testing.T, what, install string) {
	t.Helper()
	if os.Getenv("MILLSTREAM_REQUIRE_TOOLS") != "" {
		t.Fatalf("%s is missing (%s)", what, install)
	}
	t.Skipf("SKIPPED: %s is missing (%s)", what, install)
}

func need(t *testing.T, tool, install string) string {
	t.Helper()
	p, err := exec.LookPath(tool)
	if err != nil {
		lack(t, tool, install)
	}
	return p
}

// server is a running millstream server.
type server struct {
	cmd     *exec.Cmd
	dir     string
	Brokers string `json:"brokers"`
	Admin   string `json:"admin"`
	log     bytes.Buffer
	exited  chan struct{}
}

// start runs a server over dir on free ports and waits until it is ready.
func start(t *testing.T, dir string, flags ...string) *server {
	t.Helper()
	s := launch(t, append([]string{"server", "--data", dir, "--listen", "127.0.0.1:0"}, flags...)...)
	s.dir = dir
	return s
}

// launch runs a server or a worker on a free admin port until the end of the test, and waits until it is ready.
func launch(t *testing.T, args ...string) *server {
	t.Helper()
	s := &server{exited: make(chan struct{})}
	s.cmd = exec.Command(binary, append(args, "--admin", "127.0.0.1:0", "--json")...)
	s.cmd.Stderr = &s.log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	go func() { _ = s.cmd.Wait(); close(s.exited) }()
	t.Cleanup(func() { s.stop(t, syscall.SIGTERM) })
	if err == nil {
		err = json.Unmarshal(line, s)
	}
	if err != nil {
		s.stop(t, syscall.SIGKILL)
		t.Fatalf("millstream %s did not start: %v\n%s%s", args[0], err, line, s.log.String())
	}
	return s
}

// stop ends the server with a signal and waits for it.
func (s *server) stop(t *testing.T, sig syscall.Signal) {
	t.Helper()
	_ = s.cmd.Process.Signal(sig)
	select {
	case <-s.exited:
	case <-time.After(30 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.exited
		t.Errorf("the server did not stop within 30 s of %v:\n%s", sig, s.log.String())
	}
	if strings.Contains(s.log.String(), "panic") {
		t.Errorf("the server's log has a panic:\n%s", s.log.String())
	}
}

func (s *server) env() []string {
	return append(os.Environ(), "MILLSTREAM_BROKERS="+s.Brokers, "MILLSTREAM_ADMIN="+s.Admin,
		"PATH="+filepath.Dir(binary)+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// run runs a command against the server and returns its standard output; a failure ends the test.
func (s *server) run(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = s.env()
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s\nserver:\n%s", name, strings.Join(args, " "), err, out, stderr.String(), s.log.String())
	}
	return string(out)
}

// millstream runs the binary against the server.
func (s *server) millstream(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	return s.run(t, stdin, binary, args...)
}
