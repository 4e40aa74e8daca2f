package dlq

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/stream"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/urfave/cli/v2"
)

type retryOptions struct {
	env *command.Env
	target
	partition int
	offset    int64
	reason    string
	dryRun    bool
}

func newRetry(env *command.Env) *cli.Command {
	o := &retryOptions{env: env}
	return command.New(env, command.Spec{
		Name: "retry", Usage: "send failed records to their topics once more", Args: "NAME", MinArgs: 1, MaxArgs: 1,
		Description: `Sends the records, as they were, to the topic and partition they came from, with one more header, millstream.retry.of, that
names the letter: mend the module or what it depends on before. What is sent is marked in the same transaction, so that no letter is ever
sent twice, whatever is interrupted; one that fails again becomes a new letter. The letters stay in their topic.

A record that was too large for the topic NAME.dlq is taken from its source, if it is still there.`,
		Examples: `millstream dlq retry spanish --dry-run
millstream dlq retry spanish
millstream dlq retry spanish --partition 0 --offset 17
millstream dlq retry spanish --reason 'dictionary is not loaded'`,
		Flags: append([]cli.Flag{
			&cli.IntFlag{Name: "partition", Usage: "only letters in this partition `NUMBER` of the topic NAME.dlq", Value: stream.AllPartitions, DefaultText: "all", Destination: &o.partition},
			&cli.Int64Flag{Name: "offset", Usage: "only the letter at this `OFFSET` of --partition", Value: -1, DefaultText: "all", Destination: &o.offset},
			&cli.StringFlag{Name: "reason", Usage: "only letters whose kind or reason has this `TEXT` in it", Destination: &o.reason},
			&cli.BoolFlag{Name: "dry-run", Usage: "only show what would be sent", Destination: &o.dryRun, DisableDefaultText: true},
		}, o.brokers.Flags(env)...),
		Complete: names(env),
		Run: func(ctx context.Context, args []string) error {
			o.deployment = args[0]
			return o.run(ctx)
		},
	})
}

// A transaction of retries ends with so many letters, or bytes.
const (
	chunkLetters = 1000
	chunkBytes   = 8 << 20
)

// retryTimeout bounds a transaction: the brokers end it then, when this process cannot.
const retryTimeout = time.Minute

// retry is a run of the command.
type retry struct {
	*retryOptions
	reader   *kgo.Client
	producer *kgo.Client
	admin    *kadm.Client
	id       string // transactional

	done     *marks
	sources  map[string]error // why a topic takes nothing; nil: it does
	chunk    []*letter
	bytes    int
	sent     []*letter
	already  int // letters that were asked for and retried before
	left     []leftover
	skipping map[int32]int64 // next offset of each partition that was looked at
	behind   []hole          // holes behind letters of the chunk, which have no marks yet
	moved    bool            // marks changed by holes alone, which is not committed yet
}

// hole is where a partition has offsets without letters: marks at which transactions end, and what compaction left.
type hole struct {
	partition int32
	from, to  int64
}

// leftover is a letter that was not sent.
type leftover struct {
	Letter string `json:"letter"`
	Reason string `json:"reason"`
}

func (o *retryOptions) run(ctx context.Context) error {
	if _, err := stream.PartitionNumber(o.partition); err != nil {
		return err
	}
	if o.offset >= 0 && o.partition < 0 {
		return command.Usagef("--offset needs --partition").WithFix("millstream dlq list shows both, as PARTITION:OFFSET")
	}
	r := &retry{retryOptions: o, id: "millstream-retry-" + o.topic(), sources: map[string]error{}, skipping: map[int32]int64{}}
	var err error
	if r.reader, err = o.brokers.Open(ctx, stream.Options()...); err != nil {
		return err
	}
	defer r.reader.Close()
	r.admin = kadm.NewClient(r.reader)
	r.producer, err = o.brokers.Open(ctx, append(stream.TransactionOptions(r.id),
		kgo.TransactionTimeout(retryTimeout), kgo.RecordPartitioner(home{}), kgo.ProducerBatchMaxBytes(16<<20))...)
	if err != nil {
		return err
	}
	defer r.producer.Close()
	if err := r.all(ctx); err != nil {
		return o.explain(err)
	}
	return r.report()
}

// all sends what is to be sent.
func (r *retry) all(ctx context.Context) error {
	partitions, err := stream.Partitions(ctx, r.admin, r.topic())
	if err != nil {
		return err
	}
	if r.partition >= 0 {
		if !slices.Contains(partitions, int32(r.partition)) {
			return stream.NoPartition(r.topic(), r.partition, len(partitions))
		}
		partitions = []int32{int32(r.partition)}
	}
	if !r.dryRun {
		// From here on no other retry of these letters can commit, so the marks are the last word.
		if _, _, err := r.producer.ProducerID(ctx); err != nil {
			return err
		}
	}
	if r.done, err = readMarks(ctx, r.admin, r.topic(), r.topic()); err != nil {
		return err
	}
	ends, err := r.admin.ListCommittedOffsets(ctx, r.topic())
	if err != nil {
		return err
	}
	for _, p := range partitions {
		request := stream.Request{Topic: r.topic(), Partition: p, From: stream.Position{Kind: stream.Offset, Offset: r.done.start(p)}}
		r.skipping[p] = r.done.start(p)
		if r.offset >= 0 {
			request.From.Offset = r.offset
			request.Until = &stream.Position{Kind: stream.Offset, Offset: r.offset + 1}
		}
		if err := stream.Read(ctx, r.reader, request, func(record *kgo.Record) error { return r.take(ctx, record) }); err != nil {
			return err
		}
		if end, ok := ends.Lookup(r.topic(), p); ok && r.offset < 0 && end.Err == nil {
			r.pass(p, end.Offset)
		}
	}
	if r.offset >= 0 && len(r.chunk)+r.already+len(r.left) == 0 && r.reason == "" {
		return command.NotFoundf("there is no letter at offset %d of partition %d of topic %q", r.offset, r.partition, r.topic())
	}
	if err := r.send(ctx); err != nil {
		return err
	}
	return r.settle(ctx)
}

// pass goes on to an offset: what lies before it and was not seen is a hole.
func (r *retry) pass(partition int32, to int64) {
	from := r.skipping[partition]
	if from >= to {
		return
	}
	if n := len(r.chunk); n > 0 && r.chunk[n-1].record.Partition == partition && r.chunk[n-1].record.Offset == from-1 {
		r.behind = append(r.behind, hole{partition, from, to})
		return
	}
	r.moved = r.done.gap(partition, from, to) || r.moved
}

// take looks at one record of the topic.
func (r *retry) take(ctx context.Context, record *kgo.Record) error {
	if r.offset < 0 {
		r.pass(record.Partition, record.Offset)
		r.skipping[record.Partition] = record.Offset + 1
	} else if record.Offset != r.offset {
		return nil
	}
	l := newLetter(cloned(record), r.done)
	switch {
	case !l.matches(r.reason):
		return nil
	case l.strange != nil:
		r.leave(l, l.strange)
		return nil
	case l.retried:
		r.already++
		return nil
	}
	if err := r.restore(ctx, l); err != nil {
		if ctx.Err() != nil {
			return err
		}
		r.leave(l, err)
		return nil
	}
	r.chunk = append(r.chunk, l)
	r.bytes += len(l.Record.Key) + len(l.Record.Value)
	if len(r.chunk) < chunkLetters && r.bytes < chunkBytes {
		return nil
	}
	return r.send(ctx)
}

func (r *retry) leave(l *letter, why error) {
	r.left = append(r.left, leftover{Letter: fmt.Sprintf("%d:%d", l.record.Partition, l.record.Offset), Reason: why.Error()})
}

// restore makes sure that the letter can be sent: its topic is there, and so is its value.
func (r *retry) restore(ctx context.Context, l *letter) error {
	missing, known := r.sources[l.From.Topic]
	if !known {
		_, err := stream.Partitions(ctx, r.admin, l.From.Topic)
		if errors.Is(err, kerr.UnknownTopicOrPartition) {
			missing = fmt.Errorf("its topic %q does not exist any more", l.From.Topic)
		} else if err != nil {
			return err
		}
		r.sources[l.From.Topic] = missing
	}
	if missing != nil || l.CutBytes < 0 {
		return missing
	}
	client, err := r.brokers.Open(ctx, stream.Options()...)
	if err != nil {
		return err
	}
	defer client.Close()
	original, err := readOne(ctx, client, l.From.Topic, l.From.Partition, l.Letter.Offset)
	if err != nil {
		return fmt.Errorf("its value is not in the letter, and its source has none: %w", err)
	}
	if len(original.Value) != l.CutBytes || !l.KeyCut && !bytes.Equal(original.Key, l.record.Key) {
		return fmt.Errorf("its value is not in the letter, and what is in its source at offset %d is another record", l.Letter.Offset)
	}
	l.Record = portable(cloned(original))
	return nil
}

// send sends the chunk and marks it, in one transaction.
func (r *retry) send(ctx context.Context) (err error) {
	chunk := r.chunk
	r.chunk, r.bytes = nil, 0
	if len(chunk) == 0 {
		return nil
	}
	for _, l := range chunk {
		r.done.add(l.record.Partition, l.record.Offset)
	}
	for _, h := range r.behind {
		r.done.gap(h.partition, h.from, h.to)
	}
	r.behind, r.moved = nil, false
	r.sent = append(r.sent, chunk...)
	if r.dryRun {
		return nil
	}
	offsets, err := r.done.offsets(r.topic())
	if err != nil {
		return err
	}
	if err := r.producer.BeginTransaction(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			r.sent = r.sent[:len(r.sent)-len(chunk)]
			r.abort(ctx)
		}
	}()
	failures := make([]error, len(chunk))
	for i, l := range chunk {
		r.producer.Produce(ctx, l.again(), func(_ *kgo.Record, err error) {
			if err != nil {
				failures[i] = fmt.Errorf("send %s to %s once more: %w", l.address(), l.From.Topic, err)
			}
		})
	}
	if err := r.producer.Flush(ctx); err != nil {
		return err
	}
	for _, failure := range failures {
		if failure != nil {
			return failure
		}
	}
	if err := stream.CommitOffsets(ctx, r.producer, r.id, r.topic(), offsets); err != nil {
		return err
	}
	return r.producer.EndTransaction(ctx, kgo.TryCommit)
}

// settle commits marks that have moved without letters being sent.
func (r *retry) settle(ctx context.Context) error {
	if !r.moved || r.dryRun {
		return nil
	}
	offsets, err := r.done.offsets(r.topic())
	if err != nil {
		return err
	}
	if err := stream.CommitOffsets(ctx, r.producer, r.id, r.topic(), offsets); err != nil {
		return err
	}
	return stream.EndOffsets(ctx, r.producer, r.id)
}

// abort spares readers the wait for the transaction's timeout.
func (r *retry) abort(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := r.producer.AbortBufferedRecords(ctx)
	if err == nil {
		err = r.producer.EndTransaction(ctx, kgo.TryAbort)
	}
	if err != nil {
		r.env.Notef("the transaction could not be aborted, the brokers do it within %s: %v\n", retryTimeout, err)
	}
}

// again is the record as it is sent.
func (l *letter) again() *kgo.Record {
	from := l.Again(l.address())
	out := &kgo.Record{
		Topic: l.From.Topic, Partition: l.From.Partition, Timestamp: time.UnixMilli(from.Timestamp),
		Key: from.Key, Value: from.Value,
	}
	for _, h := range from.Headers {
		out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
	}
	return out
}

func (r *retry) report() error {
	if r.env.JSON {
		documents := []document{}
		for _, l := range r.sent {
			documents = append(documents, l.document())
		}
		if r.left == nil {
			r.left = []leftover{}
		}
		err := r.env.PrintJSON(map[string]any{
			"deployment": r.deployment, "dry_run": r.dryRun, "retried": documents, "retried_before": r.already, "left": r.left,
		})
		return errors.Join(err, r.verdict())
	}
	if r.dryRun && len(r.sent) > 0 {
		t := terminal.NewTable(r.env.Out, "letter", "time", "source", "kind", "reason")
		for _, l := range r.sent {
			t.Row(l.row()...)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	for _, l := range r.left {
		r.env.Notef("left: %s: %s\n", l.Letter, l.Reason)
	}
	switch n := terminal.Count(int64(len(r.sent)), "letter"); {
	case r.dryRun:
		r.env.Notef("%s would be sent (--dry-run)\n", n)
	case len(r.sent) == 0 && len(r.left) == 0 && r.already > 0:
		r.env.Printf("nothing to send: retried before\n")
	case len(r.sent) == 0 && len(r.left) == 0:
		r.env.Printf("nothing to send\n")
	default:
		r.env.Printf("sent %s once more\n", n)
	}
	return r.verdict()
}

// verdict is an error when letters that were asked for could not be sent.
func (r *retry) verdict() error {
	if len(r.left) == 0 || r.dryRun {
		return nil
	}
	return command.Failedf("%s of %q could not be sent", terminal.Count(int64(len(r.left)), "letter"), r.deployment)
}

// cloned is a record that stays as it is when the client reuses its buffers.
func cloned(r *kgo.Record) *kgo.Record {
	c := *r
	c.Key, c.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
	c.Headers = slices.Clone(r.Headers)
	for i := range c.Headers {
		c.Headers[i].Value = bytes.Clone(c.Headers[i].Value)
	}
	return &c
}

// home sends records to the partition they came from; if the topic has no such partition any more, by key.
type home struct{}

// ForTopic implements kgo.Partitioner.
func (home) ForTopic(topic string) kgo.TopicPartitioner {
	return homePartitioner{kgo.StickyKeyPartitioner(nil).ForTopic(topic)}
}

type homePartitioner struct{ kgo.TopicPartitioner }

// RequiresConsistency implements kgo.TopicPartitioner.
func (homePartitioner) RequiresConsistency(*kgo.Record) bool { return true }

// Partition implements kgo.TopicPartitioner.
func (h homePartitioner) Partition(r *kgo.Record, n int) int {
	if int(r.Partition) < n {
		return int(r.Partition)
	}
	return h.TopicPartitioner.Partition(r, n)
}
