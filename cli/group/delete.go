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
		Flags:    o.brokers.Flags(env),
		Complete: names(env),
		Run: func(ctx context.Context, args []string) error {
			o.names = args
			return o.run(ctx)
		},
	})
}

func (o *deleteOptions) run(ctx context.Context) error {
	client, err := o.brokers.Admin(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	responses, err := client.DeleteGroups(ctx, o.names...)
	if err != nil {
		return o.brokers.Explain(err, "delete groups")
	}
	return o.brokers.ReportDeleted(o.env, "group", o.names, func(name string) error { return responses[name].Err })
}
