package group

import (
	"context"
	"maps"
	"slices"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/urfave/cli/v2"
)

type listOptions struct {
	env     *command.Env
	brokers connect.Brokers
}

func newList(env *command.Env) *cli.Command {
	o := &listOptions{env: env}
	return command.New(env, command.Spec{
		Name: "list", Usage: "list consumer groups",
		Examples: `millstream group list
millstream group list --json | jq -r '.[] | select(.lag_records > 1000).group'`,
		Flags: o.brokers.Flags(env),
		Run:   func(ctx context.Context, _ []string) error { return o.run(ctx) },
	})
}

type listed struct {
	Group   string `json:"group"`
	Type    string `json:"type"`
	State   string `json:"state"`
	Members int    `json:"members"`
	Lag     int64  `json:"lag_records"`
}

func (o *listOptions) run(ctx context.Context) error {
	client, err := o.brokers.Admin(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	rows, err := o.list(ctx, client)
	if err != nil {
		return o.brokers.Explain(err, "list groups")
	}
	if o.env.JSON {
		return o.env.PrintJSON(rows)
	}
	if len(rows) == 0 {
		o.env.Notef("no consumer groups yet\n")
		return nil
	}
	t := terminal.NewTable(o.env.Out, "group", "state", "members", "lag")
	for _, r := range rows {
		t.Row(r.Group, r.State, r.Members, r.Lag)
	}
	return t.Flush()
}

func (o *listOptions) list(ctx context.Context, client *kadm.Client) ([]listed, error) {
	all, err := client.ListGroups(ctx)
	if err != nil {
		return nil, err
	}
	groups, err := load(ctx, client, all.Groups()...)
	if err != nil {
		return nil, err
	}
	partitions, err := progress(ctx, client, groups)
	if err != nil {
		return nil, err
	}
	rows := []listed{}
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		g := groups[name]
		rows = append(rows, listed{Group: name, Type: g.Type, State: g.State, Members: len(g.Members), Lag: total(partitions[name])})
	}
	return rows, nil
}
