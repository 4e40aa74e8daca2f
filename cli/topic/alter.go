package topic

import (
	"context"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/urfave/cli/v2"
)

type alterOptions struct {
	env        *command.Env
	brokers    connect.Brokers
	name       string
	partitions int
	configs    cli.StringSlice
	unset      cli.StringSlice
}

func newAlter(env *command.Env) *cli.Command {
	o := &alterOptions{env: env}
	return command.New(env, command.Spec{
		Name: "alter", Usage: "change configs or add partitions", Args: "NAME", MinArgs: 1, MaxArgs: 1,
		Description: "Partitions can be added, never taken away. Keys then go to other partitions than before, so order per key\nholds only among records written after the change.",
		Examples: `millstream topic alter notes --config retention.ms=86400000
millstream topic alter notes --partitions 8`,
		Flags: append([]cli.Flag{
			&cli.IntFlag{Name: "partitions", Usage: "new `NUMBER` of partitions", Destination: &o.partitions},
			&cli.StringSliceFlag{Name: "config", Usage: "set a config, `KEY=VALUE`; may be repeated", Destination: &o.configs},
			&cli.StringSliceFlag{Name: "unset", Usage: "take a config `KEY` back to its default; may be repeated", Destination: &o.unset},
		}, o.brokers.Flags(env)...),
		Complete: Names(env),
		Run: func(ctx context.Context, args []string) error {
			o.name = args[0]
			return o.run(ctx)
		},
	})
}

func (o *alterOptions) run(ctx context.Context) error {
	configs, err := configs(o.configs.Value())
	if err != nil {
		return err
	}
	var changes []kadm.AlterConfig
	for k, v := range configs {
		changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: k, Value: v})
	}
	for _, k := range o.unset.Value() {
		changes = append(changes, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: k})
	}
	if err := checkCount(o.partitions); err != nil {
		return err
	}
	if len(changes) == 0 && o.partitions == 0 {
		return command.Usagef("nothing to change").WithFix("give --partitions, --config or --unset")
	}
	client, err := o.brokers.Admin(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := o.alter(ctx, client, changes); err != nil {
		return o.brokers.Explain(err, named(o.name))
	}
	if o.env.JSON {
		return o.env.PrintJSON(map[string]any{"topic": o.name, "altered": true})
	}
	o.env.Printf("altered topic %q\n", o.name)
	return nil
}

func (o *alterOptions) alter(ctx context.Context, client *kadm.Client, changes []kadm.AlterConfig) error {
	if len(changes) > 0 {
		responses, err := client.AlterTopicConfigs(ctx, changes, o.name)
		if err != nil {
			return err
		}
		for _, r := range responses {
			if r.Err != nil {
				return refused(r.Err, r.ErrMessage)
			}
		}
	}
	if o.partitions > 0 {
		responses, err := client.UpdatePartitions(ctx, o.partitions, o.name)
		if err != nil {
			return err
		}
		r := responses[o.name]
		return refused(r.Err, r.ErrMessage)
	}
	return nil
}

// refused gives an error code of the broker the sentence that came with it.
func refused(err error, message string) error {
	if err == nil || message == "" {
		return err
	}
	return &refusal{message: message, code: err}
}

type refusal struct {
	message string
	code    error
}

func (r *refusal) Error() string { return r.message }
func (r *refusal) Unwrap() error { return r.code }
