package isolation

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	goruntime "runtime"
	"time"

	"github.com/millstream-io/millstream/runtime"
	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/runtime/module"
)

// ProveArgument is the first argument of a process that proves a module.
const ProveArgument = "__prove-module"

// Main does the work of a proving process and exits, if that is what this process was
// started for; otherwise it returns. The executable of Options must call it, before anything that takes its time and behind compile.Main.
func Main(args []string) {
	if len(args) == 3 && args[1] == ProveArgument {
		os.Exit(proveMain(os.Stdin, os.Stdout, args[2]))
	}
}

// verdict is what a proving process answers.
type verdict struct {
	Proved  bool
	Trap    *host.Trap
	Setup   *host.SetupError
	Refusal *module.Refusal
	Other   string
}

func proveMain(in io.Reader, out io.Writer, cacheDir string) int {
	var p runtime.Proof
	v := verdict{}
	if err := gob.NewDecoder(in).Decode(&p); err != nil {
		v.Other = err.Error()
	} else if err := proveHere(context.Background(), &p, cacheDir); err != nil {
		v = verdictOf(err)
	} else {
		v.Proved = true
	}
	if err := gob.NewEncoder(out).Encode(v); err != nil {
		return 1
	}
	return 0
}

func verdictOf(err error) verdict {
	v := verdict{Other: err.Error()}
	v.Trap, _ = errors.AsType[*host.Trap](err)
	v.Setup, _ = errors.AsType[*host.SetupError](err)
	v.Refusal, _ = errors.AsType[*module.Refusal](err)
	return v
}

// proveHere makes one instance of the module in this process.
func proveHere(ctx context.Context, p *runtime.Proof, cacheDir string) (err error) {
	h, err := host.New(ctx, host.Options{CacheDir: cacheDir, ChildProcess: cacheDir != ""})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close(ctx)) }()
	program, err := h.Compile(ctx, p.Wasm, p.Limits)
	if err != nil {
		return err
	}
	instance, err := program.Instantiate(ctx, p.Setup, nil)
	if err != nil {
		return err
	}
	return instance.Close(ctx)
}

// proveTimeout is longer than a compilation and a setup may take.
const proveTimeout = 2 * time.Minute

// Prove implements runtime.Launcher.
func (s *Supervisor) Prove(ctx context.Context, p runtime.Proof) error {
	ctx, cancel := context.WithTimeout(ctx, proveTimeout)
	defer cancel()
	var in bytes.Buffer
	if err := gob.NewEncoder(&in).Encode(&p); err != nil {
		return fmt.Errorf("prove the module: %w", err)
	}
	goruntime.LockOSThread() // as for a child
	defer goruntime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, s.options.Executable, ProveArgument, s.options.CacheDir)
	cmd.SysProcAttr = attributes()
	cmd.Env = environment(os.Environ(), s.options.Limits)
	cmd.Cancel = func() error { return kill(cmd.Process) }
	cmd.Stdin = &in
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &boundedBuffer{&problems}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("prove the module: %w", err)
	}
	if err := restrict(cmd.Process.Pid, s.options.Limits); err != nil {
		s.options.Logger.Warn("a cap of the process that proves a module is not in force", "error", err)
	}
	over := s.guardMemory(cmd)
	err := cmd.Wait()
	if overErr := over(); overErr != nil {
		return overErr
	}
	if ctx.Err() != nil {
		return fmt.Errorf("prove the module: %w", context.Cause(ctx))
	}
	var v verdict
	if decodeErr := gob.NewDecoder(&out).Decode(&v); decodeErr != nil {
		return fmt.Errorf("the process that proves the module ended without a verdict: %w: %s", errors.Join(err, decodeErr), problems.String())
	}
	return v.err()
}

// guardMemory kills the process when it is over the cap. The function that it returns ends that and tells whether it was.
func (s *Supervisor) guardMemory(cmd *exec.Cmd) (over func() error) {
	ended, result := make(chan struct{}), make(chan error, 1)
	go func() {
		ticker := time.NewTicker(memoryInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ended:
				result <- nil
				return
			case <-ticker.C:
			}
			if resident := residentBytes(cmd.Process.Pid); resident > s.options.Limits.MemoryBytes {
				_ = kill(cmd.Process)
				result <- &host.Trap{Kind: host.TrapMemory, Detail: fmt.Sprintf("its process used %d MiB of memory at its start, its limit is %d MiB", resident>>20, s.options.Limits.MemoryBytes>>20)}
				return
			}
		}
	}()
	return func() error {
		close(ended)
		return <-result
	}
}

// err is the error that the proving process had, with its type.
func (v *verdict) err() error {
	switch {
	case v.Proved:
		return nil
	case v.Trap != nil:
		return fmt.Errorf("start the module: %w", v.Trap)
	case v.Setup != nil:
		return fmt.Errorf("start the module: %w", v.Setup)
	case v.Refusal != nil:
		return v.Refusal
	}
	return fmt.Errorf("start the module: %s", v.Other)
}

// boundedBuffer keeps the beginning of what a process prints.
type boundedBuffer struct{ kept *bytes.Buffer }

const keptBytes = 4 << 10

// Write implements io.Writer.
func (b *boundedBuffer) Write(p []byte) (int, error) {
	if room := keptBytes - b.kept.Len(); room > 0 {
		b.kept.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
