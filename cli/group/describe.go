package group

import (
	"context"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/twmb/franz-go/pkg/kadm"
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
		Name: "describe", Usage: "show members, offsets and lag of a group", Args: "NAME", MinArgs: 1, MaxArgs: 1,
		Examples: `millstream group describe translate`,
		Flags:    []cli.Flag{o.brokers.Flag()},
		Complete: names(env),
		Run: func(ctx context.Context, args []string) error {
			o.name = args[0]
			return o.run(ctx)
		},
	})
}

type described struct {
	Group      string      `json:"group"`
	State      string      `json:"state"`
	Assignor   string      `json:"assignor,omitempty"`
	Lag        int64       `json:"lag_records"`
	Members    []member    `json:"members"`
	Partitions []partition `json:"partitions"`
}

type member struct {
	ID     string `json:"member_id"`
	Client string `json:"client_id"`
	Host   string `json:"host"`
}

type partition struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Committed int64  `json:"committed_offset"` // -1: none
	LogEnd    int64  `json:"log_end_offset"`
	Lag       int64  `json:"lag_records"`
	Member    string `json:"member_id,omitempty"`
	Client    string `json:"client_id,omitempty"`
}

func (o *describeOptions) run(ctx context.Context) error {
	client, err := admin(ctx, &o.brokers)
	if err != nil {
		return err
	}
	defer client.Close()
	lag, err := lagOf(ctx, client, o.name)
	if err != nil {
		return o.brokers.Explain(err, named(o.name))
	}
	d := describe(lag)
	if o.env.JSON {
		return o.env.PrintJSON(d)
	}
	o.env.Printf("group %q is %s, %s, lag %d\n", d.Group, d.State, terminal.Count(int64(len(d.Members)), "member"), d.Lag)
	if len(d.Partitions) == 0 {
		return nil
	}
	t := terminal.NewTable(o.env.Out, "topic", "partition", "committed", "log end", "lag", "client", "member")
	for _, p := range d.Partitions {
		t.Row(p.Topic, p.Partition, orDash(p.Committed), p.LogEnd, orDash(p.Lag), dash(p.Client), dash(p.Member))
	}
	return t.Flush()
}

// lagOf describes a group; one without members or offsets does not exist.
func lagOf(ctx context.Context, client *kadm.Client, name string) (*kadm.DescribedGroupLag, error) {
	lags, err := client.Lag(ctx, name)
	if err != nil {
		return nil, err
	}
	lag, ok := lags[name]
	if !ok {
		return nil, notFound(name)
	}
	if err := lag.Error(); err != nil {
		return nil, err
	}
	if lag.State == "Dead" {
		return nil, notFound(name)
	}
	return &lag, nil
}

func describe(lag *kadm.DescribedGroupLag) *described {
	d := &described{
		Group: lag.Group, State: lag.State, Assignor: lag.Protocol, Lag: lag.Lag.Total(),
		Members: []member{}, Partitions: []partition{},
	}
	for _, m := range lag.Members {
		d.Members = append(d.Members, member{ID: m.MemberID, Client: m.ClientID, Host: m.ClientHost})
	}
	for _, l := range lag.Lag.Sorted() {
		p := partition{Topic: l.Topic, Partition: l.Partition, Committed: l.Commit.At, LogEnd: l.End.Offset, Lag: l.Lag}
		if l.Member != nil {
			p.Member, p.Client = l.Member.MemberID, l.Member.ClientID
		}
		d.Partitions = append(d.Partitions, p)
	}
	return d
}

func orDash(n int64) any {
	if n < 0 {
		return "-"
	}
	return n
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
