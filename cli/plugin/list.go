package plugin

import (
	"context"
	"slices"
	"strings"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/millstream-io/millstream/plugins"
	"github.com/urfave/cli/v2"
)

// New makes the command group about ready-made plugins.
func New(env *command.Env) *cli.Command {
	return command.Group(env, "plugin", "list and describe the ready-made plugins", category, newList(env), newDescribe(env))
}

func newList(env *command.Env) *cli.Command {
	return command.New(env, command.Spec{
		Name: "list", Usage: "list the ready-made plugins",
		Examples: `millstream plugin list`,
		Run: func(context.Context, []string) error {
			all, err := plugins.List()
			if err != nil {
				return err
			}
			if env.JSON {
				return env.PrintJSON(all)
			}
			t := terminal.NewTable(env.Out, "plugin", "version", "description")
			missing := false
			for _, p := range all {
				description := p.Description
				if !p.Built {
					missing = true
					description += " (not in this binary)"
				}
				t.Row(p.Name, p.Version, description)
			}
			if err := t.Flush(); err != nil {
				return err
			}
			if missing {
				env.Notef("this binary was built before its plugins: make builds both\n")
			}
			return nil
		},
	})
}

func newDescribe(env *command.Env) *cli.Command {
	return command.New(env, command.Spec{
		Name: "describe", Usage: "show what a plugin takes: configs, assets, outputs", Args: "NAME", MinArgs: 1, MaxArgs: 1,
		Examples: `millstream plugin describe translate`,
		Complete: func(_ context.Context, args []string) []string {
			if len(args) > 0 {
				return nil
			}
			return Ready()
		},
		Run: func(_ context.Context, args []string) error {
			all, err := plugins.List()
			if err != nil {
				return err
			}
			i := slices.IndexFunc(all, func(p plugins.Plugin) bool { return p.Name == args[0] })
			if i < 0 {
				return unknownPlugin(args[0])
			}
			if env.JSON {
				return env.PrintJSON(all[i])
			}
			return describe(env, &all[i])
		},
	})
}

func describe(env *command.Env, p *plugins.Plugin) error {
	env.Printf("%s %s: %s\n", p.Name, p.Version, p.Description)
	if len(p.Config) > 0 {
		env.Printf("\n")
		t := terminal.NewTable(env.Out, "config", "default", "values", "description")
		for _, k := range p.Config {
			preset := k.Default
			if k.Required {
				preset = "(required)"
			}
			t.Row(k.Name, preset, strings.Join(k.Values, ", "), k.Description)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	for _, list := range []struct {
		title string
		parts []plugins.Part
	}{{"asset", p.Assets}, {"output", p.Outputs}} {
		if len(list.parts) == 0 {
			continue
		}
		env.Printf("\n")
		t := terminal.NewTable(env.Out, list.title, "description")
		for _, part := range list.parts {
			description := part.Description
			if part.Required {
				description += " (required)"
			}
			t.Row(part.Name, description)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	env.Printf("\n  millstream deploy plugin:%s --name NAME --from TOPIC --to TOPIC --create-topics\n", p.Name)
	return nil
}
