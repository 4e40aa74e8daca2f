package connect

import (
	"context"
	"fmt"
	"time"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/twmb/franz-go/pkg/kadm"
)

// Admin connects for questions about topics, groups and transactions.
func (b *Brokers) Admin(ctx context.Context) (*kadm.Client, error) {
	client, err := b.Open(ctx)
	if err != nil {
		return nil, err
	}
	return kadm.NewClient(client), nil
}

// completionTimeout is how long a person at a prompt is kept waiting for suggestions.
const completionTimeout = time.Second

// Suggest completes a command's first argument with names that list finds in the cluster
// that MILLSTREAM_BROKERS names; without a broker there are none.
func Suggest(env *command.Env, list func(ctx context.Context, client *kadm.Client) ([]string, error)) func(context.Context, []string) []string {
	return func(ctx context.Context, args []string) []string {
		if len(args) > 0 {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, completionTimeout)
		defer cancel()
		b := &Brokers{Addresses: DefaultBrokers}
		if a := env.Getenv("MILLSTREAM_BROKERS"); a != "" {
			b.Addresses = a
		}
		b.fromEnvironment(env.Getenv)
		client, err := b.Admin(ctx)
		if err != nil {
			return nil
		}
		defer client.Close()
		names, err := list(ctx, client)
		if err != nil {
			return nil
		}
		return names
	}
}

// ReportDeleted tells which of the named things were deleted, and returns the first error, explained; outcome has the error of each.
func (b *Brokers) ReportDeleted(env *command.Env, noun string, names []string, outcome func(name string) error) error {
	var failure error
	deleted := []string{}
	for _, name := range names {
		if err := outcome(name); err != nil {
			if failure == nil {
				failure = b.Explain(err, fmt.Sprintf("%s %q", noun, name))
			}
			continue
		}
		deleted = append(deleted, name)
		if !env.JSON {
			env.Printf("deleted %s %q\n", noun, name)
		}
	}
	if env.JSON {
		if err := env.PrintJSON(map[string]any{"deleted": deleted}); err != nil {
			return err
		}
	}
	return failure
}
