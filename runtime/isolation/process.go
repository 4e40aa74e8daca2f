package isolation

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
)

// process is one started process of a child.
type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser // open as long as the process is wanted
	logger *slog.Logger
	output sync.WaitGroup

	mu     sync.Mutex
	admin  string
	killed error    // why it was killed
	last   []string // lines that were no log, such as of a crash
}

// startProcess starts a process with its caps. The calling goroutine must be locked to its thread for as long as the process is to live.
func startProcess(executable string, args []string, limits Limits, logger *slog.Logger) (*process, error) {
	p := &process{cmd: exec.Command(executable, args...), logger: logger}
	p.cmd.SysProcAttr = attributes()
	p.cmd.Env = environment(os.Environ(), limits)
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a process: %w", err)
	}
	if err := restrict(p.cmd.Process.Pid, limits); err != nil {
		logger.Warn("a cap of the deployment's process is not in force", "error", err)
	}
	p.output.Go(func() { p.readOutput(stdout) })
	p.output.Go(func() { p.readLog(stderr) })
	return p, nil
}

// environment is the parent's with the caps that the Go runtime keeps by itself. The collector works
// harder from three quarters of the cap on.
func environment(parent []string, limits Limits) []string {
	out := make([]string, 0, len(parent)+3)
	for _, v := range parent {
		if name, _, _ := strings.Cut(v, "="); name != "GOMAXPROCS" && name != "GOMEMLIMIT" && name != "GOTRACEBACK" && !strings.HasPrefix(name, "MILLSTREAM_") {
			out = append(out, v)
		}
	}
	return append(out, "GOMAXPROCS="+strconv.Itoa(limits.CPUs), "GOMEMLIMIT="+strconv.FormatInt(limits.MemoryBytes/4*3, 10), "GOTRACEBACK=single")
}

// wait returns when the process is gone, with the reason why.
func (p *process) wait() error {
	p.output.Wait() // both pipes end with the process; Wait would close them early
	err := p.cmd.Wait()
	_ = p.stdin.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.killed != nil {
		return p.killed
	}
	if err != nil && len(p.last) > 0 {
		return fmt.Errorf("%w: %s", err, strings.Join(p.last, "; "))
	}
	return err
}

// terminate asks for an end in good order.
func (p *process) terminate() {
	if err := terminate(p.cmd.Process); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.logger.Warn("ending a process", "error", err)
	}
	_ = p.stdin.Close()
}

// kill ends the process now; the first reason is the one that is told.
func (p *process) kill(why error) {
	p.mu.Lock()
	if p.killed == nil {
		p.killed = why
	}
	p.mu.Unlock()
	if err := kill(p.cmd.Process); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.logger.Warn("killing a process", "error", err)
	}
}

func (p *process) adminURL() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.admin
}

func (p *process) residentBytes() int64 { return residentBytes(p.cmd.Process.Pid) }

// readOutput takes the address out of the first line.
func (p *process) readOutput(r io.Reader) {
	lines := bufio.NewReader(r)
	line, err := lines.ReadBytes('\n')
	var ready struct{ Admin string }
	if err == nil && json.Unmarshal(line, &ready) == nil {
		p.mu.Lock()
		p.admin = ready.Admin
		p.mu.Unlock()
	}
	_, _ = io.Copy(io.Discard, lines)
}

// Of what a process writes that is no log, so many lines of so many bytes are told as the reason of its end.
const (
	lastLines     = 8
	lastLineBytes = 300
	maxLineBytes  = 64 << 10
)

// readLog hands the log of the process on.
func (p *process) readLog(r io.Reader) {
	lines := bufio.NewReaderSize(r, maxLineBytes)
	for {
		line, err := lines.ReadSlice('\n')
		if text := bytes.TrimSpace(line); len(text) > 0 {
			p.log(text)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

func (p *process) log(line []byte) {
	var fields map[string]any
	if err := json.Unmarshal(line, &fields); err != nil {
		p.logger.Error("the process of the deployment says", "line", string(line))
		p.mu.Lock()
		defer p.mu.Unlock()
		// The beginning of a crash says what it was, its traces do not.
		if len(p.last) < lastLines {
			p.last = append(p.last, strings.ToValidUTF8(string(line[:min(len(line), lastLineBytes)]), "�"))
		}
		return
	}
	message, _ := fields[slog.MessageKey].(string)
	levelText, _ := fields[slog.LevelKey].(string)
	var level slog.Level
	if level.UnmarshalText([]byte(levelText)) != nil {
		level = slog.LevelInfo
	}
	var rest []any
	for k, v := range fields {
		switch k {
		case slog.MessageKey, slog.LevelKey, slog.TimeKey, "deployment":
		default:
			rest = append(rest, k, v)
		}
	}
	p.logger.Log(context.Background(), level, message, rest...)
}
