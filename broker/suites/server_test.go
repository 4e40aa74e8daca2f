package suites

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// server is a process of the binary under test over a directory of its own.
type server struct {
	brokers string // the address, the same over restarts
	args    []string
	log     *os.File
	cmd     *exec.Cmd
	ended   chan error
}

// startServer runs the binary over an empty directory until the test ends. An
// unclean end, and a panic of a handler, fail the test.
func startServer(t *testing.T, args ...string) (brokers string) {
	t.Helper()
	return newServer(t, args...).brokers
}

// newServer is startServer for tests that kill what they have started.
func newServer(t *testing.T, args ...string) *server {
	t.Helper()
	logPath := filepath.Join(keptDir(t), "server.log")
	log, err := os.Create(logPath)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{log: log, args: append([]string{"server", "--data", filepath.Join(t.TempDir(), "data"), "--admin", "127.0.0.1:0", "--json"}, args...)}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("the server ended with %v, its log is %s", err, logPath)
		}
		log.Close()
		b, err := os.ReadFile(logPath)
		if err != nil || strings.Contains(string(b), "panicked") {
			t.Errorf("a handler panicked (%v), see %s", err, logPath)
		}
		if at := strings.Index(string(b), "WARNING: DATA RACE"); at >= 0 { // of a binary built with -race
			t.Errorf("the server has a data race, see %s:\n%.4000s", logPath, b[at:])
		}
	})
	if err := s.start(t, "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	return s
}

// start runs the process and waits until it serves.
func (s *server) start(t *testing.T, listen string) error {
	s.cmd = exec.Command(binary(t), append([]string{s.args[0], "--listen", listen}, s.args[1:]...)...)
	s.cmd.Stderr = s.log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	var ready struct{ Brokers string }
	line, err := bufio.NewReader(out).ReadBytes('\n')
	s.ended = make(chan error, 1)
	go func(cmd *exec.Cmd, ended chan<- error) {
		_, _ = io.Copy(io.Discard, out)
		ended <- cmd.Wait()
	}(s.cmd, s.ended)
	if err == nil {
		err = json.Unmarshal(line, &ready)
	}
	if err != nil || ready.Brokers == "" {
		return fmt.Errorf("the server did not say where it is: %q, %w; its log is %s", line, err, s.log.Name())
	}
	s.brokers = ready.Brokers
	return nil
}

// crash kills the process as kill -9 does and starts it anew over what is left.
func (s *server) crash(t *testing.T) {
	t.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-s.ended
	s.ended = nil
	if err := s.start(t, s.brokers); err != nil {
		t.Fatal(err)
	}
}

// stop ends the process as an operator does.
func (s *server) stop() error {
	if s.ended == nil {
		return nil
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-s.ended:
		return err
	case <-time.After(time.Minute):
		_ = s.cmd.Process.Kill()
		return fmt.Errorf("no end a minute after SIGTERM: %w", <-s.ended)
	}
}
