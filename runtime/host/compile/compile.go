// Package compile compiles modules in a child process, so that one which is
// within all caps and still takes the compiler minutes or gigabytes costs a
// child and not the server.
//
// The child is the same executable, started with ChildArgument; its main
// function calls Main first of all. It reads the module from its standard
// input, compiles it into wazero's compilation cache and ends. The parent then
// compiles from the cache, in milliseconds. What once passed is remembered in
// the cache directory and needs no child again.
//
// The cache holds native code: whoever can write the directory runs code in the
// server. It is made with mode 0700.
//
// InChild is safe for concurrent use, also by several processes.
package compile

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/millstream-io/millstream/runtime/module"
)

// ChildArgument is the first argument of a child process.
const ChildArgument = "__compile-module"

// childVariable is set in a child's environment: a child that starts a child is an
// executable whose main function does not call Main.
const childVariable = "MILLSTREAM_COMPILE_CHILD"

// Limits bound one compilation. Zero fields take the defaults.
type Limits struct {
	CPUTime     time.Duration // default 10 s, in whole seconds
	WallTime    time.Duration // default 20 s
	MemoryBytes int64         // of writable memory; default 1 GiB
}

func (l Limits) withDefaults() Limits {
	if l.CPUTime <= 0 {
		l.CPUTime = 10 * time.Second
	}
	if l.WallTime <= 0 {
		l.WallTime = 20 * time.Second
	}
	if l.MemoryBytes <= 0 {
		l.MemoryBytes = 1 << 30
	}
	return l
}

// Exit codes of a child.
const (
	exitDone    = 0
	exitInvalid = 3 // the compiler refused the module
	exitFailed  = 4 // the child could not do its work
)

// InChild compiles wasm, which has passed module.Check and is metered, into the
// cache in cacheDir. Errors: *module.Refusal if the module needs more than the
// limits or is invalid, otherwise what kept the child from running.
func InChild(ctx context.Context, wasm []byte, cacheDir string, limits Limits) error {
	limits = limits.withDefaults()
	if os.Getenv(childVariable) != "" {
		return fmt.Errorf("compile: %s does not call compile.Main", os.Args[0])
	}
	mark, err := prepare(cacheDir, wasm)
	if err != nil {
		return err
	}
	if _, err := os.Stat(mark); err == nil {
		return nil
	}
	if err := runChild(ctx, wasm, cacheDir, limits); err != nil {
		removeRemains(cacheDir, limits.WallTime)
		return err
	}
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		return fmt.Errorf("compile: remember the module: %w", err)
	}
	return nil
}

// prepare makes the directories and returns the path that marks wasm as compiled before.
func prepare(cacheDir string, wasm []byte) (mark string, err error) {
	if cacheDir == "" {
		return "", errors.New("compile: no cache directory to compile into")
	}
	passed := filepath.Join(cacheDir, "passed")
	if err := os.MkdirAll(passed, 0o700); err != nil {
		return "", fmt.Errorf("compile: cache directory: %w", err)
	}
	info, err := os.Stat(cacheDir)
	if err != nil {
		return "", fmt.Errorf("compile: cache directory: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(cacheDir, 0o700); err != nil {
			return "", fmt.Errorf("compile: cache directory %s has mode %v and holds native code: %w", cacheDir, info.Mode().Perm(), err)
		}
	}
	digest := sha256.Sum256(wasm)
	return filepath.Join(passed, hex.EncodeToString(digest[:])), nil
}

func runChild(ctx context.Context, wasm []byte, cacheDir string, limits Limits) error {
	executable, err := os.Executable()
	if err != nil {
		return fmt.Errorf("compile: %w", err)
	}
	timed, cancel := context.WithTimeout(ctx, limits.WallTime)
	defer cancel()
	cpuSeconds := int64((limits.CPUTime + time.Second - 1) / time.Second)
	cmd := exec.CommandContext(timed, executable, ChildArgument, cacheDir,
		strconv.FormatInt(cpuSeconds, 10), strconv.FormatInt(limits.MemoryBytes, 10))
	cmd.Env = []string{childVariable + "=1", "GOTRACEBACK=none", "GOMAXPROCS=1"}
	cmd.Stdin = bytes.NewReader(wasm)
	output := &boundedBuffer{}
	cmd.Stdout, cmd.Stderr = output, output
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	if err == nil {
		return nil
	}
	return explain(ctx, timed, err, output.String(), limits)
}

// explain turns the end of a child into an error that says what to do.
func explain(ctx, timed context.Context, err error, output string, limits Limits) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	refuse := func(format string, args ...any) error {
		return &module.Refusal{
			Reason:   fmt.Sprintf(format, args...),
			Position: -1,
			Fix:      "slim the module (fewer and smaller functions), or raise the limits of compilation",
		}
	}
	var exit *exec.ExitError
	switch {
	case timed.Err() != nil:
		return refuse("takes longer than %v to compile", limits.WallTime)
	case !errors.As(err, &exit):
		return fmt.Errorf("compile: child process: %w", err)
	case exit.ExitCode() == exitInvalid:
		return &module.Refusal{Reason: strings.TrimSpace(output), Position: -1, Fix: "build it again with a released compiler"}
	case strings.Contains(output, "out of memory"), strings.Contains(output, "cannot allocate"):
		return refuse("needs more than %d MiB of memory to compile", limits.MemoryBytes>>20)
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		if signal := status.Signal(); signal == syscall.SIGKILL || isCPUSignal(signal) {
			return refuse("takes more than %v of CPU time to compile", limits.CPUTime)
		}
	}
	return fmt.Errorf("compile: child process: %w: %s", err, strings.TrimSpace(output))
}

// removeRemains deletes temporary files that killed children left behind, once they are
// too old to be another child's.
func removeRemains(cacheDir string, age time.Duration) {
	files, _ := filepath.Glob(filepath.Join(cacheDir, "wazero-*", "*.tmp"))
	for _, file := range files {
		if info, err := os.Stat(file); err == nil && time.Since(info.ModTime()) > 2*age {
			_ = os.Remove(file) // another try follows at the next failure
		}
	}
}

// boundedBuffer keeps the beginning of what a child prints.
type boundedBuffer struct{ bytes.Buffer }

const outputBytes = 16 << 10

// Write implements io.Writer.
func (b *boundedBuffer) Write(p []byte) (int, error) {
	if room := outputBytes - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
