package deployment

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
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
	tell(o.env, s.Reason)
	tell(o.env, s.Hints...)
	o.env.Printf("\n")
	if err := o.facts(s); err != nil {
		return err
	}
	if len(s.Partitions) == 0 {
		return nil
	}
	o.env.Printf("\n")
	return o.partitions(s)
}

func (o *statusOptions) partitions(s *admin.Status) error {
	t := terminal.NewTable(o.env.Out, "topic", "partition", "committed", "log end", "lag", "rate", "latency", "dead letters", "worker")
	for _, p := range s.Partitions {
		committed := any(p.Committed)
		if p.Committed < 0 {
			committed = "-"
		}
		rate, latency, dead := "-", "-", "-"
		if p.Records > 0 {
			rate, dead = perSecond(p.Rate), strconv.FormatInt(p.DeadLetters, 10)
			if p.CommittedAt != nil {
				latency = terminal.Duration(time.Duration(p.LatencySeconds * float64(time.Second)))
			}
		}
		t.Row(p.Topic, p.Partition, committed, p.LogEnd, p.Lag, rate, latency, dead, whose(p))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, p := range s.Partitions {
		if p.Trouble != "" {
			tell(o.env, fmt.Sprintf("%s partition %d: %s", p.Topic, p.Partition, p.Trouble))
		}
	}
	return nil
}

// whose tells who works on a partition.
func whose(p admin.PartitionStatus) string {
	switch {
	case p.Running && p.Completed:
		return "here, at its end"
	case p.Running:
		return "here"
	case p.Owner != "":
		return p.Owner
	}
	return "-"
}

func perSecond(rate float64) string {
	switch {
	case rate == 0:
		return "0/s"
	case rate < 10:
		return fmt.Sprintf("%.1f/s", rate)
	}
	return fmt.Sprintf("%.0f/s", rate)
}

// facts prints what is set and what was counted.
func (o *statusOptions) facts(s *admin.Status) error {
	now := time.Now()
	t := terminal.NewTable(o.env.Out)
	t.Row("  module", moduleOf(s), shortDigest(s.Spec.Module))
	t.Row("  records", fmt.Sprintf("%d in, %d out, %d rejected", s.Records, s.Outputs, s.Rejected), fmt.Sprintf("lag %d, %s", s.Lag, perSecond(s.Rate)))
	version := "deployed " + terminal.Age(s.Spec.DeployedAt(), now) + " ago"
	if s.Spec.By != "" {
		version += " by " + s.Spec.By
	}
	if s.Spec.Rollback != 0 {
		version += fmt.Sprintf(", a rollback to version %d", s.Spec.Rollback)
	}
	if s.Replacing > 0 {
		version += fmt.Sprintf(", %s still to change over", terminal.Count(int64(s.Replacing), "partition"))
	}
	t.Row("  version", s.Spec.Version, version)
	t.Row("  delivery", delivery(s.Spec), terminal.Count(s.Commits, "commit")+", "+terminal.Count(s.Aborts, "abort"))
	failed := s.Spec.OnError
	if failed == deploy.OnErrorDeadLetter {
		failed += " to " + deploy.DeadLetterTopic(s.Spec.Name)
	}
	t.Row("  on error", failed, fmt.Sprintf("retries %d, limit %v", s.Spec.EffectiveRetries(), s.Spec.FailureLimit))
	t.Row("  failures", fmt.Sprintf("%s, %d skipped", terminal.Count(s.DeadLetters, "dead letter"), s.Skipped),
		fmt.Sprintf("%s, %d tried again, %s", terminal.Count(s.Traps, "trap"), s.Retries, terminal.Count(s.Restarts, "instance restart")))
	n := len(s.Members)
	if n > 1 {
		t.Row("  workers", terminal.Count(int64(n), "member")+" in the group", processes(s))
	}
	if n != 1 && s.Process != "" { // of one that does not run, others may have done the work
		t.Row("  counted", "here only, by "+s.Process, "offsets and lag are those of all workers")
	}
	// What may be long comes last, with nothing beside it.
	if s.Spec.Until != "" {
		t.Row("  until", s.Spec.Until)
	}
	if len(s.Spec.Config) > 0 {
		var parts []string
		for _, k := range slices.Sorted(maps.Keys(s.Spec.Config)) {
			parts = append(parts, k+"="+s.Spec.Config[k])
		}
		t.Row("  config", strings.Join(parts, " "))
	}
	if len(s.Spec.Assets) > 0 {
		t.Row("  assets", strings.Join(slices.Sorted(maps.Keys(s.Spec.Assets)), " "))
	}
	return t.Flush()
}

// processes lists the members of the group, in all processes.
func processes(s *admin.Status) string {
	var others []string
	for _, m := range s.Members {
		others = append(others, fmt.Sprintf("%s: %s", strings.TrimPrefix(m.Client, "millstream-"+s.Spec.Name+"-"), terminal.Count(int64(m.Partitions), "partition")))
	}
	return strings.Join(others, ", ")
}
