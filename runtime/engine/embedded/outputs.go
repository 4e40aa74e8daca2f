package embedded

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/millstream-io/millstream/broker/coord/txn"
	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/engine/batch"
	"github.com/millstream-io/millstream/sdk/abi"
)

const (
	// defaultMessageBytes is what a topic takes whose setting cannot be read.
	defaultMessageBytes = 1 << 20
	// retainBytes is how large a partition's buffer may stay between commits.
	retainBytes = 1 << 20
	// aheadBytes is how much is collected for a partition before it is written, ahead of the commit:
	// enough for an append to cost little, and little enough to be still in the cache of its core.
	aheadBytes = 256 << 10
	// aheadOfAll is how many times that is collected for all partitions.
	aheadOfAll = 16
	// recordOverheadBytes is the most that a record's own lengths and deltas take in a batch.
	recordOverheadBytes = 64
)

// outputs builds the batches of one open batch of a session, one row of
// batches for each output partition. What goes beyond a bound is written ahead.
type outputs struct {
	topics *topic.Topics
	// ahead is how many bytes are collected for a partition.
	ahead int
	// txn is the transaction that everything is written in; nil: none.
	txn *transaction
	// written is told what an append wrote.
	written func(p *topic.Partition, end int64, bytes int)
	// inputPartition chooses the partition of outputs without a key.
	inputPartition int32
	byIndex        []*outputTopic
	byName         map[string]*outputTopic

	dirty   []*outputPartition // with records of the open batch, in the order they were first written to
	headers []byte             // of the present record, in the batch's form
	// buffered is about how many bytes the dirty partitions hold.
	buffered int
}

// outputTopic is a topic that outputs go to, as of the last refresh.
type outputTopic struct {
	name            string
	id              topic.ID
	partitions      []*outputPartition
	unkeyed         *outputPartition // of outputs without a key
	maxMessageBytes int
	compact         bool // only: records without a key are refused
	fresh           bool // looked up since the batch was opened
}

type outputPartition struct {
	partition *topic.Partition
	builder   record.Builder
	buffer    []byte
	building  bool // the builder holds the buffer
	room      int  // in the batch being built, for records as large as they may be with recordOverheadBytes
	buffered  int  // about how many bytes it has
	dirty     bool

	// joined is the producer in whose open transaction the partition is, stamp the one
	// that the batches being built are of, with the sequence of the next.
	joined, stamp txn.Producer
	sequence      int32
}

func newOutputs(topics *topic.Topics, inputPartition int32, t *transaction, written func(p *topic.Partition, end int64, bytes int)) *outputs {
	return &outputs{topics: topics, ahead: aheadBytes, inputPartition: inputPartition, txn: t, written: written, byName: map[string]*outputTopic{}}
}

func (o *outputs) named(name string) *outputTopic {
	t := o.byName[name]
	if t == nil {
		t = &outputTopic{name: name}
		o.byName[name] = t
	}
	return t
}

// begin makes ready for a new batch; topics may have grown or changed since the last.
func (o *outputs) begin(names []string) {
	o.byIndex = o.byIndex[:0]
	for _, name := range names {
		o.byIndex = append(o.byIndex, o.named(name))
	}
	for _, t := range o.byName {
		t.fresh = false
	}
}

// refresh looks the topic up, for outputs to inputPartition.
func (t *outputTopic) refresh(topics *topic.Topics, inputPartition int32) error {
	info, ok := topics.Lookup(t.name)
	if !ok || info.Partitions == 0 {
		return fmt.Errorf("%w: output %q", engine.ErrUnknownTopic, t.name)
	}
	if info.ID != t.id {
		t.id, t.partitions = info.ID, nil
	}
	for i := len(t.partitions); i < info.Partitions; i++ {
		p, err := topics.Partition(t.name, int32(i))
		if err != nil {
			return explain(err)
		}
		t.partitions = append(t.partitions, &outputPartition{partition: p, joined: txn.NoProducer, stamp: txn.NoProducer})
	}
	t.unkeyed = t.partitions[int(inputPartition)%len(t.partitions)]
	value, _ := topics.ConfigValue(t.name, "max.message.bytes")
	limit, err := strconv.Atoi(value)
	if err != nil || limit <= 0 {
		limit = defaultMessageBytes
	}
	t.maxMessageBytes = limit
	policy, _ := topics.ConfigValue(t.name, "cleanup.policy")
	t.compact = strings.Contains(policy, "compact")
	t.fresh = true
	return nil
}

// add encodes one output of the guest.
func (o *outputs) add(ctx context.Context, r *abi.Output) error {
	if r.Index < 0 || r.Index >= len(o.byIndex) {
		return fmt.Errorf("output index %d, the batch has %d output topics", r.Index, len(o.byIndex))
	}
	t := o.byIndex[r.Index]
	if !t.fresh {
		if err := t.refresh(o.topics, o.inputPartition); err != nil {
			return err
		}
	}
	o.headers = o.headers[:0]
	if r.HeaderCount > 0 {
		if err := o.encodeHeaders(r); err != nil {
			return err
		}
	}
	return o.put(ctx, t, r)
}

func (o *outputs) encodeHeaders(r *abi.Output) error {
	rest := r.Headers
	for range r.HeaderCount {
		name, value, tail, ok := abi.NextHeader(rest)
		if !ok {
			return fmt.Errorf("headers of an output of record %d are not in the flat form", r.Input)
		}
		o.headers = record.AppendHeader(o.headers, name, value)
		rest = tail
	}
	return nil
}

// addTo encodes one record for a topic by name.
func (o *outputs) addTo(ctx context.Context, name string, r *engine.Record) error {
	t := o.named(name)
	if !t.fresh {
		if err := t.refresh(o.topics, o.inputPartition); err != nil {
			return err
		}
	}
	o.headers = appendHeaders(o.headers[:0], r.Headers)
	return o.put(ctx, t, &abi.Output{Input: -1, Timestamp: r.Timestamp, Key: r.Key, Value: r.Value, HeaderCount: len(r.Headers)})
}

func appendHeaders(dst []byte, headers []engine.Header) []byte {
	for i := range headers {
		dst = record.AppendHeader(dst, []byte(headers[i].Name), headers[i].Value)
	}
	return dst
}

// put adds a record, whose headers are in o.headers, to the batch of its partition.
func (o *outputs) put(ctx context.Context, t *outputTopic, r *abi.Output) error {
	p := t.unkeyed
	if r.Key != nil {
		p = t.keyed(r.Key)
	} else if t.compact {
		return &engine.OutputError{Input: r.Input, Topic: t.name, Err: engine.ErrInvalidRecord,
			Detail: "the record has no key and the topic is compacted"}
	}
	bytes := recordOverheadBytes + len(r.Key) + len(r.Value) + len(o.headers)
	if bytes > p.room || o.buffered > aheadOfAll*o.ahead {
		if record.HeaderBytes+bytes > t.maxMessageBytes {
			return &engine.OutputError{Input: r.Input, Topic: t.name, Err: engine.ErrTooLarge, Detail: fmt.Sprintf(
				"key, value and headers have %d bytes, max.message.bytes is %d", bytes-recordOverheadBytes, t.maxMessageBytes)}
		}
		if err := o.makeRoom(ctx, p, bytes, min(o.ahead, t.maxMessageBytes)); err != nil {
			return err
		}
	}
	p.builder.Append(r.Timestamp, r.Key, r.Value, o.headers, r.HeaderCount)
	p.room -= bytes
	p.buffered += bytes
	o.buffered += bytes
	return nil
}

// keyed is the partition of a key.
func (t *outputTopic) keyed(key []byte) *outputPartition {
	if len(t.partitions) == 1 {
		return t.partitions[0]
	}
	return t.partitions[batch.PartitionOf(key, len(t.partitions))]
}

// makeRoom gets a partition a batch of at most limit bytes in which there is room for a
// record of so many bytes, or one that is larger alone.
func (o *outputs) makeRoom(ctx context.Context, p *outputPartition, bytes, limit int) error {
	if o.buffered > aheadOfAll*o.ahead {
		if err := o.write(ctx); err != nil {
			return err
		}
	}
	if p.building && p.builder.SizeBytes()+bytes > limit {
		p.finish()
		if len(p.buffer)+bytes > o.ahead {
			if err := o.writeAhead(ctx, p); err != nil {
				return err
			}
		}
	}
	if !p.dirty {
		p.dirty = true
		o.dirty = append(o.dirty, p)
	}
	if !p.building {
		p.builder.Reset(p.buffer, record.None)
		p.building = true
		if o.txn != nil {
			p.sign(o.txn.writer.Producer())
		}
	}
	p.room = limit - p.builder.SizeBytes()
	return nil
}

// sign makes the batch that is being built one of a producer's transaction.
func (p *outputPartition) sign(by txn.Producer) {
	if p.stamp != by {
		p.stamp, p.sequence = by, 0
	}
	p.builder.SetProducer(by.ID, by.Epoch, p.sequence, true)
}

func (p *outputPartition) finish() {
	if p.building {
		p.sequence = (p.sequence + int32(p.builder.Count())) & (1<<31 - 1)
		p.buffer = p.builder.Finish()
		p.building, p.room = false, 0
	}
}

// reset makes p empty.
func (o *outputs) reset(p *outputPartition) {
	o.buffered -= p.buffered
	p.dirty, p.buffered = false, 0
	p.buffer = p.buffer[:0]
	if cap(p.buffer) > retainBytes {
		p.buffer = nil
	}
}

// drop forgets what is not written yet.
func (o *outputs) drop() {
	for _, p := range o.dirty {
		p.finish()
		o.reset(p)
		p.stamp = txn.NoProducer // what was numbered is not sent
	}
	o.dirty = o.dirty[:0]
}

// writeAhead writes what one partition holds.
func (o *outputs) writeAhead(ctx context.Context, p *outputPartition) error {
	if o.txn != nil {
		if err := o.txn.join(p); err != nil {
			return explain(err)
		}
	}
	if err := o.append(ctx, p); err != nil {
		return err
	}
	o.dirty = slices.DeleteFunc(o.dirty, func(d *outputPartition) bool { return d == p })
	return nil
}

// write appends what has been built, one append for each partition. After an
// error the partitions that were not written are still dirty, and write may be called again.
func (o *outputs) write(ctx context.Context) error {
	if o.txn != nil {
		if err := o.txn.join(o.dirty...); err != nil {
			return explain(err)
		}
	}
	for i, p := range o.dirty {
		p.finish()
		if err := o.append(ctx, p); err != nil {
			o.dirty = append(o.dirty[:0], o.dirty[i:]...)
			return err
		}
	}
	o.dirty = o.dirty[:0]
	return nil
}

// append appends the finished batches of a partition.
func (o *outputs) append(ctx context.Context, p *outputPartition) error {
	var done topic.Appended
	var err error
	if o.txn != nil {
		done, err = o.txn.append(ctx, p.partition, p.buffer)
	} else {
		done, err = p.partition.Append(ctx, p.buffer, topic.FromBroker)
	}
	if err != nil {
		return explain(fmt.Errorf("write to %s-%d: %w", p.partition.Topic(), p.partition.Index(), err))
	}
	o.written(p.partition, done.LastOffset+1, len(p.buffer))
	o.reset(p)
	return nil
}
