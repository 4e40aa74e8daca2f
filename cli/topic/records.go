package topic

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/millstream-io/millstream/cli/stream"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/urfave/cli/v2"
)

type deleteRecordsOptions struct {
	env       *command.Env
	brokers   connect.Brokers
	name      string
	before    string
	partition int
	dryRun    bool
}

func newDeleteRecords(env *command.Env) *cli.Command {
	o := &deleteRecordsOptions{env: env}
	return command.New(env, command.Spec{
		Name: "delete-records", Usage: "delete the oldest records of a topic", Args: "NAME", MinArgs: 1, MaxArgs: 1,
		Description: `Moves the log start of each partition: records before it are gone for every reader. There is no way back. What lies
behind the end of a partition, or in a transaction that is still open, is left alone. Disk space comes back with whole segments.`,
		Examples: `millstream topic delete-records notes --before 7d --dry-run
millstream topic delete-records notes --before 2026-11-21T13:00:00Z
millstream topic delete-records notes --before 1500 --partition 0
millstream topic delete-records notes --before end`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "before", Usage: "`POSITION` of the first record to keep: an offset, an RFC 3339 time, a duration ago such as 10m, or end", Destination: &o.before},
			&cli.IntFlag{Name: "partition", Usage: "only this partition `NUMBER`", Value: stream.AllPartitions, DefaultText: "all", Destination: &o.partition},
			&cli.BoolFlag{Name: "dry-run", Usage: "only show what would be deleted", Destination: &o.dryRun, DisableDefaultText: true},
		}, o.brokers.Flags(env)...),
		Required: []string{"before"},
		Complete: Names(env),
		Run: func(ctx context.Context, args []string) error {
			o.name = args[0]
			return o.run(ctx)
		},
	})
}

// truncation is what happens to one partition.
type truncation struct {
	Partition int32 `json:"partition"`
	Before    int64 `json:"log_start_offset_before"`
	After     int64 `json:"log_start_offset"`
}

func (o *deleteRecordsOptions) run(ctx context.Context) error {
	before, err := stream.ParsePosition(o.before, time.Now())
	if err != nil {
		return command.Usagef("--before: %w", err)
	}
	client, err := o.brokers.Admin(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	changes, err := o.plan(ctx, client, before)
	if err == nil && !o.dryRun {
		err = o.delete(ctx, client, changes)
	}
	if err != nil {
		return o.brokers.Explain(err, named(o.name))
	}
	if o.env.JSON {
		return o.env.PrintJSON(map[string]any{"topic": o.name, "dry_run": o.dryRun, "partitions": changes})
	}
	t := terminal.NewTable(o.env.Out, "partition", "log start", "new log start", "offsets")
	for _, c := range changes {
		t.Row(c.Partition, c.Before, c.After, c.After-c.Before)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if o.dryRun {
		o.env.Notef("nothing was deleted (--dry-run)\n")
	}
	return nil
}

// plan finds the new log start of every partition.
func (o *deleteRecordsOptions) plan(ctx context.Context, client *kadm.Client, before stream.Position) ([]truncation, error) {
	targets, err := stream.Resolve(ctx, client, o.name, before)
	if err != nil {
		return nil, err
	}
	starts, err := client.ListStartOffsets(ctx, o.name)
	if err != nil {
		return nil, err
	}
	only, err := stream.PartitionNumber(o.partition)
	if err != nil {
		return nil, err
	}
	if _, ok := targets[only]; !ok && only != stream.AllPartitions {
		return nil, stream.NoPartition(o.name, o.partition, len(targets))
	}
	changes := []truncation{}
	for _, p := range slices.Sorted(maps.Keys(targets)) {
		if only == stream.AllPartitions || p == only {
			changes = append(changes, truncation{Partition: p, Before: starts[o.name][p].Offset, After: targets[p]})
		}
	}
	return changes, nil
}

// delete moves the log starts and notes where they are now.
func (o *deleteRecordsOptions) delete(ctx context.Context, client *kadm.Client, changes []truncation) error {
	offsets := kadm.Offsets{}
	for _, c := range changes {
		offsets.Add(kadm.Offset{Topic: o.name, Partition: c.Partition, At: c.After})
	}
	responses, err := client.DeleteRecords(ctx, offsets)
	if err != nil {
		return err
	}
	for i := range changes {
		r, ok := responses.Lookup(o.name, changes[i].Partition)
		switch {
		case !ok:
			return command.Failedf("partition %d: the broker did not answer for it", changes[i].Partition)
		case r.Err != nil:
			return fmt.Errorf("partition %d: %w", changes[i].Partition, r.Err)
		}
		changes[i].After = r.LowWatermark
	}
	return nil
}
