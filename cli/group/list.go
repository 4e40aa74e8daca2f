package group

import (
	"context"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/millstream-io/millstream/cli/terminal"
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
		Examples: `millstream group list`,
		Flags:    []cli.Flag{o.brokers.Flag()},
		Run:      func(ctx context.Context, _ []string) error { return o.run(ctx) },
	})
}

type listed struct {
	Group   string `json:"group"`
	State   string `json:"state"`
	Members int    `json:"members"`
	Lag     int64  `json:"lag_records"`
}

func (o *listOptions) run(ctx context.Context) error {
	client, err := admin(ctx, &o.brokers)
	if err != nil {
		return err
	}
	defer client.Close()
	groups, err := client.ListGroups(ctx)
	if err != nil {
		return o.brokers.Explain(err, "list groups")
	}
	rows := []listed{}
	if len(groups) > 0 {
		lags, err := client.Lag(ctx, groups.Groups()...)
		if err != nil {
			return o.brokers.Explain(err, "list groups")
		}
		for _, l := range lags.Sorted() {
			rows = append(rows, listed{Group: l.Group, State: l.State, Members: len(l.Members), Lag: l.Lag.Total()})
		}
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
