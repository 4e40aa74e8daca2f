package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/engine/batch"
	"github.com/millstream-io/millstream/sdk/abi"
)

const (
	// batchBytes is where another batch begins: readers fetch and decompress whole batches, and
	// brokers take up to max.message.bytes (1 MiB).
	batchBytes = 512 << 10
	// recordOverheadBytes is the most that a record's own lengths and deltas take in a batch.
	recordOverheadBytes = 64
	// freeBuffers is how many buffers of sent batches are kept for the next ones.
	freeBuffers = 4
)

// outputs builds the batches of one writer, one row of batches for each output partition.
type outputs struct {
	w *writer
	// inputPartition chooses the partition of outputs without a key.
	inputPartition int32
	byIndex        []*outputTopic
	byName         map[string]*outputTopic

	building []*outputPartition // with records that are in no finished batch yet
	headers  []byte             // of the present record, in the batch's form
	free     [][]byte           // buffers of batches that are sent; guarded by w.mu
}

// outputTopic is a topic that outputs go to, as of the last refresh.
type outputTopic struct {
	name string
	id   topicID
	// partitions are all that there ever were, of which there are count now. Where a broker is late to hear that the topic
	// was made anew, the id and the count go there and back: a sequence that began anew with them would be taken for
	// a repetition, and acknowledged without being written.
	partitions []*outputPartition
	count      int
	limits     topicLimits
	// Timestamps are taken from earliest to latest, in ms.
	earliest, latest int64
	fresh            bool // looked up since the batch was opened
}

type outputPartition struct {
	topic    *outputTopic
	tp       engine.TopicPartition
	builder  record.Builder
	open     bool // the builder holds a batch
	sequence int32

	// Guarded by w.mu:
	finished []finished // waiting to be acknowledged, in order
	queued   bool       // in w.queue
	added    bool       // to the open transaction
}

// finished is a batch that is ready to be sent, and the topic that it was made for.
type finished struct {
	batch []byte
	topic topicID
}

func newOutputs(w *writer, inputPartition int32) *outputs {
	return &outputs{w: w, inputPartition: inputPartition, byName: map[string]*outputTopic{}}
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

// refresh looks the topic up, in what is known of it.
func (t *outputTopic) refresh(ctx context.Context, c *cluster) error {
	info, err := c.topic(ctx, t.name, metadataMaxAge)
	if err == nil && len(info.leaders) == 0 {
		err = fmt.Errorf("%w: %q", engine.ErrUnknownTopic, t.name)
	}
	if err != nil {
		return fmt.Errorf("output: %w", err)
	}
	t.id, t.count = info.id, len(info.leaders)
	for i := len(t.partitions); i < len(info.leaders); i++ {
		t.partitions = append(t.partitions, &outputPartition{topic: t, tp: engine.TopicPartition{Topic: t.name, Partition: int32(i)}})
	}
	if t.limits, err = c.limitsOf(ctx, t.name); err != nil {
		return err
	}
	t.earliest, t.latest = t.limits.timestamps(time.Now())
	t.fresh = true
	return nil
}

// add encodes one output of the guest.
func (o *outputs) add(ctx context.Context, r *abi.Output) error {
	if r.Index < 0 || r.Index >= len(o.byIndex) {
		return fmt.Errorf("output index %d, the batch has %d output topics", r.Index, len(o.byIndex))
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
	return o.put(ctx, o.byIndex[r.Index], r.Input, r.Timestamp, r.Key, r.Value, r.HeaderCount)
}

// addTo encodes one record for a topic by name.
func (o *outputs) addTo(ctx context.Context, name string, r *engine.Record) error {
	o.headers = o.headers[:0]
	for i := range r.Headers {
		o.headers = record.AppendHeader(o.headers, []byte(r.Headers[i].Name), r.Headers[i].Value)
	}
	return o.put(ctx, o.named(name), -1, r.Timestamp, r.Key, r.Value, len(r.Headers))
}

// put adds a record, whose headers are in o.headers, to the batch of its partition.
func (o *outputs) put(ctx context.Context, t *outputTopic, input int, timestamp int64, key, value []byte, headerCount int) error {
	if !t.fresh {
		if err := t.refresh(ctx, o.w.c); err != nil {
			return err
		}
	}
	bytes := recordOverheadBytes + len(key) + len(value) + len(o.headers)
	if record.HeaderBytes+bytes > t.limits.maxMessageBytes {
		return &engine.OutputError{Input: input, Topic: t.name, Err: engine.ErrTooLarge, Detail: fmt.Sprintf(
			"key, value and headers have %d bytes, max.message.bytes is %d", bytes-recordOverheadBytes, t.limits.maxMessageBytes)}
	}
	if t.limits.compacted && key == nil {
		return &engine.OutputError{Input: input, Topic: t.name, Err: engine.ErrInvalidRecord,
			Detail: "the record has no key and the topic is compacted"}
	}
	if timestamp < t.earliest || timestamp > t.latest {
		return &engine.OutputError{Input: input, Topic: t.name, Err: engine.ErrInvalidRecord, Detail: fmt.Sprintf(
			"its timestamp is %d ms since 1970, the topic takes %d to %d now (message.timestamp.after.max.ms, message.timestamp.before.max.ms)", timestamp, t.earliest, t.latest)}
	}
	index := int(o.inputPartition) % t.count
	if key != nil {
		index = batch.PartitionOf(key, t.count)
	}
	p := t.partitions[index]
	if p.open && p.builder.SizeBytes()+bytes > min(batchBytes, t.limits.maxMessageBytes) {
		o.finish(p)
	}
	if !p.open {
		p.open = true
		p.builder.Reset(o.buffer(), record.None)
		o.building = append(o.building, p)
	}
	p.builder.Append(timestamp, key, value, o.headers, headerCount)
	return nil
}

// buffer is one for a new batch.
func (o *outputs) buffer() []byte {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	if n := len(o.free); n > 0 {
		b := o.free[n-1]
		o.free = o.free[:n-1]
		return b[:0]
	}
	return nil
}

// release takes a buffer back; w.mu is held.
func (o *outputs) release(b []byte) {
	if len(o.free) < freeBuffers && cap(b) <= 2*batchBytes {
		o.free = append(o.free, b)
	}
}

// finish makes a batch ready and hands it to the writer.
func (o *outputs) finish(p *outputPartition) {
	for i, q := range o.building {
		if q == p {
			o.building = append(o.building[:i], o.building[i+1:]...)
			break
		}
	}
	p.open = false
	count := int32(p.builder.Count())
	p.builder.SetProducer(o.w.id, o.w.epoch, p.sequence, o.w.transactional())
	p.sequence = (p.sequence + count) & 0x7fffffff // it wraps to 0
	o.w.enqueue(p, p.builder.Finish())
}

// finishAll makes everything that was added ready to be sent.
func (o *outputs) finishAll() {
	for len(o.building) > 0 {
		o.finish(o.building[0])
	}
}

// drop forgets what was added and not acknowledged, and all sequences: the writer gets a new epoch.
func (o *outputs) drop() {
	o.unwind()
	o.restart()
}

// unwind forgets what is in no finished batch; finished ones there are none.
func (o *outputs) unwind() {
	for _, p := range o.building {
		p.open = false
		p.builder.Finish()
	}
	o.building = o.building[:0]
}

// restart begins the sequences anew, as each epoch does.
func (o *outputs) restart() {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	for _, t := range o.byName {
		for _, p := range t.partitions {
			p.sequence, p.finished, p.queued, p.added = 0, nil, false, false
		}
	}
	o.w.queue, o.w.queuedBytes = o.w.queue[:0], 0
}

// joined forgets which partitions are in the transaction: it has ended.
func (o *outputs) joined() {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	for _, t := range o.byName {
		for _, p := range t.partitions {
			p.added = false
		}
	}
}
