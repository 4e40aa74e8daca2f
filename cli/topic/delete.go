package topic

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
		Name: "delete", Usage: "delete topics and all their records", Args: "NAME…", MinArgs: 1, MaxArgs: -1,
		Description: "There is no way back: the records are gone.",
		Examples:    `millstream topic delete notes.old`,
		Flags:       o.brokers.Flags(env),
		Complete:    Names(env),
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
	responses, err := client.DeleteTopics(ctx, o.names...)
	if err != nil {
		return o.brokers.Explain(err, "delete topics")
	}
	return o.brokers.ReportDeleted(o.env, "topic", o.names, func(name string) error { return responses[name].Err })
}
