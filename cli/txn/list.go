package txn

import (
	"context"
	"time"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/urfave/cli/v2"
)

type listOptions struct {
	env      *command.Env
	brokers  connect.Brokers
	states   cli.StringSlice
	openFor  time.Duration
	producer int64
}

func newList(env *command.Env) *cli.Command {
	o := &listOptions{env: env}
	return command.New(env, command.Spec{
		Name: "list", Usage: "list transactional ids and the state of their transactions",
		Examples: `millstream txn list
millstream txn list --state ongoing --open-for 5m
millstream txn list --json | jq -r '.[].transactional_id'`,
		Flags: append([]cli.Flag{
			&cli.StringSliceFlag{Name: "state", Usage: "only in this `STATE`: Empty, Ongoing, PrepareCommit, PrepareAbort, CompleteCommit, CompleteAbort; may be repeated", Destination: &o.states},
			&cli.DurationFlag{Name: "open-for", Usage: "only transactions that have been open for at least this `DURATION`", DefaultText: "any", Destination: &o.openFor},
			&cli.Int64Flag{Name: "producer-id", Usage: "only of this producer `ID`", Value: -1, DefaultText: "any", Destination: &o.producer},
		}, o.brokers.Flags(env)...),
		Run: func(ctx context.Context, _ []string) error { return o.run(ctx) },
	})
}

type listed struct {
	ID         string     `json:"transactional_id"`
	State      string     `json:"state"`
	Producer   int64      `json:"producer_id"`
	Started    *time.Time `json:"started,omitempty"` // while a transaction is open
	Partitions int        `json:"partitions"`
}

func (o *listOptions) run(ctx context.Context) error {
	wanted, err := parseStates(o.states.Value())
	if err != nil {
		return err
	}
	if o.openFor < 0 {
		return command.Usagef("--open-for %s is negative", o.openFor)
	}
	client, err := o.brokers.Admin(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	rows, err := o.list(ctx, client, wanted, time.Now())
	if err != nil {
		return o.brokers.Explain(err, "list transactions")
	}
	if o.env.JSON {
		return o.env.PrintJSON(rows)
	}
	if len(rows) == 0 {
		o.env.Notef("no such transactional ids\n")
		return nil
	}
	t := terminal.NewTable(o.env.Out, "transactional id", "state", "producer id", "partitions", "open for")
	for _, r := range rows {
		open := "-"
		if r.Started != nil {
			open = terminal.Age(*r.Started, time.Now())
		}
		t.Row(r.ID, r.State, r.Producer, r.Partitions, open)
	}
	return t.Flush()
}

func (o *listOptions) list(ctx context.Context, client *kadm.Client, wanted []string, now time.Time) ([]listed, error) {
	var producers []int64
	if o.producer >= 0 {
		producers = []int64{o.producer}
	}
	all, err := client.ListTransactions(ctx, producers, wanted)
	if err != nil {
		return nil, err
	}
	rows := []listed{}
	if len(all) == 0 {
		return rows, nil
	}
	details, err := client.DescribeTransactions(ctx, all.TransactionalIDs()...)
	if err != nil {
		return nil, err
	}
	for _, l := range all.Sorted() {
		row := listed{ID: l.TxnID, State: l.State, Producer: l.ProducerID}
		if d, ok := details[l.TxnID]; ok && d.Err == nil {
			row.State, row.Started = d.State, started(d.StartTimestamp)
			for _, partitions := range d.Topics {
				row.Partitions += len(partitions)
			}
		}
		if o.openFor > 0 && (row.Started == nil || now.Sub(*row.Started) < o.openFor) {
			continue
		}
		rows = append(rows, row)
	}
	return rows, nil
}
