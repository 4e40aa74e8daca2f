package records

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/millstream-io/millstream/cli/stream"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/millstream-io/millstream/cli/topic"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/urfave/cli/v2"
)

type consumeOptions struct {
	env          *command.Env
	brokers      connect.Brokers
	topic        string
	from         string
	at           string
	until        string
	last         int
	grep         string
	isolation    string
	count        int64
	follow       bool
	partition    int
	keys         bool
	keySeparator string
	headers      bool
	timestamps   bool

	pattern *regexp.Regexp // of grep; nil: every record
	scanned int64
	matched int64
}

// NewConsume makes the command.
func NewConsume(env *command.Env) *cli.Command {
	o := &consumeOptions{env: env}
	return command.New(env, command.Spec{
		Name: "consume", Usage: "print the records of a topic", Category: category,
		Args: "TOPIC", MinArgs: 1, MaxArgs: 1,
		Description: `Prints the value of each record as a line, from --from to where the topic ends now; with --follow
it goes on until Ctrl-C. Order holds within a partition. Bytes are printed as they are, except to a terminal, where control characters
are escaped. Records of transactions that are open or were aborted are left out, unless --isolation says otherwise; where the oldest
open transaction begins, the topic ends. It joins no consumer group and commits nothing.`,
		Examples: `millstream consume notes
millstream consume notes --last 10 --follow
millstream consume notes --at 2026-11-21T13:00:00Z --until 2026-11-21T14:00:00Z --json
millstream consume notes --grep 'order-(17|18)' --keys --timestamps
millstream consume notes --from 1500 --partition 0 --count 100 --key-separator ': ' --headers`,
		Flags:    o.flags(),
		Complete: topic.Names(env),
		Run: func(ctx context.Context, args []string) error {
			o.topic = args[0]
			return o.run(ctx)
		},
	})
}

func (o *consumeOptions) flags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "from", Usage: "`POSITION`: start, end, an offset, an RFC 3339 time, or a duration ago such as 10m", DefaultText: "start", Destination: &o.from},
		&cli.StringFlag{Name: "at", Usage: "begin with the records of this `TIME`: RFC 3339, a duration ago, or milliseconds since 1970", Destination: &o.at},
		&cli.StringFlag{Name: "until", Usage: "end before this `POSITION`, written as for --from", DefaultText: "end", Destination: &o.until},
		&cli.IntFlag{Name: "last", Usage: "the newest `NUMBER` records of all partitions together, in the order of their timestamps", Destination: &o.last, DefaultText: "all"},
		&cli.StringFlag{Name: "grep", Usage: "only records whose key or value matches this `REGEX` (RE2)", Destination: &o.grep},
		&cli.Int64Flag{Name: "count", Aliases: []string{"n"}, Usage: "stop after `NUMBER` printed records", DefaultText: "no limit", Destination: &o.count},
		&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "wait for new records at the end", Destination: &o.follow, DisableDefaultText: true},
		&cli.IntFlag{Name: "partition", Usage: "only this partition `NUMBER`", Value: stream.AllPartitions, DefaultText: "all", Destination: &o.partition},
		&cli.StringFlag{Name: "isolation", Usage: "`LEVEL`: read_committed or read_uncommitted", Value: "read_committed", Destination: &o.isolation},
		&cli.BoolFlag{Name: "keys", Usage: "print the key and a tab before the value", Destination: &o.keys, DisableDefaultText: true},
		&cli.StringFlag{Name: "key-separator", Usage: "print the key and this `TEXT` before the value; \\t is a tab", Destination: &o.keySeparator},
		&cli.BoolFlag{Name: "headers", Usage: "print headers as NAME=VALUE,… and a tab first", Destination: &o.headers, DisableDefaultText: true},
		&cli.BoolFlag{Name: "timestamps", Usage: "print the event time and a tab first", Destination: &o.timestamps, DisableDefaultText: true},
	}, o.brokers.Flags(o.env)...)
}

// request checks the flags and says what to read.
func (o *consumeOptions) request(now time.Time) (stream.Request, error) {
	r := stream.Request{Topic: o.topic, Follow: o.follow, Last: o.last}
	var err error
	switch {
	case o.count < 0:
		return r, command.Usagef("--count %d is negative", o.count)
	case o.last < 0 || o.last > stream.MaxLast:
		return r, command.Usagef("--last %d is not from 1 to %d", o.last, stream.MaxLast)
	case o.from != "" && o.at != "":
		return r, command.Usagef("--from and --at exclude each other")
	case o.last > 0 && (o.from != "" || o.at != "" || o.until != ""):
		return r, command.Usagef("--last counts back from the end: it does not go with --from, --at and --until")
	case o.until != "" && o.follow:
		return r, command.Usagef("--until and --follow exclude each other")
	}
	if r.Partition, err = stream.PartitionNumber(o.partition); err != nil {
		return r, err
	}
	if r.From, err = stream.ParsePosition(o.from, now); err != nil {
		e := command.Usagef("--from: %w", err)
		if n, numberErr := strconv.Atoi(o.from); numberErr == nil && n < 0 { // as other tools have it
			e = e.WithFix("the newest records: --last %d", -n)
		}
		return r, e
	}
	if o.at != "" {
		if r.From, err = stream.ParseTime(o.at, now); err != nil {
			return r, command.Usagef("--at: %w", err)
		}
	}
	if o.until != "" {
		until, err := stream.ParsePosition(o.until, now)
		if err != nil {
			return r, command.Usagef("--until: %w", err)
		}
		r.Until = &until
	}
	if r.Isolation, err = stream.ParseIsolation(o.isolation); err != nil {
		return r, command.Usagef("--isolation: %w", err)
	}
	if o.grep != "" {
		if o.pattern, err = regexp.Compile(o.grep); err != nil {
			return r, command.Usagef("--grep: %w", err)
		}
	}
	return r, nil
}

func (o *consumeOptions) run(ctx context.Context) error {
	request, err := o.request(time.Now())
	if err != nil {
		return err
	}
	if request.From.Kind == stream.End && !o.follow {
		o.env.Notef("nothing to print: --from end without --follow; add --follow to wait for new records\n")
	}
	if o.follow {
		var cancel context.CancelFunc
		ctx, cancel = o.env.UntilOutClosed(ctx)
		defer cancel()
	}
	client, err := o.brokers.Open(ctx, request.Isolation.Options()...)
	if err != nil {
		return err
	}
	defer client.Close()
	out := bufio.NewWriterSize(o.env.Out, 64<<10)
	request.Idle = out.Flush
	err = stream.Read(ctx, client, request, o.visitor(newPrinter(o, out)))
	if flushErr := out.Flush(); err == nil {
		err = flushErr
	}
	if errors.Is(context.Cause(ctx), command.ErrOutClosed) {
		return nil
	}
	if err == nil {
		o.tellHeldBack(ctx, client, &request)
	}
	if o.pattern != nil {
		o.env.Notef("%d of %s matched\n", o.matched, terminal.Count(o.scanned, "record"))
	}
	return o.explain(err)
}

// tellHeldBack says that there are records which are not shown yet: a person
// who has just seen them written would look for them.
func (o *consumeOptions) tellHeldBack(ctx context.Context, client *kgo.Client, r *stream.Request) {
	if o.env.JSON || o.follow || r.Isolation == stream.ReadUncommitted || r.Until != nil || (o.count > 0 && o.matched == o.count) {
		return
	}
	// Without an answer there is only no remark.
	if n, err := stream.HeldBack(ctx, kadm.NewClient(client), o.topic, r.Partition); err == nil && n > 0 {
		o.env.Notef("%s more behind an open transaction: millstream txn producers %s --open\n", terminal.Count(n, "offset"), o.topic)
	}
}

// visitor prints the records that match, up to --count.
func (o *consumeOptions) visitor(p *printer) func(*kgo.Record) error {
	return func(r *kgo.Record) error {
		o.scanned++
		if o.pattern != nil && !o.pattern.Match(r.Value) && !o.pattern.Match(r.Key) {
			return nil
		}
		if err := p.print(r); err != nil {
			return err
		}
		if o.matched++; o.matched == o.count {
			return stream.ErrStop
		}
		return nil
	}
}

func (o *consumeOptions) explain(err error) error {
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return command.NotFoundf("topic %q does not exist", o.topic).WithFix("see what there is: millstream topic list")
	}
	return o.brokers.Explain(err, fmt.Sprintf("topic %q", o.topic))
}
