package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/runtime/host/compile"
	"github.com/millstream-io/millstream/runtime/isolation"
	"golang.org/x/term"
)

// Main runs the command line of this process and returns its exit code.
func Main(built string) int {
	compile.Main(os.Args) // servers and workers compile modules in children of their own kind
	isolation.Main(os.Args)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// After the first signal the second one has its usual effect: the end.
	context.AfterFunc(ctx, stop)
	err := New(processEnv(), built).Run(ctx, os.Args[1:])
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		interrupt()
	}
	return command.ExitCode(err)
}

// interrupt ends the process by SIGINT, as a shell expects of a command that
// was interrupted: a loop around it then ends as well.
func interrupt() {
	signal.Reset(os.Interrupt)
	p, err := os.FindProcess(os.Getpid())
	if err != nil || p.Signal(os.Interrupt) != nil {
		return
	}
	time.Sleep(time.Second) // the signal comes at once, but not in zero time
}

// columns is how wide the terminal behind a file is, or 0.
func columns(f *os.File) int {
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

func processEnv() *command.Env {
	terminal := func(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
	return &command.Env{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		InTerminal: terminal(os.Stdin), OutTerminal: terminal(os.Stdout), ErrTerminal: terminal(os.Stderr),
		Columns:   columns(os.Stdout),
		Getenv:    os.Getenv,
		OutClosed: func(ctx context.Context) { untilClosed(ctx, os.Stdout) },
	}
}
