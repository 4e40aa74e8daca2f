package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/millstream-io/millstream/cli/terminal"
)

// Exit codes. Scripts rely on them.
const (
	CodeOK          = 0
	CodeFailed      = 1
	CodeUsage       = 2 // the command line is wrong
	CodeNotFound    = 3 // a topic, group, deployment, file or plugin does not exist
	CodeConflict    = 4 // it exists already, or its state forbids this
	CodeUnreachable = 5 // no server answers
	CodeInterrupted = 130
)

// ErrOutClosed is the end of a command whose reader went away, as of "millstream consume notes --follow | head".
var ErrOutClosed = errors.New("nobody reads the output any more")

// Error is an error with an exit code and, where there is one, the way out.
type Error struct {
	Code int
	Err  error
	// Fix is one or more lines that tell what to do; "" when the error says it itself.
	Fix string
}

// Error implements error.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Usagef is a mistake on the command line.
func Usagef(format string, args ...any) *Error {
	return &Error{Code: CodeUsage, Err: fmt.Errorf(format, args...)}
}

// Failedf is a failure without a more telling code.
func Failedf(format string, args ...any) *Error {
	return &Error{Code: CodeFailed, Err: fmt.Errorf(format, args...)}
}

// NotFoundf says that something named does not exist.
func NotFoundf(format string, args ...any) *Error {
	return &Error{Code: CodeNotFound, Err: fmt.Errorf(format, args...)}
}

// Conflictf says that something is in the way.
func Conflictf(format string, args ...any) *Error {
	return &Error{Code: CodeConflict, Err: fmt.Errorf(format, args...)}
}

// WithFix adds the way out.
func (e *Error) WithFix(format string, args ...any) *Error {
	e.Fix = fmt.Sprintf(format, args...)
	return e
}

// ExitCode is the process's exit code for an error of Run.
func ExitCode(err error) int {
	var e *Error
	switch {
	case err == nil:
		return CodeOK
	case errors.As(err, &e):
		return e.Code
	case errors.Is(err, context.Canceled):
		return CodeInterrupted
	}
	return CodeFailed
}

// report prints an error once, for people or as one JSON line. A terminal gets no control characters: errors quote names and
// what servers and modules say.
func report(env *Env, err error, asJSON bool) {
	w := env.Err
	code := ExitCode(err)
	if err == nil || code == CodeInterrupted {
		return
	}
	var e *Error
	fix := ""
	if errors.As(err, &e) {
		fix = e.Fix
	}
	if asJSON {
		line, _ := json.Marshal(struct {
			Error    string `json:"error"`
			Fix      string `json:"fix,omitempty"`
			ExitCode int    `json:"exit_code"`
		}{err.Error(), fix, code})
		fmt.Fprintf(w, "%s\n", line)
		return
	}
	printable := func(line string) string {
		if env.ErrTerminal {
			return string(terminal.Escape([]byte(line)))
		}
		return line
	}
	var lines []string
	for line := range strings.Lines(strings.TrimRight(err.Error(), "\n")) {
		lines = append(lines, printable(strings.TrimRight(line, "\r\n")))
	}
	text := strings.Join(lines, "\n")
	if !strings.HasPrefix(text, "millstream ") { // as those do that begin with the command's name
		text = "millstream: " + text
	}
	fmt.Fprintln(w, text)
	for line := range strings.Lines(fix) {
		fmt.Fprintf(w, "  %s\n", printable(strings.TrimRight(line, "\n")))
	}
}
