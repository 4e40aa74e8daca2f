package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// App is the set of commands of one invocation.
type App struct {
	env *Env
	cli *cli.App
}

// NewApp makes an app of commands made with the same env.
func NewApp(env *Env, usage string, commands ...*cli.Command) *App {
	commands = append(commands, newCompletion(env))
	app := &cli.App{
		Name:                      "millstream",
		HelpName:                  "millstream",
		Usage:                     usage,
		Commands:                  commands,
		Reader:                    env.In,
		Writer:                    env.Out,
		ErrWriter:                 env.Err,
		HideHelpCommand:           true,
		HideVersion:               true,
		EnableBashCompletion:      true,
		Suggest:                   true,
		DisableSliceFlagSeparator: true,
		CustomAppHelpTemplate:     appHelp(env, usage, commands),
		OnUsageError:              usageError,
		// The library's own handler would exit the process.
		ExitErrHandler: func(*cli.Context, error) {},
	}
	app.BashComplete = func(cc *cli.Context) { completeCommands(cc.App.Writer, commands) }
	return &App{env: env, cli: app}
}

// Commands are the commands, for tests that look at all of them.
func (a *App) Commands() []*cli.Command { return a.cli.Commands }

// Run runs one command line, without the program's name, prints its error if there is one and returns the error.
func (a *App) Run(ctx context.Context, args []string) error {
	a.env.args = args
	err := a.run(ctx, args)
	report(a.env, err, a.env.JSON || jsonAsked(args))
	return err
}

func (a *App) run(ctx context.Context, args []string) error {
	if n := len(args); n > 0 && args[n-1] == completionFlag {
		return a.cli.RunContext(ctx, append([]string{"millstream"}, append(commandPath(a.cli.Commands, args), completionFlag)...))
	}
	arranged, err := arrange(a.cli.Commands, args)
	if err != nil {
		return err
	}
	return a.cli.RunContext(ctx, append([]string{"millstream"}, arranged...))
}

// jsonAsked reports whether an error before flags were parsed should be JSON.
func jsonAsked(args []string) bool {
	if i := slices.Index(args, "--"); i >= 0 {
		args = args[:i]
	}
	return slices.Contains(args, "--json")
}

// commandPath returns the leading words that name a command.
func commandPath(commands []*cli.Command, args []string) []string {
	var path []string
	for _, word := range args {
		i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(word) })
		if i < 0 {
			break
		}
		path = append(path, word)
		commands = commands[i].Subcommands
	}
	return path
}

// PrintJSON writes v as one line of JSON.
func (e *Env) PrintJSON(v any) error {
	enc := json.NewEncoder(e.Out)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// Printf writes to the output.
func (e *Env) Printf(format string, args ...any) { fmt.Fprintf(e.Out, format, args...) }

// Notef writes a remark for people beside the output; with --json there are none.
func (e *Env) Notef(format string, args ...any) {
	if !e.JSON {
		fmt.Fprintf(e.Err, format, args...)
	}
}

// UntilOutClosed returns a context that also ends, with ErrOutClosed for a
// cause, when nobody reads the output any more: a command that waits for
// records would otherwise learn that at its next line, which may never come.
func (e *Env) UntilOutClosed(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	if e.OutClosed != nil {
		go func() {
			e.OutClosed(ctx)
			cancel(ErrOutClosed)
		}()
	}
	return ctx, func() { cancel(nil) }
}

// completeCommands prints command names for the shell.
func completeCommands(w io.Writer, commands []*cli.Command) {
	for _, c := range commands {
		if !c.Hidden {
			fmt.Fprintln(w, c.Name)
		}
	}
}

// complete prints what may follow the words typed so far: flags behind a dash, else the command's own suggestions.
func complete(ctx context.Context, env *Env, c *cli.Command, s Spec) {
	typed := env.args[:max(0, len(env.args)-1)]
	if n := len(typed); n > 0 && strings.HasPrefix(typed[n-1], "-") {
		for _, f := range c.VisibleFlags() {
			for _, name := range f.Names() {
				if len(name) > 1 {
					fmt.Fprintln(env.Out, "--"+name)
				}
			}
		}
		return
	}
	if s.Complete == nil {
		return
	}
	_, arguments, err := partition(c, c.HelpName, typed[len(strings.Fields(c.HelpName))-1:])
	if err != nil {
		return
	}
	for _, word := range s.Complete(ctx, arguments) {
		fmt.Fprintln(env.Out, word)
	}
}
