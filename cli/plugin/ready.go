// Package plugin holds the commands around plugins: start, build and test one
// of your own, and look at the ready-made ones in the binary.
package plugin

import (
	"fmt"
	"strings"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/plugin/cases"
)

const category = "Plugins"

// Ready names the ready-made plugins in this binary, in order.
func Ready() []string { return nil }

// OpenReady returns the module of a ready-made plugin.
func OpenReady(name string) ([]byte, error) {
	return nil, command.NotFoundf("there is no ready-made plugin %q", name).
		WithFix("there are: %s", strings.Join(Ready(), ", "))
}

func place(c cases.Case) string { return fmt.Sprintf("%s:%d", c.File, c.Line) }

func join(list []string) string { return strings.Join(list, ", ") }
