package deployment

import (
	"context"
	"fmt"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/millstream-io/millstream/runtime/admin"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/urfave/cli/v2"
)

type changeOptions struct {
	env   *command.Env
	admin connect.Admin
	name  string
}

func newChange(env *command.Env, o *changeOptions, s command.Spec, run func(context.Context) error) *cli.Command {
	s.Category, s.Args, s.MinArgs, s.MaxArgs = category, "NAME", 1, 1
	s.Flags = append(s.Flags, o.admin.Flag())
	s.Complete = names(env)
	s.Run = func(ctx context.Context, args []string) error {
		o.name = args[0]
		return run(ctx)
	}
	return command.New(env, s)
}

// NewPause makes the command.
func NewPause(env *command.Env) *cli.Command {
	o := &changeOptions{env: env}
	return newChange(env, o, command.Spec{
		Name: "pause", Usage: "stop a deployment, keeping its place",
		Description: "It finishes the batch it works on and leaves its consumer group, whose offsets can then be reset.",
		Examples:    `millstream pause spanish`,
	}, func(ctx context.Context) error {
		return o.change("paused", func(c *connect.AdminClient) (*admin.Status, error) { return c.Pause(ctx, o.name) })
	})
}

// NewResume makes the command.
func NewResume(env *command.Env) *cli.Command {
	o := &changeOptions{env: env}
	return newChange(env, o, command.Spec{
		Name: "resume", Usage: "go on with a paused or failed deployment",
		Examples: `millstream resume spanish`,
	}, func(ctx context.Context) error {
		return o.change("resumed", func(c *connect.AdminClient) (*admin.Status, error) { return c.Resume(ctx, o.name) })
	})
}

func (o *changeOptions) change(done string, do func(*connect.AdminClient) (*admin.Status, error)) error {
	s, err := act(&o.admin, do)
	if err != nil {
		return err
	}
	if o.env.JSON {
		return o.env.PrintJSON(s)
	}
	o.env.Printf("%s\n", outcome(done, s))
	tell(o.env, s.Reason)
	return nil
}

// outcome tells what became of a deployment that should be done something to. One that does not run has nothing to be paused.
func outcome(done string, s *admin.Status) string {
	if done == "paused" && s.Spec.State != deploy.Paused {
		return fmt.Sprintf("not paused, %s does not run: %s", s.Spec.Name, s.Phase)
	}
	return fmt.Sprintf("%s %s: %s", done, s.Spec.Name, s.Phase)
}

// NewDelete makes the command.
func NewDelete(env *command.Env) *cli.Command {
	o := &changeOptions{env: env}
	return newChange(env, o, command.Spec{
		Name: "delete", Usage: "stop and forget a deployment",
		Description: "Its topics stay, also NAME.dlq; the offsets of its consumer group are forgotten.",
		Examples:    `millstream delete spanish`,
	}, func(ctx context.Context) error {
		_, err := act(&o.admin, func(c *connect.AdminClient) (*admin.Status, error) { return nil, c.Delete(ctx, o.name) })
		if err != nil {
			return err
		}
		if o.env.JSON {
			return o.env.PrintJSON(map[string]any{"deleted": o.name})
		}
		o.env.Printf("deleted deployment %s; its topics stay\n", o.name)
		return nil
	})
}
