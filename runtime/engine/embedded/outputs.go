package embedded

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/sdk/abi"
)

const (
	// batchBytes is where another batch begins: readers fetch and decompress whole batches.
	batchBytes = 1 << 20
	// retainBytes is how large a partition's buffer may stay between commits.
	retainBytes = 1 << 20
	// recordOverheadBytes is the most that a record's own lengths and deltas take in a batch.
	recordOverheadBytes = 64
)

// outputs builds the batches of one open batch of a session, one row of
// batches for each output partition.
type outputs struct {
	topics *topic.Topics
	// inputPartition chooses the partition of outputs without a key.
	inputPartition int32
	byIndex        []*outputTopic
	byName         map[string]*outputTopic

	dirty   []*outputPartition // with records of the open batch, in the order they were first written to
	headers []byte             // of the present record, in the batch's form
}

// outputTopic is a topic that outputs go to, as of the last refresh.
type outputTopic struct {
	name            string
	id              topic.ID
	partitions      []*outputPartition
	maxMessageBytes int
	compact         bool // only: records without a key are refused
	fresh           bool // looked up since the batch was opened
}

type outputPartition struct {
	partition *topic.Partition
	builder   record.Builder
	buffer    []byte
	building  bool // the builder holds the buffer
	dirty     bool
}

func newOutputs(topics *topic.Topics, inputPartition int32) *outputs {
	return &outputs{topics: topics, inputPartition: inputPartition, byName: map[string]*outputTopic{}}
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

// refresh looks the topic up.
func (t *outputTopic) refresh(topics *topic.Topics) error {
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
		t.partitions = append(t.partitions, &outputPartition{partition: p})
	}
	value, _ := topics.ConfigValue(t.name, "max.message.bytes")
	limit, err := strconv.Atoi(value)
	if err != nil || limit <= 0 {
		limit = batchBytes
	}
	t.maxMessageBytes = limit
	policy, _ := topics.ConfigValue(t.name, "cleanup.policy")
	t.compact = strings.Contains(policy, "compact")
	t.fresh = true
	return nil
}

// add encodes one output of the guest.
func (o *outputs) add(r *abi.Output) error {
	if r.Index < 0 || r.Index >= len(o.byIndex) {
		return fmt.Errorf("output index %d, the group has %d output topics", r.Index, len(o.byIndex))
	}
	t := o.byIndex[r.Index]
	if !t.fresh {
		if err := t.refresh(o.topics); err != nil {
			return err
		}
	}
	o.headers = o.headers[:0]
	for rest, left := r.Headers, r.HeaderCount; left > 0; left-- {
		name, value, tail, ok := abi.NextHeader(rest)
		if !ok {
			return fmt.Errorf("headers of an output of record %d are not in the flat form", r.Input)
		}
		o.headers = record.AppendHeader(o.headers, name, value)
		rest = tail
	}
	return o.put(t, r.Input, r.Timestamp, r.Key, r.Value, r.HeaderCount)
}

// addTo encodes one record for a topic by name.
func (o *outputs) addTo(name string, r *engine.Record) error {
	t := o.named(name)
	if !t.fresh {
		if err := t.refresh(o.topics); err != nil {
			return err
		}
	}
	o.headers = appendHeaders(o.headers[:0], r.Headers)
	return o.put(t, -1, r.Timestamp, r.Key, r.Value, len(r.Headers))
}

func appendHeaders(dst []byte, headers []engine.Header) []byte {
	for i := range headers {
		dst = record.AppendHeader(dst, []byte(headers[i].Name), headers[i].Value)
	}
	return dst
}

// put adds a record, whose headers are in o.headers, to the batch of its partition.
func (o *outputs) put(t *outputTopic, input int, timestamp int64, key, value []byte, headerCount int) error {
	bytes := recordOverheadBytes + len(key) + len(value) + len(o.headers)
	if record.HeaderBytes+bytes > t.maxMessageBytes {
		return &engine.OutputError{Input: input, Topic: t.name, Err: engine.ErrTooLarge, Detail: fmt.Sprintf(
			"key, value and headers have %d bytes, max.message.bytes is %d", bytes-recordOverheadBytes, t.maxMessageBytes)}
	}
	if t.compact && key == nil {
		return &engine.OutputError{Input: input, Topic: t.name, Err: engine.ErrInvalidRecord,
			Detail: "the record has no key and the topic is compacted"}
	}
	index := int(o.inputPartition) % len(t.partitions)
	if key != nil {
		index = partitionOf(key, len(t.partitions))
	}
	p := t.partitions[index]
	if !p.dirty {
		p.dirty = true
		o.dirty = append(o.dirty, p)
	}
	if p.building && p.builder.SizeBytes()+bytes > min(batchBytes, t.maxMessageBytes) {
		p.finish()
	}
	if !p.building {
		p.builder.Reset(p.buffer, record.None)
		p.building = true
	}
	p.builder.Append(timestamp, key, value, o.headers, headerCount)
	return nil
}

func (p *outputPartition) finish() {
	if p.building {
		p.buffer = p.builder.Finish()
		p.building = false
	}
}

func (p *outputPartition) reset() {
	p.finish()
	p.dirty = false
	p.buffer = p.buffer[:0]
	if cap(p.buffer) > retainBytes {
		p.buffer = nil
	}
}

// drop forgets the open batch.
func (o *outputs) drop() {
	for _, p := range o.dirty {
		p.reset()
	}
	o.dirty = o.dirty[:0]
}

// write appends what has been built, one append for each partition, and tells
// written what then has to become durable. After an error the partitions that were
// not written are still dirty, and write may be called again.
func (o *outputs) write(ctx context.Context, written func(p *topic.Partition, end int64, bytes int)) error {
	for i, p := range o.dirty {
		p.finish()
		done, err := p.partition.Append(ctx, p.buffer, topic.FromBroker)
		if err != nil {
			o.dirty = append(o.dirty[:0], o.dirty[i:]...)
			return explain(fmt.Errorf("write to %s-%d: %w", p.partition.Topic(), p.partition.Index(), err))
		}
		written(p.partition, done.LastOffset+1, len(p.buffer))
		p.reset()
	}
	o.dirty = o.dirty[:0]
	return nil
}
