package group

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/millstream-io/millstream/cli/stream"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/urfave/cli/v2"
)

type resetOptions struct {
	env     *command.Env
	brokers connect.Brokers
	name    string
	to      string
	topics  cli.StringSlice
	dryRun  bool
}

func newReset(env *command.Env) *cli.Command {
	o := &resetOptions{env: env}
	return command.New(env, command.Spec{
		Name: "reset", Usage: "set where a group goes on reading", Args: "NAME", MinArgs: 1, MaxArgs: 1,
		Description: "The group must have no members: pause a deployment before, resume it afterwards. Without --topic all topics are\nreset that the group has committed offsets for.",
		Examples: `millstream pause translate && millstream group reset translate --to start && millstream resume translate
millstream group reset reports --to 2h --topic notes --dry-run
millstream group reset reports --to 1500 --topic notes:0`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "to", Usage: "`POSITION`: start, end, an offset, an RFC 3339 time, or a duration ago such as 10m", Destination: &o.to},
			&cli.StringSliceFlag{Name: "topic", Usage: "only `TOPIC` or TOPIC:PARTITION; may be repeated", Destination: &o.topics},
			&cli.BoolFlag{Name: "dry-run", Usage: "only show what would be set", Destination: &o.dryRun, DisableDefaultText: true},
		}, o.brokers.Flags(env)...),
		Required: []string{"to"},
		Complete: names(env),
		Run: func(ctx context.Context, args []string) error {
			o.name = args[0]
			return o.run(ctx)
		},
	})
}

type change struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	From      int64  `json:"from_offset"` // -1: none committed
	To        int64  `json:"to_offset"`
}

func (o *resetOptions) run(ctx context.Context) error {
	to, err := stream.ParsePosition(o.to, time.Now())
	if err != nil {
		return command.Usagef("--to: %w", err)
	}
	selected, err := parseSelection(o.topics.Value())
	if err != nil {
		return err
	}
	client, err := o.brokers.Admin(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	changes, err := o.plan(ctx, client, to, selected)
	if err == nil && !o.dryRun {
		err = o.commit(ctx, client, changes)
	}
	if err != nil {
		return o.brokers.Explain(err, named(o.name))
	}
	if o.env.JSON {
		return o.env.PrintJSON(map[string]any{"group": o.name, "dry_run": o.dryRun, "changes": changes})
	}
	t := terminal.NewTable(o.env.Out, "topic", "partition", "from", "to")
	for _, c := range changes {
		t.Row(c.Topic, c.Partition, orDash(c.From), c.To)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if o.dryRun {
		o.env.Notef("nothing was changed (--dry-run)\n")
	}
	return nil
}

// plan finds the new offset of every partition that is to be reset.
func (o *resetOptions) plan(ctx context.Context, client *kadm.Client, to stream.Position, selected selection) ([]change, error) {
	committed, err := o.committed(ctx, client)
	if err != nil {
		return nil, err
	}
	wanted, err := o.wanted(ctx, client, committed, selected)
	if err != nil {
		return nil, err
	}
	changes := []change{}
	for _, topic := range slices.Sorted(maps.Keys(wanted)) {
		targets, err := stream.Resolve(ctx, client, topic, to)
		if err != nil {
			return nil, err
		}
		for _, p := range slices.Sorted(maps.Keys(wanted[topic])) {
			at, ok := targets[p]
			if !ok {
				return nil, stream.NoPartition(topic, int(p), len(targets))
			}
			c := change{Topic: topic, Partition: p, From: -1, To: at}
			if offset, ok := committed.Lookup(topic, p); ok {
				c.From = offset.At
			}
			changes = append(changes, c)
		}
	}
	return changes, nil
}

// committed returns the group's offsets, or says why they cannot be reset.
func (o *resetOptions) committed(ctx context.Context, client *kadm.Client) (kadm.Offsets, error) {
	groups, err := load(ctx, client, o.name)
	if err != nil {
		return nil, err
	}
	g := groups[o.name]
	if g == nil {
		if len(o.topics.Value()) == 0 {
			return nil, notFound(o.name)
		}
		return nil, nil // committing makes the group
	}
	if n := len(g.Members); n > 0 {
		return nil, command.Conflictf("group %q has %s and is %s", o.name, terminal.Count(int64(n), "member"), g.State).
			WithFix("stop its members first; a deployment: millstream pause %s", o.name)
	}
	responses, err := client.FetchOffsets(ctx, o.name)
	if err != nil {
		return nil, err
	}
	return responses.Offsets(), nil
}

// wanted are the selected partitions, else those with a committed offset.
func (o *resetOptions) wanted(ctx context.Context, client *kadm.Client, committed kadm.Offsets, selected selection) (kadm.TopicsSet, error) {
	out := kadm.TopicsSet{}
	for name, only := range selected {
		if only != nil {
			out.Add(name, slices.Collect(maps.Keys(only))...)
			continue
		}
		partitions, err := stream.Partitions(ctx, client, name)
		if err != nil {
			return nil, o.brokers.Explain(err, "topic "+strconv.Quote(name))
		}
		out.Add(name, partitions...)
	}
	if len(selected) == 0 {
		committed.Each(func(offset kadm.Offset) { out.Add(offset.Topic, offset.Partition) })
		if len(out) == 0 {
			return nil, command.Conflictf("group %q has no committed offsets", o.name).WithFix("name what to set: --topic TOPIC")
		}
	}
	return out, nil
}

func (o *resetOptions) commit(ctx context.Context, client *kadm.Client, changes []change) error {
	offsets := kadm.Offsets{}
	for _, c := range changes {
		offsets.Add(kadm.Offset{Topic: c.Topic, Partition: c.Partition, At: c.To, LeaderEpoch: -1})
	}
	responses, err := client.CommitOffsets(ctx, o.name, offsets)
	if err != nil {
		return err
	}
	var errs []error
	responses.Each(func(r kadm.OffsetResponse) {
		if r.Err != nil {
			errs = append(errs, r.Err)
		}
	})
	return errors.Join(errs...)
}
