package records

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/millstream-io/millstream/cli/topic"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/urfave/cli/v2"
)

type produceOptions struct {
	env          *command.Env
	brokers      connect.Brokers
	topic        string
	key          string
	keySet       bool
	keySeparator string
	headers      cli.StringSlice
	partition    int
	compression  string
}

// NewProduce makes the command.
func NewProduce(env *command.Env) *cli.Command {
	o := &produceOptions{env: env}
	c := command.New(env, command.Spec{
		Name: "produce", Usage: "write lines from standard input to a topic", Category: category,
		Args: "TOPIC", MinArgs: 1, MaxArgs: 1,
		Description: `Each line is the value of one record. With --key-separator the part before its first
occurrence is the key; a line without it has no key. With --json each line is an object with key, value, headers and timestamp
(RFC 3339 or milliseconds), as consume --json prints it, and the summary is JSON too. Records are acknowledged when they are
on disk; the exit code is 1 if any was not.`,
		Examples: `echo 'the cat sleeps' | millstream produce notes
printf 'anna:good morning\nben:thank you\n' | millstream produce notes --key-separator :
millstream consume notes --json | millstream produce notes.copy --json`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "key", Usage: "`KEY` of every record", Destination: &o.key},
			&cli.StringFlag{Name: "key-separator", Usage: "`TEXT` between key and value of a line; \\t is a tab", Destination: &o.keySeparator},
			&cli.StringSliceFlag{Name: "header", Usage: "header `NAME=VALUE` of every record; may be repeated", Destination: &o.headers},
			&cli.IntFlag{Name: "partition", Usage: "write to this partition `NUMBER` instead of the key's", Value: -1, DefaultText: "by key", Destination: &o.partition},
			&cli.StringFlag{Name: "compression", Usage: "`CODEC`: none, gzip, snappy, lz4 or zstd", Value: "none", Destination: &o.compression},
			o.brokers.Flag(),
		},
		Complete: topic.Names(env),
		Run: func(ctx context.Context, args []string) error {
			o.topic = args[0]
			return o.run(ctx)
		},
	})
	c.Before = func(cc *cli.Context) error {
		o.keySet = cc.IsSet("key")
		return nil
	}
	return c
}

func (o *produceOptions) options() ([]kgo.Opt, error) {
	codec, ok := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}[o.compression]
	if !ok {
		return nil, command.Usagef("--compression %q is unknown", o.compression).WithFix("it is none, gzip, snappy, lz4 or zstd")
	}
	if o.keySet && o.keySeparator != "" {
		return nil, command.Usagef("--key and --key-separator exclude each other")
	}
	options := []kgo.Opt{
		kgo.DefaultProduceTopic(o.topic),
		kgo.ProducerBatchCompression(codec),
		kgo.AllowAutoTopicCreation(),
		kgo.ProducerLinger(5 * time.Millisecond),
		kgo.UnknownTopicRetries(20),
	}
	if o.partition >= 0 {
		options = append(options, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	return options, nil
}

func (o *produceOptions) run(ctx context.Context) error {
	options, err := o.options()
	if err != nil {
		return err
	}
	headers, err := o.fixedHeaders()
	if err != nil {
		return err
	}
	client, err := o.brokers.Open(ctx, options...)
	if err != nil {
		return err
	}
	defer client.Close()
	if o.env.InTerminal {
		o.env.Notef("type lines for %q; Ctrl-D ends\n", o.topic)
	}
	p := newDelivery(ctx)
	defer p.close()
	inputErr := o.send(ctx, client, headers, p)
	// What was read before an interrupt is still delivered; a second interrupt ends that.
	flushErr := client.Flush(p.ctx)
	o.summary(p)
	switch {
	case p.first != nil:
		return o.explain(p)
	case inputErr != nil:
		return inputErr
	}
	return flushErr
}

// send reads lines until their end, the end of ctx or the first failure.
func (o *produceOptions) send(ctx context.Context, client *kgo.Client, headers []kgo.RecordHeader, p *delivery) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	separator := []byte(strings.ReplaceAll(o.keySeparator, `\t`, "\t"))
	input := readLines(ctx, o.env.In)
	for n := 1; ; n++ {
		var line []byte
		var ok bool
		select {
		case line, ok = <-input.next:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if !ok {
			return input.err
		}
		if o.env.JSON && len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		r, err := o.record(line, separator)
		if err != nil {
			return command.Failedf("line %d: %w", n, err).WithFix("the lines before it were written; run again from line %d", n)
		}
		r.Headers = append(r.Headers, headers...)
		if o.partition >= 0 {
			r.Partition = int32(o.partition)
		}
		p.sent()
		client.Produce(p.ctx, r, p.done)
		if p.failing() {
			return nil
		}
	}
}

func (o *produceOptions) record(line, separator []byte) (*kgo.Record, error) {
	if o.env.JSON {
		r, err := parseDocument(line)
		if err == nil && o.keySet {
			r.Key = []byte(o.key)
		}
		return r, err
	}
	r := &kgo.Record{Value: line}
	if o.keySet {
		r.Key = []byte(o.key)
	}
	if len(separator) > 0 {
		if k, v, found := bytes.Cut(line, separator); found {
			r.Key, r.Value = k, v
		}
	}
	return r, nil
}

func (o *produceOptions) fixedHeaders() ([]kgo.RecordHeader, error) {
	var out []kgo.RecordHeader
	for _, h := range o.headers.Value() {
		name, value, ok := strings.Cut(h, "=")
		if !ok || name == "" {
			return nil, command.Usagef("--header %q is not NAME=VALUE", h)
		}
		out = append(out, kgo.RecordHeader{Key: name, Value: []byte(value)})
	}
	return out, nil
}

func (o *produceOptions) explain(p *delivery) error {
	what := fmt.Sprintf("%s of topic %q not written", terminal.Count(p.failed, "record"), o.topic)
	if errors.Is(p.first, kerr.UnknownTopicOrPartition) {
		return command.NotFoundf("topic %q does not exist", o.topic).WithFix("create it: millstream topic create %s", o.topic)
	}
	if errors.Is(context.Cause(p.ctx), errStalled) {
		return &command.Error{
			Code: command.CodeUnreachable, Err: fmt.Errorf("%s: %w", what, errStalled),
			Fix: "see whether the server runs: millstream topic list",
		}
	}
	return o.brokers.Explain(p.first, what)
}

// summaryAfter is how long producing takes before its result is told without a terminal.
const summaryAfter = 2 * time.Second

func (o *produceOptions) summary(p *delivery) {
	p.mu.Lock()
	defer p.mu.Unlock()
	took := time.Since(p.started)
	if o.env.JSON {
		_ = o.env.PrintJSON(map[string]any{
			"topic": o.topic, "records": p.records, "bytes": p.bytes, "failed": p.failed, "seconds": took.Seconds(),
		})
		return
	}
	if !o.env.ErrTerminal && took < summaryAfter {
		return
	}
	rate := float64(p.records) / max(took.Seconds(), 0.001)
	o.env.Notef("%s, %s to %q in %s (%.0f a second)\n",
		terminal.Count(p.records, "record"), terminal.Size(p.bytes), o.topic, terminal.Duration(took), rate)
}
