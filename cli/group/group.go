// Package group holds the commands about consumer groups. A deployment is a
// consumer group of its own name, so they show deployments as well.
package group

import (
	"context"
	"fmt"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/urfave/cli/v2"
)

// New makes the command group.
func New(env *command.Env) *cli.Command {
	return command.Group(env, "group", "list, describe, reset and delete consumer groups", "Topics and records",
		newList(env), newDescribe(env), newReset(env), newDelete(env), newDeleteOffsets(env))
}

func named(group string) string { return fmt.Sprintf("group %q", group) }

func notFound(group string) error {
	return command.NotFoundf("group %q does not exist", group).WithFix("see what there is: millstream group list")
}

// names lists groups for shell completion.
func names(env *command.Env) func(context.Context, []string) []string {
	return connect.Suggest(env, func(ctx context.Context, client *kadm.Client) ([]string, error) {
		groups, err := client.ListGroups(ctx)
		return groups.Groups(), err
	})
}
