// Package version holds the version command.
package version

import (
	"context"
	"runtime"
	"runtime/debug"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/urfave/cli/v2"
)

// New makes the command; version is what the build said, "" if it said nothing.
func New(env *command.Env, version string) *cli.Command {
	return command.New(env, command.Spec{
		Name: "version", Usage: "print the version", Category: "More",
		Examples: `millstream version --json`,
		Run: func(context.Context, []string) error {
			if env.JSON {
				return env.PrintJSON(map[string]string{
					"version": version, "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH,
				})
			}
			env.Printf("millstream %s (%s, %s/%s)\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return nil
		},
	})
}

// Of returns what the build was told, else what the Go toolchain knows of module and revision.
func Of(built string) string {
	if built != "" {
		return built
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "dev-" + s.Value[:12]
		}
	}
	return "dev"
}
