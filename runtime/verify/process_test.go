package verify

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// server is a process of the binary over a directory of its own, behind a proxy
// that clients are told to connect to.
type server struct {
	proxy *proxy
	admin string // URL, the same over restarts
	bin   string
	args  []string
	log   *os.File

	mu    sync.Mutex // guards what a restart replaces
	cmd   *exec.Cmd
	ended chan error
	kills int
}

// startServer runs a server until the test ends. That it panics, or does not end
// cleanly then, fails the test.
func startServer(t *testing.T, p *proxy, args ...string) *server {
	t.Helper()
	dir := keptDir(t)
	log, err := os.Create(filepath.Join(dir, "server.log"))
	if err != nil {
		t.Fatal(err)
	}
	s := &server{proxy: p, bin: binaryPath(t), log: log, args: append([]string{
		"server", "--json", "--data", filepath.Join(dir, "data"), "--advertise", p.address(),
	}, args...)}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("the server ended with %v, its log is %s", err, log.Name())
		}
		log.Close()
		if b, err := os.ReadFile(log.Name()); err != nil || strings.Contains(string(b), "panic") {
			t.Errorf("the server panicked (%v), see %s", err, log.Name())
		}
	})
	listen := freeAddress(t)
	p.target.Store(&listen)
	if err := s.start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	return s
}

// freeAddress is an address that nobody listens on: with --advertise a server
// does not say which one it has taken itself.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start runs the process and waits until it serves.
func (s *server) start(admin string) error {
	cmd := exec.Command(s.bin, append(append([]string{}, s.args...), "--listen", *s.proxy.target.Load(), "--admin", admin)...)
	cmd.Stderr = s.log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var ready struct{ Admin string }
	line, err := bufio.NewReader(out).ReadBytes('\n')
	s.ended = make(chan error, 1)
	s.cmd = cmd
	go func(ended chan<- error) {
		_, _ = io.Copy(io.Discard, out)
		ended <- cmd.Wait()
	}(s.ended)
	if err == nil {
		err = json.Unmarshal(line, &ready)
	}
	if err != nil || ready.Admin == "" {
		return fmt.Errorf("the server did not say where it is: %q, %w; its log is %s", line, err, s.log.Name())
	}
	if s.admin == "" {
		s.admin = ready.Admin
	}
	return nil
}

// crash kills the process as kill -9 does, waits, and starts it anew over what is left.
func (s *server) crash(pause time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kills++
	if err := s.cmd.Process.Kill(); err != nil {
		return err
	}
	<-s.ended
	s.ended = nil
	<-time.After(pause)
	return s.start(strings.TrimPrefix(s.admin, "http://"))
}

// freeze stops the process for a while, as a machine that is overloaded or asleep does.
func (s *server) freeze(ctx context.Context, d time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
	return s.cmd.Process.Signal(syscall.SIGCONT)
}

// stop ends the process as an operator does.
func (s *server) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended == nil {
		return nil
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-s.ended:
		s.ended = nil
		return err
	case <-time.After(time.Minute):
		_ = s.cmd.Process.Kill()
		return fmt.Errorf("no end a minute after SIGTERM: %w", <-s.ended)
	}
}
