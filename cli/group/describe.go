package group

import (
	"context"
	"fmt"
	"strings"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/millstream-io/millstream/cli/terminal"
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
		Name: "describe", Usage: "show state, members, assignment, offsets and lag of a group", Args: "NAME", MinArgs: 1, MaxArgs: 1,
		Description: "Lag is how many offsets lie between what is committed and the end of a partition; markers of transactions count.",
		Examples: `millstream group describe translate
millstream group describe translate --json | jq .lag_records`,
		Flags:    o.brokers.Flags(env),
		Complete: names(env),
		Run: func(ctx context.Context, args []string) error {
			o.name = args[0]
			return o.run(ctx)
		},
	})
}

type described struct {
	*state
	Lag        int64       `json:"lag_records"`
	Partitions []partition `json:"partitions"`
}

func (o *describeOptions) run(ctx context.Context) error {
	client, err := o.brokers.Admin(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	groups, err := load(ctx, client, o.name)
	if err != nil {
		return o.brokers.Explain(err, named(o.name))
	}
	g, ok := groups[o.name]
	if !ok {
		return notFound(o.name)
	}
	rows, err := progress(ctx, client, groups)
	if err != nil {
		return o.brokers.Explain(err, named(o.name))
	}
	d := &described{state: g, Lag: total(rows[o.name]), Partitions: append([]partition{}, rows[o.name]...)}
	if o.env.JSON {
		return o.env.PrintJSON(d)
	}
	return o.print(d)
}

func (o *describeOptions) print(d *described) error {
	o.env.Printf("group %q is %s, %s, lag %d\n", d.Name, d.State, terminal.Count(int64(len(d.Members)), "member"), d.Lag)
	if len(d.Members) > 0 {
		o.env.Printf("  type %s, assignor %s\n", d.Type, dash(d.Assignor))
	}
	if len(d.Partitions) > 0 {
		t := terminal.NewTable(o.env.Out, "topic", "partition", "committed", "log end", "lag", "client", "member")
		for _, p := range d.Partitions {
			if p.Problem != "" {
				t.Row(p.Topic, p.Partition, orDash(p.Committed), "-", p.Problem, dash(p.Client), dash(p.Member))
				continue
			}
			t.Row(p.Topic, p.Partition, orDash(p.Committed), p.LogEnd, orDash(p.Lag), dash(p.Client), dash(p.Member))
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	if len(d.Members) == 0 {
		return nil
	}
	o.env.Printf("\n")
	t := terminal.NewTable(o.env.Out, "member", "instance", "client", "host", "assignment")
	for _, m := range d.Members {
		t.Row(m.ID, dash(m.Instance), dash(m.Client), m.Host, assignmentText(m.Assignment))
	}
	return t.Flush()
}

// assignmentText writes "notes 0 1, orders 2".
func assignmentText(all []assignment) string {
	var parts []string
	for _, a := range all {
		parts = append(parts, a.Topic+" "+strings.Trim(fmt.Sprint(a.Partitions), "[]"))
	}
	return dash(strings.Join(parts, ", "))
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
