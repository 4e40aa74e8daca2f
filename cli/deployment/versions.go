package deployment

import (
	"context"
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

// NewHistory makes the command.
func NewHistory(env *command.Env) *cli.Command {
	o := &changeOptions{env: env}
	return newChange(env, o, command.Spec{
		Name: "history", Usage: "show the versions of a deployment",
		Description: "The newest comes first, with what changed from the one before. The ten before the present one are kept, with their modules.\nPausing and resuming make no version.",
		Examples: `millstream history spanish
millstream history spanish --json | jq -r '.[] | [.spec.version, .spec.module, .spec.by] | @tsv'`,
	}, o.history)
}

func (o *changeOptions) history(ctx context.Context) error {
	client, err := o.admin.Open()
	if err != nil {
		return err
	}
	defer client.Close()
	versions, err := client.History(ctx, o.name)
	if err != nil {
		return client.Explain(err)
	}
	if o.env.JSON {
		return o.env.PrintJSON(versions)
	}
	t := terminal.NewTable(o.env.Out, "version", "module", "age", "by", "changes")
	for i, v := range versions {
		version := strconv.Itoa(v.Spec.Version)
		if v.Current {
			version += " *"
		}
		if v.Error != "" {
			t.Row(version, "-", "-", "-", v.Error)
			continue
		}
		t.Row(version, shortDigest(v.Spec.Module), terminal.Age(v.Spec.DeployedAt(), time.Now()), orDash(v.Spec.By), changesOf(v, i == len(versions)-1))
	}
	return t.Flush()
}

// changesOf is what is different from the version before, in one line.
func changesOf(v admin.Version, oldest bool) string {
	var parts []string
	if v.Spec.Rollback != 0 {
		parts = append(parts, "rollback to "+strconv.Itoa(v.Spec.Rollback))
	}
	for _, c := range v.Changes {
		if c.Field == "module" {
			parts = append(parts, "module")
			continue
		}
		parts = append(parts, c.Field+": "+difference(c))
	}
	switch {
	case len(parts) > 0:
		return strings.Join(parts, ", ")
	case oldest:
		return "-"
	}
	return "run again"
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

type rollbackOptions struct {
	changeOptions
	to int
}

// NewRollback makes the command.
func NewRollback(env *command.Env) *cli.Command {
	o := &rollbackOptions{changeOptions: changeOptions{env: env}}
	return newChange(env, &o.changeOptions, command.Spec{
		Name: "rollback", Usage: "go back to an older version of a deployment",
		Description: "Deploys what that version was, module and settings, as the next version: in the same way as deploy does, so that it takes over at the\nend of a transaction. The offsets stay where they are.",
		Examples: `millstream rollback spanish
millstream rollback spanish --to 3`,
		Flags: []cli.Flag{&cli.IntFlag{Name: "to", Usage: "`VERSION` to go back to", DefaultText: "the one before the present one", Destination: &o.to}},
	}, func(ctx context.Context) error {
		if o.to < 0 {
			return command.Usagef("--to %d: versions begin at 1", o.to).WithFix("see them: millstream history %s", o.name)
		}
		return o.run(ctx)
	})
}

func (o *rollbackOptions) run(ctx context.Context) error {
	s, err := act(&o.admin, func(c *connect.AdminClient) (*admin.Status, error) {
		return c.Rollback(ctx, o.name, admin.RollbackRequest{Version: o.to, By: user(o.env)})
	})
	if err != nil {
		return err
	}
	if o.env.JSON {
		return o.env.PrintJSON(s)
	}
	if s.Unchanged {
		o.env.Printf("%s is %s: that version is the same as the present one, %d\n", o.name, s.Phase, s.Spec.Version)
		return nil
	}
	o.env.Printf("%s is %s: version %d is what version %d was\n", o.name, s.Phase, s.Spec.Version, s.Spec.Rollback)
	tell(o.env, s.Reason)
	return nil
}

type resetOptions struct {
	changeOptions
	to         string
	partitions cli.IntSlice
	dryRun     bool
}

// NewReset makes the command.
func NewReset(env *command.Env) *cli.Command {
	o := &resetOptions{changeOptions: changeOptions{env: env}}
	return newChange(env, &o.changeOptions, command.Spec{
		Name: "reset", Usage: "set where a paused deployment goes on reading",
		Description: "Moves the offsets of its consumer group in every input, or in the partitions named. Its outputs stay: what is read again is\nwritten again. The deployment must not run: pause it before, resume it afterwards.",
		Examples: `millstream pause spanish && millstream reset spanish --to earliest && millstream resume spanish
millstream reset spanish --to 2h --dry-run
millstream reset spanish --to 1500 --partition 0`,
		Required: []string{"to"},
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "to", Usage: "`POSITION`: earliest, latest, an offset, an RFC 3339 time, or a duration ago such as 10m", Destination: &o.to},
			&cli.IntSliceFlag{Name: "partition", Usage: "only partition `N` of every input; may be repeated", Destination: &o.partitions},
			&cli.BoolFlag{Name: "dry-run", Usage: "only show what would be set", Destination: &o.dryRun, DisableDefaultText: true},
		},
	}, o.run)
}

func (o *resetOptions) run(ctx context.Context) error {
	to := startPosition(o.to)
	if _, err := deploy.ParseStart(to, time.Now()); err != nil || to == "" {
		return command.Usagef("--to %q is not a position", o.to).WithFix("it is earliest, latest, an offset (42), a time (2026-01-31T12:00:00Z) or how long ago (90m, 36h, 7d)")
	}
	request := admin.ResetRequest{To: to, DryRun: o.dryRun}
	for _, p := range o.partitions.Value() {
		if p < 0 || p > 1<<31-1 {
			return command.Usagef("--partition %d: partitions are numbered from 0", p)
		}
		request.Partitions = append(request.Partitions, int32(p))
	}
	client, err := o.admin.Open()
	if err != nil {
		return err
	}
	defer client.Close()
	changes, err := client.Reset(ctx, o.name, request)
	if err != nil {
		return client.Explain(err)
	}
	if o.env.JSON {
		return o.env.PrintJSON(map[string]any{"deployment": o.name, "dry_run": o.dryRun, "changes": changes})
	}
	t := terminal.NewTable(o.env.Out, "topic", "partition", "from", "to")
	for _, c := range changes {
		from := any(c.From)
		if c.From < 0 {
			from = "-"
		}
		t.Row(c.Topic, c.Partition, from, c.To)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if o.dryRun {
		o.env.Notef("nothing was changed (--dry-run)\n")
		return nil
	}
	o.env.Notef("go on there: millstream resume %s\n", o.name)
	return nil
}
