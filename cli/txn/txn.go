// Package txn holds the commands about transactions: what the coordinator
// knows of transactional ids, what producers have left open in partitions, and
// how to end what nobody ends any more. KIP-664 is what they rest on.
package txn

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

// New makes the command group.
func New(env *command.Env) *cli.Command {
	return command.Group(env, "txn", "list, describe and abort transactions", "Topics and records",
		newList(env), newDescribe(env), newProducers(env), newAbort(env))
}

func named(id string) string { return fmt.Sprintf("transactional id %q", id) }

// ongoing is the state of a transaction that may still be aborted.
const ongoing = "Ongoing"

// states are those that a transactional id can be in, by Kafka's names.
func states() []string {
	return []string{"Empty", ongoing, "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort", "Dead", "PrepareEpochFence"}
}

// parseStates reads states in any case.
func parseStates(values []string) ([]string, error) {
	var out []string
	for _, v := range values {
		found := ""
		for _, s := range states() {
			if strings.EqualFold(s, v) {
				found = s
			}
		}
		if found == "" {
			return nil, command.Usagef("--state %q is unknown", v).WithFix("it is one of %s", strings.Join(states(), ", "))
		}
		out = append(out, found)
	}
	return out, nil
}

// started is the time of a timestamp in milliseconds, nil for none.
func started(ms int64) *time.Time {
	if ms < 0 {
		return nil
	}
	t := time.UnixMilli(ms).UTC()
	return &t
}

// names lists transactional ids for shell completion.
func names(env *command.Env) func(context.Context, []string) []string {
	return connect.Suggest(env, func(ctx context.Context, client *kadm.Client) ([]string, error) {
		listed, err := client.ListTransactions(ctx, nil, nil)
		return listed.TransactionalIDs(), err
	})
}
