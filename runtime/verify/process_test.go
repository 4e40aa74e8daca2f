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
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// daemon is a process of the binary, a server or a worker, that may be killed and comes back at the same addresses.
type daemon struct {
	bin   string
	args  []string
	admin string // URL of its admin API
	log   *os.File
	// tries is how often a restart is tried, as whoever supervises the process would.
	tries int

	mu    sync.Mutex // guards what a restart replaces
	cmd   *exec.Cmd
	ended chan error
	kills int
}

// startServer runs a server behind a proxy, which clients are told to connect to.
func startServer(t *testing.T, p *proxy, args ...string) *daemon {
	t.Helper()
	listen := freeAddress(t)
	p.target.Store(&listen)
	dir := keptDir(t)
	return start(t, dir, append([]string{"server", "--data", filepath.Join(dir, "data"), "--advertise", p.address(), "--listen", listen}, args...))
}

// startWorker runs a worker over brokers.
func startWorker(t *testing.T, brokers string, args ...string) *daemon {
	t.Helper()
	dir := keptDir(t)
	d := start(t, dir, append([]string{"worker", "--cache", filepath.Join(dir, "cache"), "--brokers", brokers}, args...))
	d.tries = 20 // while its brokers cannot be reached it ends, and says so
	return d
}

// start runs the binary until the test ends. That it panics, or does not end cleanly then, fails the test.
func start(t *testing.T, dir string, args []string) *daemon {
	t.Helper()
	log, err := os.Create(filepath.Join(dir, args[0]+".log"))
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{bin: binaryPath(t), log: log, args: append(args, "--json"), tries: 1}
	t.Cleanup(func() {
		if err := d.stop(); err != nil {
			t.Errorf("the %s ended with %v, its log is %s", args[0], err, log.Name())
		}
		log.Close()
		if b, err := os.ReadFile(log.Name()); err != nil || strings.Contains(string(b), "panic") {
			t.Errorf("the %s panicked (%v), see %s", args[0], err, log.Name())
		}
	})
	if err := d.start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	return d
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
func (d *daemon) start(admin string) error {
	cmd := exec.Command(d.bin, append(slices.Clone(d.args), "--admin", admin)...)
	cmd.Stderr = d.log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var ready struct{ Admin string }
	line, err := bufio.NewReader(out).ReadBytes('\n')
	d.ended = make(chan error, 1)
	d.cmd = cmd
	go func(ended chan<- error) {
		_, _ = io.Copy(io.Discard, out)
		ended <- cmd.Wait()
	}(d.ended)
	if err == nil {
		err = json.Unmarshal(line, &ready)
	}
	if err != nil || ready.Admin == "" {
		return fmt.Errorf("the process did not say where it is: %q, %w; its log is %s", line, err, d.log.Name())
	}
	if d.admin == "" {
		d.admin = ready.Admin
	}
	return nil
}

// crash kills the process as kill -9 does, waits, and starts it anew over what is left.
func (d *daemon) crash(pause time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kills++
	if err := d.cmd.Process.Kill(); err != nil {
		return err
	}
	<-d.ended
	d.ended = nil
	<-time.After(pause)
	return d.startAgain()
}

// restart ends the process as an operator does and starts it anew.
func (d *daemon) restart() error {
	if err := d.stop(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.startAgain()
}

func (d *daemon) startAgain() error {
	for try := 1; ; try++ {
		err := d.start(strings.TrimPrefix(d.admin, "http://"))
		if err == nil || try == d.tries {
			return err
		}
		if d.ended != nil {
			<-d.ended
			d.ended = nil
		}
		<-time.After(200 * time.Millisecond)
	}
}

// freeze stops the process for a while, as a machine that is overloaded or asleep does.
func (d *daemon) freeze(ctx context.Context, rest time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	select {
	case <-time.After(rest):
	case <-ctx.Done():
	}
	return d.cmd.Process.Signal(syscall.SIGCONT)
}

// stop ends the process as an operator does.
func (d *daemon) stop() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended == nil {
		return nil
	}
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-d.ended:
		d.ended = nil
		return err
	case <-time.After(time.Minute):
		_ = d.cmd.Process.Kill()
		return fmt.Errorf("no end a minute after SIGTERM: %w", <-d.ended)
	}
}

func (d *daemon) pid() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cmd.Process.Pid
}
