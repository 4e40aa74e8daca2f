package topic

import (
	"context"
	"encoding/base64"
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
	configs bool
}

func newDescribe(env *command.Env) *cli.Command {
	o := &describeOptions{env: env}
	return command.New(env, command.Spec{
		Name: "describe", Usage: "show partitions, offsets, sizes and configs of a topic", Args: "NAME", MinArgs: 1, MaxArgs: 1,
		Description: `Offsets of a partition: log start is the oldest record, log end is where the next one goes, and before last stable
no transaction is open. Offsets counts what lies between log start and log end: records and the marks at which transactions end, less
what compaction took away. Only configs that are set on the topic itself are shown, unless --configs asks for all; JSON has all of
them, with where each value comes from.`,
		Examples: `millstream topic describe notes
millstream topic describe notes --configs
millstream topic describe notes --json | jq '.partitions | map(.size_bytes) | add'`,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "configs", Usage: "show all configs and where their values come from", Destination: &o.configs, DisableDefaultText: true},
		}, o.brokers.Flags(env)...),
		Complete: Names(env),
		Run: func(ctx context.Context, args []string) error {
			o.name = args[0]
			return o.run(ctx)
		},
	})
}

type described struct {
	Topic      string      `json:"topic"`
	ID         string      `json:"topic_id"`
	Internal   bool        `json:"internal,omitempty"`
	Size       int64       `json:"size_bytes"` // -1: the broker does not tell
	Partitions []partition `json:"partitions"`
	Configs    []config    `json:"configs,omitempty"`
}

type partition struct {
	Partition   int32   `json:"partition"`
	Leader      int32   `json:"leader"`
	LeaderEpoch int32   `json:"leader_epoch"`
	Replicas    []int32 `json:"replicas"`
	LogStart    int64   `json:"log_start_offset"`
	LogEnd      int64   `json:"log_end_offset"`
	LastStable  int64   `json:"last_stable_offset"`
	Size        int64   `json:"size_bytes"` // of the leader's log; -1: the broker does not tell
	Problem     string  `json:"problem,omitempty"`
}

type config struct {
	Name   string  `json:"name"`
	Value  *string `json:"value"`  // null: there is none, or it is secret
	Source string  `json:"source"` // by Kafka's names: DYNAMIC_TOPIC_CONFIG, DEFAULT_CONFIG, …
}

// own reports whether a config is set on the topic itself.
func (c *config) own() bool { return strings.HasPrefix(c.Source, "DYNAMIC_TOPIC") }

func (c *config) text() string {
	if c.Value == nil {
		return "-"
	}
	return *c.Value
}

func (o *describeOptions) run(ctx context.Context) error {
	client, err := o.brokers.Admin(ctx)
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
	return o.print(d)
}

func (o *describeOptions) print(d *described) error {
	o.env.Printf("topic %q, %s", d.Topic, terminal.Count(int64(len(d.Partitions)), "partition"))
	if d.Size >= 0 {
		o.env.Printf(", %s", terminal.Size(d.Size))
	}
	o.env.Printf("\n")
	if o.configs {
		t := terminal.NewTable(o.env.Out, "config", "value", "source")
		for _, c := range d.Configs {
			t.Row(c.Name, c.text(), c.Source)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	} else {
		for _, c := range d.Configs {
			if c.own() {
				o.env.Printf("  %s = %s\n", c.Name, terminal.Escape([]byte(c.text())))
			}
		}
	}
	t := terminal.NewTable(o.env.Out, "partition", "leader", "epoch", "log start", "last stable", "log end", "offsets", "size")
	for _, p := range d.Partitions {
		size := "-"
		if p.Size >= 0 {
			size = terminal.Size(p.Size)
		}
		if p.Problem != "" {
			t.Row(p.Partition, p.Leader, p.LeaderEpoch, "-", "-", "-", p.Problem, size)
			continue
		}
		t.Row(p.Partition, p.Leader, p.LeaderEpoch, p.LogStart, p.LastStable, p.LogEnd, p.LogEnd-p.LogStart, size)
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
	d := &described{Topic: o.name, ID: base64.RawURLEncoding.EncodeToString(t.ID[:]), Internal: t.IsInternal, Size: -1, Partitions: []partition{}}
	if err := d.addPartitions(ctx, client, t); err != nil {
		return nil, err
	}
	return d, d.addConfigs(ctx, client)
}

func (d *described) addPartitions(ctx context.Context, client *kadm.Client, t kadm.TopicDetail) error {
	starts, err := client.ListStartOffsets(ctx, d.Topic)
	if err != nil {
		return err
	}
	ends, err := client.ListEndOffsets(ctx, d.Topic)
	if err != nil {
		return err
	}
	stable, err := client.ListCommittedOffsets(ctx, d.Topic)
	if err != nil {
		return err
	}
	sizes := sizesOf(ctx, client, t)
	for _, p := range t.Partitions.Sorted() {
		start, end, last := starts[d.Topic][p.Partition], ends[d.Topic][p.Partition], stable[d.Topic][p.Partition]
		row := partition{
			Partition: p.Partition, Leader: p.Leader, LeaderEpoch: p.LeaderEpoch, Replicas: p.Replicas,
			LogStart: start.Offset, LogEnd: end.Offset, LastStable: last.Offset, Size: -1,
		}
		if err := errors.Join(p.Err, start.Err, end.Err, last.Err); err != nil {
			// One damaged partition does not hide the others.
			row.Problem, row.LogStart, row.LogEnd, row.LastStable = strings.ReplaceAll(err.Error(), "\n", "; "), -1, -1, -1
		}
		if size, ok := sizes[p.Partition]; ok {
			row.Size = size
			d.Size = max(d.Size, 0) + size
		}
		d.Partitions = append(d.Partitions, row)
	}
	return nil
}

// sizesOf are the bytes on disk of each partition, on its leader; empty where brokers do not tell.
func sizesOf(ctx context.Context, client *kadm.Client, t kadm.TopicDetail) map[int32]int64 {
	wanted := kadm.TopicsSet{}
	wanted.Add(t.Topic, t.Partitions.Numbers()...)
	dirs, _ := client.DescribeAllLogDirs(ctx, wanted) // whoever answers is in dirs, beside the error
	sizes := map[int32]int64{}
	dirs.Each(func(dir kadm.DescribedLogDir) {
		for p, found := range dir.Topics[t.Topic] {
			if t.Partitions[p].Leader == dir.Broker && !found.IsFuture {
				sizes[p] += found.Size
			}
		}
	})
	return sizes
}

func (d *described) addConfigs(ctx context.Context, client *kadm.Client) error {
	resources, err := client.DescribeTopicConfigs(ctx, d.Topic)
	if errors.Is(err, kerr.UnsupportedVersion) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, r := range resources {
		if r.Err != nil {
			return refused(r.Err, r.ErrMessage)
		}
		for _, c := range r.Configs {
			d.Configs = append(d.Configs, config{Name: c.Key, Value: c.Value, Source: c.Source.String()})
		}
	}
	slices.SortFunc(d.Configs, func(a, b config) int { return strings.Compare(a.Name, b.Name) })
	return nil
}
