// Package plugin holds the commands around plugins: start, build and test one
// of your own, and look at the ready-made ones in the binary.
package plugin

import (
	"errors"
	"fmt"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/plugin/cases"
	"github.com/millstream-io/millstream/plugins"
)

const category = "Plugins"

// Ready names the ready-made plugins that this binary can deploy, in order.
func Ready() []string {
	all, err := plugins.List()
	if err != nil {
		return nil // a mistake in a manifest, which plugin list reports
	}
	var names []string
	for _, p := range all {
		if p.Built {
			names = append(names, p.Name)
		}
	}
	return names
}

// OpenReady returns the module of a ready-made plugin.
func OpenReady(name string) ([]byte, error) {
	wasm, err := plugins.Open(name)
	switch {
	case errors.Is(err, plugins.ErrUnknown):
		return nil, unknownPlugin(name)
	case errors.Is(err, plugins.ErrNotBuilt):
		return nil, command.NotFoundf("%w", err)
	case err != nil:
		return nil, command.Failedf("plugin %q: %w", name, err)
	}
	return wasm, nil
}

func unknownPlugin(name string) error {
	e := command.NotFoundf("there is no ready-made plugin %q", name)
	if near := command.Nearest(name, Ready()); near != "" {
		return e.WithFix("did you mean %q? All of them: millstream plugin list", near)
	}
	return e.WithFix("see what there is: millstream plugin list")
}

func place(c cases.Case) string { return fmt.Sprintf("%s:%d", c.File, c.Line) }
