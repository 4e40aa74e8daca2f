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
		Flags:       []cli.Flag{o.brokers.Flag()},
		Complete:    Names(env),
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
	responses, err := client.DeleteTopics(ctx, o.names...)
	if err != nil {
		return o.brokers.Explain(err, "delete topics")
	}
	var failure error
	deleted := []string{}
	for _, name := range o.names {
		r := responses[name]
		if r.Err != nil {
			if failure == nil {
				failure = o.brokers.Explain(r.Err, named(name))
			}
			continue
		}
		deleted = append(deleted, name)
		if !o.env.JSON {
			o.env.Printf("deleted topic %q\n", name)
		}
	}
	if o.env.JSON {
		if err := o.env.PrintJSON(map[string]any{"deleted": deleted}); err != nil {
			return err
		}
	}
	return failure
}
