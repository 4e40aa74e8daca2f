package topic

import (
	"context"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/urfave/cli/v2"
)

type listOptions struct {
	env      *command.Env
	brokers  connect.Brokers
	internal bool
}

func newList(env *command.Env) *cli.Command {
	o := &listOptions{env: env}
	return command.New(env, command.Spec{
		Name: "list", Usage: "list topics",
		Description: "Offsets counts what lies between the start and the end of a topic's logs: records and the marks at which\ntransactions end, less what compaction took away.",
		Examples: `millstream topic list
millstream topic list --json | jq -r '.[].topic'`,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "internal", Usage: "also those that the server keeps for itself", Destination: &o.internal, DisableDefaultText: true},
		}, o.brokers.Flags(env)...),
		Run: func(ctx context.Context, _ []string) error { return o.run(ctx) },
	})
}

type listed struct {
	Topic      string `json:"topic"`
	Partitions int    `json:"partitions"`
	Offsets    int64  `json:"offsets"` // between log start and end; transaction markers count
	Internal   bool   `json:"internal,omitempty"`
}

func (o *listOptions) run(ctx context.Context) error {
	client, err := o.brokers.Admin(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	rows, err := o.list(ctx, client)
	if err != nil {
		return o.brokers.Explain(err, "list topics")
	}
	if o.env.JSON {
		return o.env.PrintJSON(rows)
	}
	if len(rows) == 0 {
		o.env.Notef("no topics yet; make one: millstream topic create NAME\n")
		return nil
	}
	t := terminal.NewTable(o.env.Out, "topic", "partitions", "offsets")
	for _, r := range rows {
		t.Row(r.Topic, r.Partitions, r.Offsets)
	}
	return t.Flush()
}

func (o *listOptions) list(ctx context.Context, client *kadm.Client) ([]listed, error) {
	topics, err := client.ListTopicsWithInternal(ctx)
	if err != nil {
		return nil, err
	}
	rows := []listed{}
	var names []string
	for _, t := range topics.Sorted() {
		internal := t.IsInternal || reserved(t.Topic)
		if internal && !o.internal {
			continue
		}
		names = append(names, t.Topic)
		rows = append(rows, listed{Topic: t.Topic, Partitions: len(t.Partitions), Internal: internal})
	}
	if len(names) == 0 {
		return rows, nil
	}
	starts, err := client.ListStartOffsets(ctx, names...)
	if err != nil {
		return nil, err
	}
	ends, err := client.ListEndOffsets(ctx, names...)
	if err != nil {
		return nil, err
	}
	for i := range rows {
		for p, end := range ends[rows[i].Topic] {
			rows[i].Offsets += end.Offset - starts[rows[i].Topic][p].Offset
		}
	}
	return rows, nil
}

// reserved reports whether a topic's name belongs to the server, by Kafka's custom of two underscores.
func reserved(name string) bool { return len(name) > 2 && name[:2] == "__" }
