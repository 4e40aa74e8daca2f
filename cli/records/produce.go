package records

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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

type produceOptions struct {
	env          *command.Env
	brokers      connect.Brokers
	topic        string
	key          string
	keySet       bool
	keySeparator string
	headers      cli.StringSlice
	timestamp    string
	partition    int
	compression  string
	acks         string

	transactional bool

	at time.Time // of timestamp; zero: now, or the line's own
}

// NewProduce makes the command.
func NewProduce(env *command.Env) *cli.Command {
	o := &produceOptions{env: env}
	c := command.New(env, command.Spec{
		Name: "produce", Usage: "write lines from standard input to a topic", Category: category,
		Args: "TOPIC", MinArgs: 1, MaxArgs: 1,
		Description: `Each line, without its end (LF or CR LF), is the value of one record. With --key-separator the part before its first
occurrence is the key; a line without it has no key. With --json each line is an object with key, value, headers and timestamp
(RFC 3339 or milliseconds), as consume --json prints it, and the summary is JSON too. Records are acknowledged when they are
on disk; the exit code is 1 if any was not. With --transactional all lines become visible together at the end of the input, or
none of them if there is an error or an interrupt.`,
		Examples: `echo 'the cat sleeps' | millstream produce notes
printf 'anna:good morning\nben:thank you\n' | millstream produce notes --key-separator :
millstream consume notes --json | millstream produce notes.copy --json
millstream produce notes --transactional --compression zstd < notes.txt`,
		Flags:    o.flags(),
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

func (o *produceOptions) flags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "key", Usage: "`KEY` of every record", Destination: &o.key},
		&cli.StringFlag{Name: "key-separator", Usage: "`TEXT` between key and value of a line; \\t is a tab", Destination: &o.keySeparator},
		&cli.StringSliceFlag{Name: "header", Usage: "header `NAME=VALUE` of every record; may be repeated", Destination: &o.headers},
		&cli.StringFlag{Name: "timestamp", Usage: "event `TIME` of every record without its own: RFC 3339, a duration ago, or milliseconds since 1970", DefaultText: "now", Destination: &o.timestamp},
		&cli.IntFlag{Name: "partition", Usage: "write to this partition `NUMBER` instead of the key's", Value: -1, DefaultText: "by key", Destination: &o.partition},
		&cli.StringFlag{Name: "compression", Usage: "`CODEC`: none, gzip, snappy, lz4 or zstd", Value: "none", Destination: &o.compression},
		&cli.StringFlag{Name: "acks", Usage: "what to wait for, `ACKS`: all (on disk), 1 (in the broker's memory) or 0 (nothing)", Value: "all", Destination: &o.acks},
		&cli.BoolFlag{Name: "transactional", Usage: "write all lines in one transaction", Destination: &o.transactional, DisableDefaultText: true},
	}, o.brokers.Flags(o.env)...)
}

// refusals is how often the broker may refuse a batch, for a reason that may
// pass, before it is given up: some seconds, in which a partition finds a leader.
const refusals = 100

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
	if _, err := stream.PartitionNumber(o.partition); err != nil {
		return nil, err
	}
	if o.timestamp != "" {
		at, err := stream.ParseTime(o.timestamp, time.Now())
		if err != nil {
			return nil, command.Usagef("--timestamp: %w", err)
		}
		o.at = at.Time
	}
	options := []kgo.Opt{
		kgo.DefaultProduceTopic(o.topic),
		kgo.ProducerBatchCompression(codec),
		kgo.AllowAutoTopicCreation(),
		kgo.ProducerLinger(5 * time.Millisecond),
		kgo.UnknownTopicRetries(20),
		kgo.RecordRetries(refusals),
	}
	acks, err := o.acknowledgement()
	if err != nil {
		return nil, err
	}
	options = append(options, acks...)
	if o.partition >= 0 {
		options = append(options, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	return options, nil
}

// acknowledgement are the options for --acks and --transactional.
func (o *produceOptions) acknowledgement() ([]kgo.Opt, error) {
	var options []kgo.Opt
	switch o.acks {
	case "all":
	case "1":
		options = append(options, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	case "0":
		options = append(options, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	default:
		return nil, command.Usagef("--acks %q is unknown", o.acks).WithFix("it is all, 1 or 0")
	}
	if !o.transactional {
		// A batch whose fate is not known is given up too when the stall timeout ends it.
		return append(options, kgo.AllowIdempotentProduceCancellation()), nil
	}
	if o.acks != "all" {
		return nil, command.Usagef("--transactional needs --acks all")
	}
	return append(options, transactionOptions()...), nil
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
	p := newDelivery(ctx)
	defer p.close()
	client, err := o.brokers.Open(ctx, append(options, kgo.WithHooks(&p.contact))...)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := o.brokers.Greet(ctx, client); err != nil {
		return err
	}
	if err := o.checkPartition(ctx, client); err != nil {
		return err
	}
	if o.transactional {
		if err := client.BeginTransaction(); err != nil {
			return o.brokers.Explain(err, "begin a transaction")
		}
	}
	if o.env.InTerminal {
		o.env.Notef("type lines for %q; Ctrl-D ends\n", o.topic)
	}
	progress := terminal.NewProgress(o.env.Err, o.env.ErrTerminal && !o.env.InTerminal && !o.env.JSON, "")
	progress.Watch(func() string { return fmt.Sprintf("%s to %q", terminal.Count(p.written(), "record"), o.topic) })
	inputErr := o.send(ctx, client, headers, p)
	// What was read before an interrupt is still delivered; a second interrupt ends that.
	flushErr := client.Flush(p.ctx)
	progress.Done()
	if inputErr == nil {
		inputErr = flushErr
	}
	if o.transactional {
		inputErr = o.endTransaction(ctx, client, p, inputErr)
	}
	o.summary(p)
	if p.failure() != nil || p.stalled() {
		return o.explain(ctx, client, p)
	}
	return inputErr
}

// checkPartition finds out before anything is read that --partition does not exist; a topic that does not may be created.
func (o *produceOptions) checkPartition(ctx context.Context, client *kgo.Client) error {
	if o.partition < 0 {
		return nil
	}
	partitions, err := stream.Partitions(ctx, kadm.NewClient(client), o.topic)
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return nil
	case err != nil:
		return o.brokers.Explain(err, fmt.Sprintf("topic %q", o.topic))
	case !slices.Contains(partitions, int32(o.partition)):
		e := stream.NoPartition(o.topic, o.partition, len(partitions))
		return e.WithFix("%s; add some: millstream topic alter %s --partitions %d", e.Fix, o.topic, o.partition+1)
	}
	return nil
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
			e := command.Failedf("line %d: %w", n, err).WithFix("the lines before it were written; run again from line %d", n)
			if o.transactional {
				return e.WithFix("nothing was written; run again with the line mended")
			}
			return e
		}
		r.Headers = append(r.Headers, headers...)
		if r.Timestamp.IsZero() {
			r.Timestamp = o.at
		}
		if o.partition >= 0 {
			r.Partition = int32(o.partition)
		}
		p.sent()
		client.Produce(p.ctx, r, p.done)
		if p.failure() != nil {
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
