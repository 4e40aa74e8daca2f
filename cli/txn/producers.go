package txn

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/millstream-io/millstream/cli/topic"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/urfave/cli/v2"
)

type producersOptions struct {
	env     *command.Env
	brokers connect.Brokers
	topics  []string
	open    bool
}

func newProducers(env *command.Env) *cli.Command {
	o := &producersOptions{env: env}
	return command.New(env, command.Spec{
		Name: "producers", Usage: "show the producers that partitions remember", Args: "TOPIC[:PARTITION]…", MinArgs: 1, MaxArgs: -1,
		Description: `Idempotent and transactional producers, with their epoch and last sequence number. One that has a transaction open
in a partition keeps readers of committed records from what comes behind the offset where it began.`,
		Examples: `millstream txn producers notes
millstream txn producers notes:0 --open`,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "open", Usage: "only those with an open transaction", Destination: &o.open, DisableDefaultText: true},
		}, o.brokers.Flags(env)...),
		Complete: topic.Names(env),
		Run: func(ctx context.Context, args []string) error {
			o.topics = args
			return o.run(ctx)
		},
	})
}

type producer struct {
	Topic            string    `json:"topic"`
	Partition        int32     `json:"partition"`
	ID               int64     `json:"producer_id"`
	Epoch            int16     `json:"producer_epoch"`
	LastSequence     int32     `json:"last_sequence"`
	Last             time.Time `json:"last_timestamp"`
	CoordinatorEpoch int32     `json:"coordinator_epoch"`
	Begin            *int64    `json:"transaction_start_offset"` // null: none is open
}

func (o *producersOptions) run(ctx context.Context) error {
	wanted := kadm.TopicsSet{}
	for _, s := range o.topics {
		name, p, err := parsePartition(s)
		if err != nil {
			return err
		}
		if p < 0 {
			wanted.Add(name)
			continue
		}
		wanted.Add(name, p)
	}
	client, err := o.brokers.Admin(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	rows, err := producers(ctx, client, wanted, o.open)
	if err != nil {
		return o.brokers.Explain(err, strings.Join(o.topics, ", "))
	}
	if o.env.JSON {
		return o.env.PrintJSON(rows)
	}
	t := terminal.NewTable(o.env.Out, "topic", "partition", "producer id", "epoch", "last sequence", "last write", "transaction from")
	for _, r := range rows {
		begin := "-"
		if r.Begin != nil {
			begin = strconv.FormatInt(*r.Begin, 10)
		}
		t.Row(r.Topic, r.Partition, r.ID, r.Epoch, r.LastSequence, terminal.Age(r.Last, time.Now()), begin)
	}
	return t.Flush()
}

// parsePartition reads TOPIC, as partition -1, or TOPIC:PARTITION.
func parsePartition(s string) (topic string, partition int32, err error) {
	name, number, one := strings.Cut(s, ":")
	if !one && name != "" {
		return name, -1, nil
	}
	p, err := strconv.ParseInt(number, 10, 32)
	if name == "" || err != nil || p < 0 {
		return "", 0, command.Usagef("%q is not TOPIC or TOPIC:PARTITION", s)
	}
	return name, int32(p), nil
}

// producers lists what the leaders of partitions remember; a topic without partitions means all of its.
func producers(ctx context.Context, client *kadm.Client, wanted kadm.TopicsSet, open bool) ([]producer, error) {
	for name, partitions := range wanted {
		topics, err := client.ListTopics(ctx, name)
		if err != nil {
			return nil, err
		}
		if err := topics[name].Err; err != nil {
			return nil, fmt.Errorf("topic %q: %w", name, err)
		}
		if len(partitions) == 0 {
			wanted.Add(name, topics[name].Partitions.Numbers()...)
		}
	}
	all, err := client.DescribeProducers(ctx, wanted)
	if err != nil {
		return nil, err
	}
	rows := []producer{}
	for _, t := range all.Sorted() {
		for _, p := range t.Partitions.Sorted() {
			if p.Err != nil {
				return nil, fmt.Errorf("%s partition %d: %w", p.Topic, p.Partition, p.Err)
			}
			for _, d := range p.ActiveProducers.Sorted() {
				row := producer{
					Topic: d.Topic, Partition: d.Partition, ID: d.ProducerID, Epoch: d.ProducerEpoch, LastSequence: d.LastSequence,
					Last: time.UnixMilli(d.LastTimestamp).UTC(), CoordinatorEpoch: d.CoordinatorEpoch,
				}
				if d.CurrentTxnStartOffset >= 0 {
					row.Begin = &d.CurrentTxnStartOffset
				}
				if row.Begin != nil || !open {
					rows = append(rows, row)
				}
			}
		}
	}
	return rows, nil
}
