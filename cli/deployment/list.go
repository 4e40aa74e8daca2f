package deployment

import (
	"cmp"
	"context"
	"time"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/millstream-io/millstream/runtime/admin"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/urfave/cli/v2"
)

type listOptions struct {
	env   *command.Env
	admin connect.Admin
}

// NewList makes the command.
func NewList(env *command.Env) *cli.Command {
	o := &listOptions{env: env}
	return command.New(env, command.Spec{
		Name: "list", Usage: "list deployments", Category: category,
		Description: `The lag is that of all workers of a deployment together. IN, OUT and REJECTED are counted by the process
that answers, since it started.`,
		Examples: `millstream list
millstream list --json | jq -r '.[] | select(.phase != "running") | .spec.name'`,
		Flags: []cli.Flag{o.admin.Flag()},
		Run:   func(ctx context.Context, _ []string) error { return o.run(ctx) },
	})
}

func (o *listOptions) run(ctx context.Context) error {
	client, err := o.admin.Open()
	if err != nil {
		return err
	}
	defer client.Close()
	list, err := client.List(ctx)
	if err != nil {
		return client.Explain(err)
	}
	if o.env.JSON {
		if list == nil {
			list = []admin.Status{}
		}
		return o.env.PrintJSON(list)
	}
	if len(list) == 0 {
		o.env.Notef("no deployments yet; make one: millstream deploy plugin:translate --name spanish --from notes --to notes.es --config to=es --create-topics\n")
		return nil
	}
	t := terminal.NewTable(o.env.Out, "name", "phase", "version", "route", "module", "delivery", "in", "out", "rejected", "lag", "age")
	for _, s := range list {
		t.Row(s.Spec.Name, s.Phase, s.Spec.Version, route(s.Spec), moduleOf(&s), delivery(s.Spec), s.Records, s.Outputs, s.Rejected, s.Lag, terminal.Age(s.Spec.Created, time.Now()))
	}
	return t.Flush()
}

func delivery(s deploy.Spec) string { return cmp.Or(s.Delivery, deploy.DeliveryExactlyOnce) }

// moduleOf is the module's name, or its digest when it has none.
func moduleOf(s *admin.Status) string {
	if s.ModuleName != "" {
		return s.ModuleName
	}
	return shortDigest(s.Spec.Module)
}
