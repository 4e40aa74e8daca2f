// Package command is the one way to make a command of the millstream binary.
// It gives every command the same manners: --json, help with an example, flags
// before or after arguments, errors that name the fix, stable exit codes and
// shell completion.
//
// A command is an options struct, whose fields the flags fill in, and a run
// function over it. Nothing here or in a command touches the process: input,
// output, environment and context come from outside, and no function exits.
// The flag library is known here and in the packages that declare commands, nowhere else.
package command

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
)

// Env is what one invocation of the binary may use of the world.
type Env struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
	// OutTerminal and ErrTerminal tell whether a person is looking.
	OutTerminal bool
	ErrTerminal bool
	InTerminal  bool
	// Columns is how wide the terminal behind Out is; 0: there is none, or nobody knows.
	Columns int
	Getenv  func(string) string

	// OutClosed blocks until nobody reads Out any more, or ctx ends; nil: that cannot be told.
	OutClosed func(ctx context.Context)

	// JSON is set by --json: results and errors are JSON, one document or one line per result.
	JSON bool

	args []string // of this invocation, without the program's name
}

// Spec describes a command.
type Spec struct {
	Name  string
	Usage string // one line, lower case, no full stop
	// Args shows the arguments in the usage line: "TOPIC", "[DIR]".
	Args string
	// MinArgs and MaxArgs bound the number of arguments; MaxArgs < 0 means any.
	MinArgs, MaxArgs int
	Description      string
	Examples         string // one command a line
	Flags            []cli.Flag
	// Required names flags that must be given.
	Required []string
	// Complete suggests arguments for the shell, for those given so far; nil: files.
	Complete func(ctx context.Context, args []string) []string
	Category string
	Run      func(ctx context.Context, args []string) error
}

// New makes a command.
func New(env *Env, s Spec) *cli.Command {
	flags := append([]cli.Flag{}, s.Flags...)
	flags = append(flags, &cli.BoolFlag{Name: "json", Usage: "print JSON", Destination: &env.JSON, DisableDefaultText: true})
	c := &cli.Command{
		Name:               s.Name,
		Usage:              s.Usage,
		ArgsUsage:          s.Args,
		Category:           s.Category,
		Flags:              flags,
		HideHelpCommand:    true,
		CustomHelpTemplate: commandHelp(env, s, flags),
		OnUsageError:       usageError,
	}
	c.BashComplete = func(cc *cli.Context) { complete(cc.Context, env, c, s) }
	c.Action = func(cc *cli.Context) error {
		for _, name := range s.Required {
			if !cc.IsSet(name) {
				return usageOf(c, "--%s is missing", name)
			}
		}
		args := cc.Args().Slice()
		switch {
		case len(args) < s.MinArgs:
			return usageOf(c, "needs %s", s.Args)
		case s.MaxArgs >= 0 && len(args) > s.MaxArgs:
			return usageOf(c, "does not expect the argument %q", args[s.MaxArgs])
		}
		return s.Run(cc.Context, args)
	}
	return c
}

// Group makes a command that only holds others.
func Group(env *Env, name, usage, category string, commands ...*cli.Command) *cli.Command {
	c := &cli.Command{
		Name:               name,
		Usage:              usage,
		Category:           category,
		Subcommands:        commands,
		HideHelpCommand:    true,
		CustomHelpTemplate: groupHelp(env, usage, commands),
		OnUsageError:       usageError,
	}
	c.BashComplete = func(cc *cli.Context) { completeCommands(cc.App.Writer, commands) }
	return c
}

func usageOf(c *cli.Command, format string, args ...any) error {
	usage := strings.TrimSpace(c.HelpName + " " + c.ArgsUsage)
	return &Error{
		Code: CodeUsage,
		Err:  fmt.Errorf("%s: "+format, append([]any{c.HelpName}, args...)...),
		Fix:  fmt.Sprintf("usage: %s [flags]; all of it: %s --help", usage, c.HelpName),
	}
}
