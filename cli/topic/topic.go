// Package topic holds the commands that create, list, describe, change and delete topics.
package topic

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/urfave/cli/v2"
)

const category = "Topics and records"

// New makes the command group.
func New(env *command.Env) *cli.Command {
	return command.Group(env, "topic", "create, list, describe, alter and delete topics and their oldest records", category,
		newCreate(env), newList(env), newDescribe(env), newAlter(env), newDelete(env), newDeleteRecords(env))
}

func named(topic string) string { return fmt.Sprintf("topic %q", topic) }

// checkCount refuses a --partitions that no topic can have; 0 is none given.
func checkCount(partitions int) error {
	switch {
	case partitions < 0:
		return command.Usagef("--partitions %d: a topic has at least one partition", partitions)
	case partitions > math.MaxInt32:
		return command.Usagef("--partitions %d: that is more than a topic can have", partitions)
	}
	return nil
}

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
	return connect.Suggest(env, func(ctx context.Context, client *kadm.Client) ([]string, error) {
		topics, err := client.ListTopics(ctx)
		return topics.Names(), err
	})
}
