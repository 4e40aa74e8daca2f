package group

import (
	"context"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/urfave/cli/v2"
)

type deleteOptions struct {
	env     *command.Env
	brokers connect.Brokers
	names   []string
}

func newDelete(env *command.Env) *cli.Command {
	o := &deleteOptions{env: env}
	return command.New(env, command.Spec{
		Name: "delete", Usage: "delete groups and their committed offsets", Args: "NAME…", MinArgs: 1, MaxArgs: -1,
		Description: "A group must have no members. A deployment whose group is deleted begins again where its start position says.",
		Examples: `millstream group delete reports
millstream group delete old-1 old-2 --json`,
		Flags:    []cli.Flag{o.brokers.Flag()},
		Complete: names(env),
		Run: func(ctx context.Context, args []string) error {
			o.names = args
			return o.run(ctx)
		},
	})
}

func (o *deleteOptions) run(ctx context.Context) error {
	client, err := admin(ctx, &o.brokers)
	if err != nil {
		return err
	}
	defer client.Close()
	responses, err := client.DeleteGroups(ctx, o.names...)
	if err != nil {
		return o.brokers.Explain(err, "delete groups")
	}
	var failure error
	deleted := []string{}
	for _, name := range o.names {
		if err := responses[name].Err; err != nil {
			if failure == nil {
				failure = o.brokers.Explain(err, named(name))
			}
			continue
		}
		deleted = append(deleted, name)
		if !o.env.JSON {
			o.env.Printf("deleted group %q\n", name)
		}
	}
	if o.env.JSON {
		if err := o.env.PrintJSON(map[string]any{"deleted": deleted}); err != nil {
			return err
		}
	}
	return failure
}
