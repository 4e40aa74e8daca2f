package topic

import (
	"context"
	"errors"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/urfave/cli/v2"
)

type createOptions struct {
	env         *command.Env
	brokers     connect.Brokers
	name        string
	partitions  int
	configs     cli.StringSlice
	ifNotExists bool
}

func newCreate(env *command.Env) *cli.Command {
	o := &createOptions{env: env}
	return command.New(env, command.Spec{
		Name: "create", Usage: "create a topic", Args: "NAME", MinArgs: 1, MaxArgs: 1,
		Description: "Records of one key stay in one partition and in order; partitions are what is worked on in parallel.",
		Examples: `millstream topic create notes
millstream topic create notes --partitions 4 --config retention.ms=604800000`,
		Flags: append([]cli.Flag{
			&cli.IntFlag{Name: "partitions", Usage: "`NUMBER` of partitions; 0: the server's default", Destination: &o.partitions},
			&cli.StringSliceFlag{Name: "config", Usage: "topic config `KEY=VALUE` by Kafka's names; may be repeated", Destination: &o.configs},
			&cli.BoolFlag{Name: "if-not-exists", Usage: "succeed if there is one already", Destination: &o.ifNotExists, DisableDefaultText: true},
		}, o.brokers.Flags(env)...),
		Run: func(ctx context.Context, args []string) error {
			o.name = args[0]
			return o.run(ctx)
		},
	})
}

type created struct {
	Topic      string `json:"topic"`
	Partitions int    `json:"partitions"`
	Created    bool   `json:"created"`
}

func (o *createOptions) run(ctx context.Context) error {
	if err := checkCount(o.partitions); err != nil {
		return err
	}
	configs, err := configs(o.configs.Value())
	if err != nil {
		return err
	}
	client, err := o.brokers.Admin(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	partitions := int32(o.partitions)
	if partitions == 0 {
		partitions = -1
	}
	r, err := client.CreateTopic(ctx, partitions, -1, configs, o.name)
	result := created{Topic: o.name, Partitions: int(r.NumPartitions), Created: true}
	if errors.Is(err, kerr.TopicAlreadyExists) && o.ifNotExists {
		result, err = existing(ctx, client, o.name)
	}
	if err != nil {
		return o.explain(err, r.ErrMessage)
	}
	if o.env.JSON {
		return o.env.PrintJSON(result)
	}
	if !result.Created {
		o.env.Printf("topic %q exists already\n", o.name)
		return nil
	}
	o.env.Printf("created topic %q with %s\n", o.name, terminal.Count(int64(result.Partitions), "partition"))
	return nil
}

func (o *createOptions) explain(err error, message string) error {
	explained := o.brokers.Explain(err, named(o.name))
	var e *command.Error
	if errors.As(explained, &e) {
		if errors.Is(err, kerr.TopicAlreadyExists) {
			return command.Conflictf("topic %q exists already", o.name).
				WithFix("look at it: millstream topic describe %s; or add --if-not-exists", o.name)
		}
		if message != "" {
			e.Err = command.Failedf("topic %q: %s", o.name, message).Err
		}
	}
	return explained
}

func existing(ctx context.Context, client *kadm.Client, name string) (created, error) {
	topics, err := client.ListTopics(ctx, name)
	if err != nil {
		return created{}, err
	}
	return created{Topic: name, Partitions: len(topics[name].Partitions)}, topics[name].Err
}
