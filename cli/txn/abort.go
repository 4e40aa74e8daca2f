package txn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/urfave/cli/v2"
)

type abortOptions struct {
	env       *command.Env
	brokers   connect.Brokers
	partition string
	producer  int64
}

func newAbort(env *command.Env) *cli.Command {
	o := &abortOptions{env: env}
	return command.New(env, command.Spec{
		Name: "abort", Usage: "abort an open transaction", Args: "[ID]", MinArgs: 0, MaxArgs: 1,
		Description: `With a transactional id its open transaction is aborted in all partitions at once, and its producer is fenced: what
that writes next fails. With --partition and --producer-id instead, a transaction that no coordinator knows any more (a hanging one,
see txn producers --open) is ended in one partition.`,
		Examples: `millstream txn abort orders-writer-0
millstream txn abort --partition notes:0 --producer-id 4000`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "partition", Usage: "end a hanging transaction in this `TOPIC:PARTITION`", Destination: &o.partition},
			&cli.Int64Flag{Name: "producer-id", Usage: "whose: the producer `ID`", Value: -1, DefaultText: "none", Destination: &o.producer},
		}, o.brokers.Flags(env)...),
		Complete: names(env),
		Run:      o.run,
	})
}

// aborted is what was ended.
type aborted struct {
	ID         string      `json:"transactional_id,omitempty"`
	Producer   int64       `json:"producer_id"`
	Partitions []partition `json:"partitions"`
}

func (o *abortOptions) run(ctx context.Context, args []string) error {
	hanging := o.partition != "" || o.producer >= 0
	if hanging == (len(args) == 1) || (o.partition == "") != (o.producer < 0) {
		return command.Usagef("abort takes a transactional id, or --partition together with --producer-id").
			WithFix("see what is open: millstream txn list --state ongoing")
	}
	client, err := o.brokers.Admin(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	var result *aborted
	what := "partition " + o.partition
	if hanging {
		result, err = o.endHanging(ctx, client)
	} else {
		what = named(args[0])
		result, err = o.fence(ctx, client, args[0])
	}
	if err != nil {
		return o.brokers.Explain(err, what)
	}
	if o.env.JSON {
		return o.env.PrintJSON(result)
	}
	for _, p := range result.Partitions {
		o.env.Printf("aborted the transaction of producer %d in %s:%d\n", result.Producer, p.Topic, p.Partition)
	}
	if len(result.Partitions) == 0 {
		o.env.Printf("aborted the transaction of producer %d, which has written nothing\n", result.Producer)
	}
	return nil
}

// fence takes the transactional id over, as a producer that starts anew does:
// the coordinator then aborts what the one before it has left open, everywhere.
func (o *abortOptions) fence(ctx context.Context, client *kadm.Client, id string) (*aborted, error) {
	d, err := describe(ctx, client, id)
	if err != nil {
		return nil, err
	}
	if d.State != ongoing {
		return nil, command.Conflictf("transactional id %q is %s: it has no open transaction", id, d.State).
			WithFix("see which have one: millstream txn list --state ongoing")
	}
	// The timeout goes with the id, and is not to be changed by this.
	successor, err := o.brokers.Open(ctx, kgo.TransactionalID(id), kgo.TransactionTimeout(time.Duration(d.TimeoutMS)*time.Millisecond))
	if err != nil {
		return nil, err
	}
	defer successor.Close()
	ctx, cancel := context.WithTimeout(ctx, connect.RequestTimeout)
	defer cancel()
	if _, _, err := successor.ProducerID(ctx); err != nil {
		return nil, err
	}
	return &aborted{ID: id, Producer: d.Producer, Partitions: d.Partitions}, nil
}

// endHanging writes the marker that a partition lacks.
func (o *abortOptions) endHanging(ctx context.Context, client *kadm.Client) (*aborted, error) {
	name, p, err := parsePartition(o.partition)
	if err != nil {
		return nil, err
	}
	if p < 0 {
		return nil, command.Usagef("--partition %q is not TOPIC:PARTITION", o.partition)
	}
	wanted := kadm.TopicsSet{}
	wanted.Add(name, p)
	rows, err := producers(ctx, client, wanted, true)
	if err != nil {
		return nil, err
	}
	var open *producer
	for i := range rows {
		if rows[i].ID == o.producer {
			open = &rows[i]
		}
	}
	if open == nil {
		return nil, command.NotFoundf("producer %d has no open transaction in %s:%d", o.producer, name, p).
			WithFix("see which have one: millstream txn producers %s:%d --open", name, p)
	}
	// A marker behind the coordinator's back would tear a transaction in two.
	owners, err := client.ListTransactions(ctx, []int64{open.ID}, nil)
	if err != nil {
		return nil, err
	}
	for _, t := range owners.Sorted() {
		if t.State == ongoing || t.State == "PrepareCommit" || t.State == "PrepareAbort" {
			return nil, command.Conflictf("the transaction is not hanging: it is that of transactional id %q, which is %s", t.TxnID, t.State).
				WithFix("abort it everywhere: millstream txn abort %s", t.TxnID)
		}
	}
	responses, err := client.WriteTxnMarkers(ctx, kadm.TxnMarkers{
		ProducerID: open.ID, ProducerEpoch: open.Epoch, CoordinatorEpoch: max(open.CoordinatorEpoch, 0), Topics: wanted,
	})
	if err != nil {
		return nil, err
	}
	var errs []error
	responses.EachPartition(func(r kadm.TxnMarkersPartitionResponse) {
		if r.Err != nil {
			errs = append(errs, fmt.Errorf("%s partition %d: %w", r.Topic, r.Partition, r.Err))
		}
	})
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &aborted{Producer: open.ID, Partitions: []partition{{Topic: name, Partition: p}}}, nil
}
