package records

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/millstream-io/millstream/cli/stream"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/millstream-io/millstream/cli/topic"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/urfave/cli/v2"
)

type consumeOptions struct {
	env          *command.Env
	brokers      connect.Brokers
	topic        string
	from         string
	count        int64
	follow       bool
	partition    int
	keySeparator string
	headers      bool
	timestamps   bool
}

// NewConsume makes the command.
func NewConsume(env *command.Env) *cli.Command {
	o := &consumeOptions{env: env}
	return command.New(env, command.Spec{
		Name: "consume", Usage: "print the records of a topic", Category: category,
		Args: "TOPIC", MinArgs: 1, MaxArgs: 1,
		Description: `Prints the value of each record as a line, from --from to where the topic ends now; with --follow
it goes on until Ctrl-C. Order holds within a partition. Bytes are printed as they are, except to a terminal, where control characters
are escaped. It joins no consumer group and commits nothing.`,
		Examples: `millstream consume notes
millstream consume notes --from 10m --follow
millstream consume notes --from 2026-11-21T13:00:00Z --count 100 --json
millstream consume notes --key-separator ': ' --headers`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "from", Usage: "`POSITION`: start, end, an offset, an RFC 3339 time, or a duration ago such as 10m", Value: "start", Destination: &o.from},
			&cli.Int64Flag{Name: "count", Aliases: []string{"n"}, Usage: "stop after `NUMBER` records", DefaultText: "no limit", Destination: &o.count},
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "wait for new records at the end", Destination: &o.follow, DisableDefaultText: true},
			&cli.IntFlag{Name: "partition", Usage: "only this partition `NUMBER`", Value: stream.AllPartitions, DefaultText: "all", Destination: &o.partition},
			&cli.StringFlag{Name: "key-separator", Usage: "print the key and this `TEXT` before the value; \\t is a tab", Destination: &o.keySeparator},
			&cli.BoolFlag{Name: "headers", Usage: "print headers as NAME=VALUE,… and a tab first", Destination: &o.headers, DisableDefaultText: true},
			&cli.BoolFlag{Name: "timestamps", Usage: "print the event time and a tab first", Destination: &o.timestamps, DisableDefaultText: true},
			o.brokers.Flag(),
		},
		Complete: topic.Names(env),
		Run: func(ctx context.Context, args []string) error {
			o.topic = args[0]
			return o.run(ctx)
		},
	})
}

func (o *consumeOptions) run(ctx context.Context) error {
	from, err := stream.ParsePosition(o.from, time.Now())
	if err != nil {
		return command.Usagef("--from: %w", err)
	}
	if o.count < 0 {
		return command.Usagef("--count %d is negative", o.count)
	}
	if o.partition < stream.AllPartitions {
		return command.Usagef("--partition %d is negative", o.partition)
	}
	if from.Kind == stream.End && !o.follow {
		o.env.Notef("nothing to print: --from end without --follow; add --follow to wait for new records\n")
	}
	if o.follow {
		var cancel context.CancelFunc
		ctx, cancel = o.env.UntilOutClosed(ctx)
		defer cancel()
	}
	client, err := o.brokers.Open(ctx, stream.Options()...)
	if err != nil {
		return err
	}
	defer client.Close()
	out := bufio.NewWriterSize(o.env.Out, 64<<10)
	p := newPrinter(o, out)
	var printed int64
	request := stream.Request{Topic: o.topic, Partition: int32(o.partition), From: from, Follow: o.follow, Idle: out.Flush}
	err = stream.Read(ctx, client, request, func(r *kgo.Record) error {
		if err := p.print(r); err != nil {
			return err
		}
		if printed++; printed == o.count {
			return stream.ErrStop
		}
		return nil
	})
	if flushErr := out.Flush(); err == nil {
		err = flushErr
	}
	if errors.Is(context.Cause(ctx), command.ErrOutClosed) {
		return nil
	}
	return o.explain(err)
}

func (o *consumeOptions) explain(err error) error {
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return command.NotFoundf("topic %q does not exist", o.topic).WithFix("see what there is: millstream topic list")
	}
	return o.brokers.Explain(err, fmt.Sprintf("topic %q", o.topic))
}

// printer writes records in the form that the flags ask for.
type printer struct {
	out        *bufio.Writer
	json       *json.Encoder
	separator  string
	keys       bool
	headers    bool
	timestamps bool
	escape     bool
}

func newPrinter(o *consumeOptions, out *bufio.Writer) *printer {
	p := &printer{
		out: out, separator: strings.ReplaceAll(o.keySeparator, `\t`, "\t"), keys: o.keySeparator != "",
		headers: o.headers, timestamps: o.timestamps, escape: o.env.OutTerminal,
	}
	if o.env.JSON {
		p.json = json.NewEncoder(out)
		p.json.SetEscapeHTML(false)
	}
	return p
}

func (p *printer) print(r *kgo.Record) error {
	if p.json != nil {
		return p.json.Encode(newDocument(r))
	}
	if p.timestamps {
		p.out.WriteString(r.Timestamp.UTC().Format(timestampLayout))
		p.out.WriteByte('\t')
	}
	if p.headers {
		for i, h := range r.Headers {
			if i > 0 {
				p.out.WriteByte(',')
			}
			p.bytes([]byte(h.Key))
			p.out.WriteByte('=')
			p.bytes(h.Value)
		}
		p.out.WriteByte('\t')
	}
	if p.keys {
		p.bytes(r.Key)
		p.out.WriteString(p.separator)
	}
	p.bytes(r.Value)
	return p.out.WriteByte('\n')
}

func (p *printer) bytes(b []byte) {
	if p.escape {
		b = terminal.Escape(b)
	}
	p.out.Write(b)
}
