package topic

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/urfave/cli/v2"
)

type describeOptions struct {
	env     *command.Env
	brokers connect.Brokers
	name    string
}

func newDescribe(env *command.Env) *cli.Command {
	o := &describeOptions{env: env}
	return command.New(env, command.Spec{
		Name: "describe", Usage: "show partitions, offsets and configs of a topic", Args: "NAME", MinArgs: 1, MaxArgs: 1,
		Examples: `millstream topic describe notes`,
		Flags:    []cli.Flag{o.brokers.Flag()},
		Complete: Names(env),
		Run: func(ctx context.Context, args []string) error {
			o.name = args[0]
			return o.run(ctx)
		},
	})
}

type described struct {
	Topic      string            `json:"topic"`
	Internal   bool              `json:"internal,omitempty"`
	Partitions []partition       `json:"partitions"`
	Configs    map[string]string `json:"configs,omitempty"`
	changed    []string          // configs that are not defaults
}

type partition struct {
	Partition int32 `json:"partition"`
	Leader    int32 `json:"leader"`
	LogStart  int64 `json:"log_start_offset"`
	LogEnd    int64 `json:"log_end_offset"`
}

func (o *describeOptions) run(ctx context.Context) error {
	client, err := admin(ctx, &o.brokers)
	if err != nil {
		return err
	}
	defer client.Close()
	d, err := o.describe(ctx, client)
	if err != nil {
		return o.brokers.Explain(err, named(o.name))
	}
	if o.env.JSON {
		return o.env.PrintJSON(d)
	}
	o.env.Printf("topic %q, %d partition(s)\n", d.Topic, len(d.Partitions))
	for _, k := range d.changed {
		o.env.Printf("  %s = %s\n", k, d.Configs[k])
	}
	t := terminal.NewTable(o.env.Out, "partition", "log start", "log end", "records")
	for _, p := range d.Partitions {
		t.Row(p.Partition, p.LogStart, p.LogEnd, p.LogEnd-p.LogStart)
	}
	return t.Flush()
}

func (o *describeOptions) describe(ctx context.Context, client *kadm.Client) (*described, error) {
	topics, err := client.ListTopics(ctx, o.name)
	if err != nil {
		return nil, err
	}
	t := topics[o.name]
	if t.Err != nil {
		return nil, t.Err
	}
	starts, err := client.ListStartOffsets(ctx, o.name)
	if err != nil {
		return nil, err
	}
	ends, err := client.ListEndOffsets(ctx, o.name)
	if err != nil {
		return nil, err
	}
	d := &described{Topic: o.name, Internal: t.IsInternal, Partitions: []partition{}}
	for _, p := range t.Partitions.Sorted() {
		d.Partitions = append(d.Partitions, partition{
			Partition: p.Partition, Leader: p.Leader,
			LogStart: starts[o.name][p.Partition].Offset, LogEnd: ends[o.name][p.Partition].Offset,
		})
	}
	return d, o.describeConfigs(ctx, client, d)
}

func (o *describeOptions) describeConfigs(ctx context.Context, client *kadm.Client, d *described) error {
	configs, err := client.DescribeTopicConfigs(ctx, o.name)
	if errors.Is(err, kerr.UnsupportedVersion) {
		return nil
	}
	if err != nil {
		return err
	}
	d.Configs = map[string]string{}
	for _, r := range configs {
		if r.Err != nil {
			return r.Err
		}
		for _, c := range r.Configs {
			d.Configs[c.Key] = c.MaybeValue()
			if strings.HasPrefix(c.Source.String(), "DYNAMIC_TOPIC") {
				d.changed = append(d.changed, c.Key)
			}
		}
	}
	slices.Sort(d.changed)
	return nil
}
