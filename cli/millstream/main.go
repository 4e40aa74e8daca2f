// Command millstream is the binary: a broker and a runtime for WebAssembly
// functions between topics, and everything to work with them.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/millstream-io/millstream/cli"
	"github.com/millstream-io/millstream/cli/command"
	"golang.org/x/term"
)

// version is set by the linker: -X main.version=v1.2.3.
var version string

func main() { os.Exit(run()) }

// run runs the command line of the process.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// After the first signal the second one has its usual effect: the end.
	context.AfterFunc(ctx, stop)
	err := cli.New(processEnv(), version).Run(ctx, os.Args[1:])
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		interrupt()
	}
	return command.ExitCode(err)
}

// interrupt ends the process by SIGINT, as a shell expects of a command that
// was interrupted: a loop around it then ends as well.
func interrupt() {
	signal.Reset(os.Interrupt)
	if p, err := os.FindProcess(os.Getpid()); err == nil {
		_ = p.Signal(os.Interrupt)
	}
}

func processEnv() *command.Env {
	return &command.Env{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		InTerminal: isTerminal(os.Stdin), OutTerminal: isTerminal(os.Stdout), ErrTerminal: isTerminal(os.Stderr),
		Getenv: os.Getenv,
	}
}

func isTerminal(f io.Writer) bool {
	file, ok := f.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
