package plugin

import (
	"context"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/runtime/module"
	"github.com/urfave/cli/v2"
)

// New makes the command group about ready-made plugins.
func New(env *command.Env) *cli.Command {
	return command.Group("plugin", "list and describe the ready-made plugins in this binary", category,
		newList(env), newDescribe(env))
}

// readyPlugin is a ready-made plugin and what it says of itself.
type readyPlugin struct {
	Name      string           `json:"name"`
	SizeBytes int              `json:"size_bytes"`
	Digest    string           `json:"digest"`
	Manifest  *module.Manifest `json:"manifest,omitempty"`
}

// look opens a ready-made plugin and reads its manifest.
func look(name string) (*readyPlugin, error) {
	wasm, err := OpenReady(name)
	if err != nil {
		return nil, err
	}
	r, err := module.Check(wasm, module.DefaultCaps(), host.Offers)
	if err != nil {
		return nil, command.Failedf("plugin %q: %w", name, err)
	}
	return &readyPlugin{Name: name, SizeBytes: len(wasm), Digest: r.Digest.String(), Manifest: r.Manifest}, nil
}

func newList(env *command.Env) *cli.Command {
	return command.New(env, command.Spec{
		Name: "list", Usage: "list the ready-made plugins",
		Examples: `millstream plugin list`,
		Run: func(context.Context, []string) error {
			found := []*readyPlugin{}
			for _, name := range Ready() {
				p, err := look(name)
				if err != nil {
					return err
				}
				found = append(found, p)
			}
			if env.JSON {
				return env.PrintJSON(found)
			}
			if len(found) == 0 {
				env.Notef("this binary was built without plugins; make plugins, then build it again\n")
				return nil
			}
			t := terminal.NewTable(env.Out, "plugin", "version", "size", "description")
			for _, p := range found {
				m := module.Manifest{}
				if p.Manifest != nil {
					m = *p.Manifest
				}
				t.Row(p.Name, m.Version, terminal.Size(int64(p.SizeBytes)), m.Description)
			}
			return t.Flush()
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
			p, err := look(args[0])
			if err != nil {
				return err
			}
			if env.JSON {
				return env.PrintJSON(p)
			}
			return describe(env, p)
		},
	})
}

func describe(env *command.Env, p *readyPlugin) error {
	env.Printf("%s, %s, %s\n", p.Name, terminal.Size(int64(p.SizeBytes)), p.Digest)
	m := p.Manifest
	if m == nil {
		env.Printf("It has no manifest.\n")
		return nil
	}
	env.Printf("%s %s: %s\nbuilt with %s\n", m.Name, m.Version, m.Description, m.Toolchain)
	if len(m.Config) > 0 {
		env.Printf("\n")
		t := terminal.NewTable(env.Out, "config", "default", "values", "description")
		for _, k := range m.Config {
			preset := k.Default
			if k.Required {
				preset = "(required)"
			}
			t.Row(k.Name, preset, join(k.Values), k.Description)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	if len(m.Assets) > 0 {
		env.Printf("\n")
		t := terminal.NewTable(env.Out, "asset", "required", "description")
		for _, a := range m.Assets {
			t.Row(a.Name, a.Required, a.Description)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	if len(m.Outputs) > 0 {
		env.Printf("\n")
		t := terminal.NewTable(env.Out, "output", "description")
		for _, o := range m.Outputs {
			t.Row(o.Name, o.Description)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	env.Printf("\n  millstream deploy plugin:%s --name NAME --from TOPIC --to TOPIC --create-topics\n", p.Name)
	return nil
}
