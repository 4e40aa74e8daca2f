package deployment

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/millstream-io/millstream/runtime/admin"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/urfave/cli/v2"
)

type statusOptions struct {
	env   *command.Env
	admin connect.Admin
	name  string
}

// NewStatus makes the command.
func NewStatus(env *command.Env) *cli.Command {
	o := &statusOptions{env: env}
	return command.New(env, command.Spec{
		Name: "status", Usage: "show how a deployment does", Category: category,
		Args: "NAME", MinArgs: 1, MaxArgs: 1,
		Examples: `millstream status spanish
millstream status spanish --json | jq .lag_records`,
		Flags:    []cli.Flag{o.admin.Flag()},
		Complete: names(env),
		Run: func(ctx context.Context, args []string) error {
			o.name = args[0]
			return o.run(ctx)
		},
	})
}

func (o *statusOptions) run(ctx context.Context) error {
	s, err := act(&o.admin, func(c *connect.AdminClient) (*admin.Status, error) { return c.Get(ctx, o.name) })
	if err != nil {
		return err
	}
	if o.env.JSON {
		return o.env.PrintJSON(s)
	}
	style := terminal.NewStyle(o.env.OutTerminal, o.env.Getenv)
	o.env.Printf("%s is %s: %s\n", style.Bold(s.Spec.Name), colouredPhase(style, s.Phase), route(s.Spec))
	if s.Reason != "" {
		o.env.Printf("  %s\n", s.Reason)
	}
	o.env.Printf("\n")
	if err := o.facts(s); err != nil {
		return err
	}
	if len(s.Partitions) == 0 {
		return nil
	}
	o.env.Printf("\n")
	t := terminal.NewTable(o.env.Out, "topic", "partition", "committed", "log end", "lag", "running")
	for _, p := range s.Partitions {
		committed := any(p.Committed)
		if p.Committed < 0 {
			committed = "-"
		}
		t.Row(p.Topic, p.Partition, committed, p.LogEnd, p.Lag, yesNo(p.Running))
	}
	return t.Flush()
}

// facts prints what is set and what was counted.
func (o *statusOptions) facts(s *admin.Status) error {
	now := time.Now()
	t := terminal.NewTable(o.env.Out)
	t.Row("  module", moduleOf(s), shortDigest(s.Spec.Module))
	t.Row("  records", fmt.Sprintf("%d in, %d out, %d rejected", s.Records, s.Outputs, s.Rejected), fmt.Sprintf("lag %d", s.Lag))
	t.Row("  version", s.Spec.Version, "changed "+terminal.Age(s.Spec.Changed, now)+" ago, created "+terminal.Age(s.Spec.Created, now)+" ago")
	failed := s.Spec.OnError
	if failed == deploy.OnErrorDeadLetter {
		failed += " to " + deploy.DeadLetterTopic(s.Spec.Name)
	}
	t.Row("  on error", failed, fmt.Sprintf("%d instance restarts", s.Restarts))
	if len(s.Spec.Config) > 0 {
		var parts []string
		for _, k := range slices.Sorted(maps.Keys(s.Spec.Config)) {
			parts = append(parts, k+"="+s.Spec.Config[k])
		}
		t.Row("  config", strings.Join(parts, " "), "")
	}
	if len(s.Spec.Assets) > 0 {
		t.Row("  assets", strings.Join(slices.Sorted(maps.Keys(s.Spec.Assets)), " "), "")
	}
	return t.Flush()
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
