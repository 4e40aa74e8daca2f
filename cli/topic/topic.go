// Package topic holds the commands that create, list, describe, change and delete topics.
package topic

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/urfave/cli/v2"
)

const category = "Topics and records"

// New makes the command group.
func New(env *command.Env) *cli.Command {
	return command.Group("topic", "create, list, describe, alter and delete topics and their oldest records", category,
		newCreate(env), newList(env), newDescribe(env), newAlter(env), newDelete(env), newDeleteRecords(env))
}

// admin opens an admin client over the brokers.
func admin(ctx context.Context, b *connect.Brokers) (*kadm.Client, error) {
	client, err := b.Open(ctx)
	if err != nil {
		return nil, err
	}
	return kadm.NewClient(client), nil
}

func named(topic string) string { return fmt.Sprintf("topic %q", topic) }

// configs reads --config K=V.
func configs(pairs []string) (map[string]*string, error) {
	out := map[string]*string{}
	for _, pair := range pairs {
		k, v, ok := strings.Cut(pair, "=")
		if !ok || k == "" {
			return nil, command.Usagef("--config %q is not KEY=VALUE", pair).WithFix("write for example --config retention.ms=86400000")
		}
		if _, twice := out[k]; twice {
			return nil, command.Usagef("--config %s is given twice", k)
		}
		out[k] = &v
	}
	return out, nil
}

// Names lists topics for shell completion; without a broker there are none.
func Names(env *command.Env) func(context.Context, []string) []string {
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
		topics, err := client.ListTopics(ctx)
		if err != nil {
			return nil
		}
		return topics.Names()
	}
}
