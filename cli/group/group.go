// Package group holds the commands about consumer groups. A deployment is a
// consumer group of its own name, so they show deployments as well.
package group

import (
	"context"
	"fmt"
	"time"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/urfave/cli/v2"
)

// New makes the command group.
func New(env *command.Env) *cli.Command {
	return command.Group("group", "list, describe, reset and delete consumer groups", "Topics and records",
		newList(env), newDescribe(env), newReset(env), newDelete(env), newDeleteOffsets(env))
}

func admin(ctx context.Context, b *connect.Brokers) (*kadm.Client, error) {
	client, err := b.Open(ctx)
	if err != nil {
		return nil, err
	}
	return kadm.NewClient(client), nil
}

func named(group string) string { return fmt.Sprintf("group %q", group) }

func notFound(group string) error {
	return command.NotFoundf("group %q does not exist", group).WithFix("see what there is: millstream group list")
}

// names lists groups for shell completion.
func names(env *command.Env) func(context.Context, []string) []string {
	return func(ctx context.Context, args []string) []string {
		if len(args) > 0 {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		b := &connect.Brokers{Addresses: connect.DefaultBrokers}
		if a := env.Getenv("MILLSTREAM_BROKERS"); a != "" {
			b.Addresses = a
		}
		client, err := admin(ctx, b)
		if err != nil {
			return nil
		}
		defer client.Close()
		groups, err := client.ListGroups(ctx)
		if err != nil {
			return nil
		}
		return groups.Groups()
	}
}
