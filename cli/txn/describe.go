package txn

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/urfave/cli/v2"
)

type describeOptions struct {
	env     *command.Env
	brokers connect.Brokers
	id      string
}

func newDescribe(env *command.Env) *cli.Command {
	o := &describeOptions{env: env}
	return command.New(env, command.Spec{
		Name: "describe", Usage: "show the transaction of a transactional id", Args: "ID", MinArgs: 1, MaxArgs: 1,
		Description: "The partitions are those that the open transaction has written to; once its end is decided, those that still lack its marker.",
		Examples:    `millstream txn describe orders-writer-0`,
		Flags:       o.brokers.Flags(env),
		Complete:    names(env),
		Run: func(ctx context.Context, args []string) error {
			o.id = args[0]
			return o.run(ctx)
		},
	})
}

type described struct {
	ID         string      `json:"transactional_id"`
	State      string      `json:"state"`
	Producer   int64       `json:"producer_id"`
	Epoch      int16       `json:"producer_epoch"`
	TimeoutMS  int32       `json:"timeout_ms"`
	Started    *time.Time  `json:"started,omitempty"` // while a transaction is open
	Partitions []partition `json:"partitions"`
}

type partition struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
}

func (o *describeOptions) run(ctx context.Context) error {
	client, err := o.brokers.Admin(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	d, err := describe(ctx, client, o.id)
	if err != nil {
		return o.brokers.Explain(err, named(o.id))
	}
	if o.env.JSON {
		return o.env.PrintJSON(d)
	}
	timeout := time.Duration(d.TimeoutMS) * time.Millisecond
	o.env.Printf("transactional id %q is %s, producer %d epoch %d, timeout %s", d.ID, d.State, d.Producer, d.Epoch, timeout)
	if d.Started != nil {
		o.env.Printf(", open for %s", terminal.Age(*d.Started, time.Now()))
	}
	o.env.Printf("\n")
	if len(d.Partitions) == 0 {
		return nil
	}
	t := terminal.NewTable(o.env.Out, "topic", "partition")
	for _, p := range d.Partitions {
		t.Row(p.Topic, p.Partition)
	}
	return t.Flush()
}

func describe(ctx context.Context, client *kadm.Client, id string) (*described, error) {
	all, err := client.DescribeTransactions(ctx, id)
	if err != nil {
		return nil, err
	}
	found, ok := all[id]
	switch {
	case !ok || found.State == "Dead":
		return nil, kerr.TransactionalIDNotFound
	case found.Err != nil:
		return nil, found.Err
	}
	d := &described{
		ID: id, State: found.State, Producer: found.ProducerID, Epoch: found.ProducerEpoch, TimeoutMS: found.TimeoutMillis,
		Started: started(found.StartTimestamp), Partitions: []partition{},
	}
	for _, topic := range slices.Sorted(maps.Keys(found.Topics)) {
		for _, p := range slices.Sorted(maps.Keys(found.Topics[topic])) {
			d.Partitions = append(d.Partitions, partition{Topic: topic, Partition: p})
		}
	}
	return d, nil
}
