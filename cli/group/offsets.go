package group

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/urfave/cli/v2"
)

type deleteOffsetsOptions struct {
	env     *command.Env
	brokers connect.Brokers
	name    string
	topics  cli.StringSlice
	dryRun  bool
}

func newDeleteOffsets(env *command.Env) *cli.Command {
	o := &deleteOffsetsOptions{env: env}
	return command.New(env, command.Spec{
		Name: "delete-offsets", Usage: "forget how far a group is in a topic", Args: "NAME", MinArgs: 1, MaxArgs: 1,
		Description: "No member may be subscribed to the topic. Who reads it next begins where a new group would.",
		Examples: `millstream group delete-offsets reports --topic notes.old
millstream group delete-offsets reports --topic notes:0 --topic notes:1 --dry-run`,
		Flags: append([]cli.Flag{
			&cli.StringSliceFlag{Name: "topic", Usage: "`TOPIC` or TOPIC:PARTITION; may be repeated", Destination: &o.topics},
			&cli.BoolFlag{Name: "dry-run", Usage: "only show what would be deleted", Destination: &o.dryRun, DisableDefaultText: true},
		}, o.brokers.Flags(env)...),
		Required: []string{"topic"},
		Complete: names(env),
		Run: func(ctx context.Context, args []string) error {
			o.name = args[0]
			return o.run(ctx)
		},
	})
}

// forgotten is an offset that is deleted.
type forgotten struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Committed int64  `json:"committed_offset"`
}

func (o *deleteOffsetsOptions) run(ctx context.Context) error {
	wanted, err := parseSelection(o.topics.Value())
	if err != nil {
		return err
	}
	client, err := o.brokers.Admin(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	rows, err := o.plan(ctx, client, wanted)
	if err == nil && !o.dryRun {
		err = o.delete(ctx, client, rows)
	}
	if err != nil {
		return o.brokers.Explain(err, named(o.name))
	}
	if o.env.JSON {
		return o.env.PrintJSON(map[string]any{"group": o.name, "dry_run": o.dryRun, "deleted": rows})
	}
	t := terminal.NewTable(o.env.Out, "topic", "partition", "committed")
	for _, r := range rows {
		t.Row(r.Topic, r.Partition, r.Committed)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if o.dryRun {
		o.env.Notef("nothing was deleted (--dry-run)\n")
	}
	return nil
}

// plan finds the committed offsets that are selected.
func (o *deleteOffsetsOptions) plan(ctx context.Context, client *kadm.Client, wanted selection) ([]forgotten, error) {
	groups, err := load(ctx, client, o.name)
	if err != nil {
		return nil, err
	}
	if groups[o.name] == nil {
		return nil, notFound(o.name)
	}
	responses, err := client.FetchOffsets(ctx, o.name)
	if err != nil {
		return nil, err
	}
	committed := responses.Offsets()
	rows := []forgotten{}
	for _, topic := range slices.Sorted(maps.Keys(wanted)) {
		before := len(rows)
		for _, p := range slices.Sorted(maps.Keys(committed[topic])) {
			if wanted.has(topic, p) {
				rows = append(rows, forgotten{Topic: topic, Partition: p, Committed: committed[topic][p].At})
			}
		}
		if len(rows) == before {
			return nil, command.NotFoundf("group %q has committed no such offset for topic %q", o.name, topic).
				WithFix("see what it has: millstream group describe %s", o.name)
		}
	}
	return rows, nil
}

func (o *deleteOffsetsOptions) delete(ctx context.Context, client *kadm.Client, rows []forgotten) error {
	set := kadm.TopicsSet{}
	for _, r := range rows {
		set.Add(r.Topic, r.Partition)
	}
	responses, err := client.DeleteOffsets(ctx, o.name, set)
	if err != nil {
		return err
	}
	var errs []error
	responses.EachError(func(topic string, p int32, err error) {
		if errors.Is(err, kerr.GroupSubscribedToTopic) {
			err = command.Conflictf("group %q has members that are subscribed to topic %q", o.name, topic).
				WithFix("stop them first; a deployment: millstream pause %s", o.name)
		}
		errs = append(errs, fmt.Errorf("%s partition %d: %w", topic, p, err))
	})
	return errors.Join(errs...)
}
