// Package workertest has a log and guests in memory, for tests of the worker
// and of what stands above it: an engine.Engine with faults at call, and
// guests that are Go functions. Nothing of it survives; nothing of it is fast.
//
// A Log keeps the contract of package engine as far as a worker can see it: a partition has one
// owner at a time, a session that is taken away is told and then fenced, outputs
// become visible with Commit. It is safe for concurrent use and works in
// testing/synctest bubbles.
package workertest

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"sync"

	"github.com/millstream-io/millstream/runtime/engine"
)

// DefaultMaxMessageBytes is Kafka's max.message.bytes.
const DefaultMaxMessageBytes = 1048588

// Log is an engine.Engine.
type Log struct {
	mu      sync.Mutex
	topics  map[string]*topic
	groups  map[string]*group
	kept    map[string]int // calls of KeepGroup
	changed chan struct{}  // closed and replaced when anything changes
	fault   func(op, topic string) error
	made    int // topics, ever

	updating sync.Mutex // held by who updates a topic
}

type topic struct {
	id              string
	partitions      [][]engine.Record
	maxMessageBytes int
	configs         map[string]string
}

var _ engine.Engine = (*Log)(nil)

// NewLog returns an empty log.
func NewLog() *Log {
	return &Log{topics: map[string]*topic{}, groups: map[string]*group{}, kept: map[string]int{}, changed: make(chan struct{})}
}

// SetFault lets f fail operations: "append" of records outside sessions, "commit" and "abort" of a batch for its input topic. Nil ends that.
func (l *Log) SetFault(f func(op, topic string) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = f
}

// SetMaxMessageBytes sets the largest record of a topic.
func (l *Log) SetMaxMessageBytes(name string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.topics[name].maxMessageBytes = n
}

// DeleteTopic deletes a topic.
func (l *Log) DeleteTopic(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.topics, name)
	l.signal()
}

// Configs returns the configs a topic was created with; nil if there is none.
func (l *Log) Configs(name string) map[string]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.topics[name]; t != nil {
		return t.configs
	}
	return nil
}

// Records returns what a topic holds, partition by partition.
func (l *Log) Records(name string) []engine.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.topics[name]
	if t == nil {
		return nil
	}
	return slices.Concat(t.partitions...)
}

// Wait blocks until done answers true; done is asked after every change.
func (l *Log) Wait(ctx context.Context, done func() bool) error {
	for {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		if done() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// signal tells that something changed; l.mu is held.
func (l *Log) signal() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *Log) failed(op, topic string) error {
	if l.fault == nil {
		return nil
	}
	return l.fault(op, topic)
}

// EnsureTopic implements engine.Engine.
func (l *Log) EnsureTopic(_ context.Context, name string, partitions int, configs map[string]string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.topics[name] == nil {
		l.made++
		l.topics[name] = &topic{id: fmt.Sprint(l.made), partitions: make([][]engine.Record, max(1, partitions)), maxMessageBytes: DefaultMaxMessageBytes, configs: maps.Clone(configs)}
		if _, err := fmt.Sscan(configs["max.message.bytes"], &l.topics[name].maxMessageBytes); err != nil && configs["max.message.bytes"] != "" {
			return err
		}
		l.signal()
	}
	return nil
}

// Topics implements engine.Engine.
func (l *Log) Topics(_ context.Context, names []string) (map[string]int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := map[string]int{}
	for _, name := range names {
		if t := l.topics[name]; t != nil {
			found[name] = len(t.partitions)
		}
	}
	return found, nil
}

// Append implements engine.Engine.
func (l *Log) Append(_ context.Context, name string, records []engine.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.topics[name]
	if t == nil {
		return fmt.Errorf("%w: %s", engine.ErrUnknownTopic, name)
	}
	if err := l.failed("append", name); err != nil {
		return err
	}
	for _, r := range records {
		if err := t.check(name, -1, r); err != nil {
			return err
		}
		t.add(t.partitionOf(r.Key, 0), r)
	}
	l.signal()
	return nil
}

// AppendTo appends values without a key to one partition.
func (l *Log) AppendTo(name string, partition int, values ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, v := range values {
		l.topics[name].add(partition, engine.Record{Value: []byte(v), Timestamp: 1})
	}
	l.signal()
}

func (t *topic) check(name string, input int, r engine.Record) error {
	size := len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		size += len(h.Name) + len(h.Value)
	}
	if size > t.maxMessageBytes {
		return &engine.OutputError{Input: input, Topic: name, Detail: fmt.Sprintf("%d bytes, max.message.bytes is %d", size, t.maxMessageBytes), Err: engine.ErrTooLarge}
	}
	return nil
}

func (t *topic) partitionOf(key []byte, fallback int32) int {
	if key == nil {
		return int(fallback) % len(t.partitions)
	}
	h := fnv.New32a()
	_, _ = h.Write(key) // never fails
	return int(h.Sum32() % uint32(len(t.partitions)))
}

func (t *topic) add(partition int, r engine.Record) {
	r.Offset = int64(len(t.partitions[partition]))
	r.Key, r.Value, r.Headers = slices.Clone(r.Key), slices.Clone(r.Value), slices.Clone(r.Headers)
	t.partitions[partition] = append(t.partitions[partition], r)
}

// Update implements engine.Engine.
func (l *Log) Update(ctx context.Context, name string, f func(context.Context) ([]engine.Record, error)) error {
	l.updating.Lock()
	defer l.updating.Unlock()
	records, err := f(ctx)
	if err != nil || len(records) == 0 {
		return err
	}
	return l.Append(ctx, name, records)
}

// ReadAll implements engine.Engine.
func (l *Log) ReadAll(_ context.Context, name string, from engine.Positions, f func(int32, engine.Record) error) (engine.Positions, error) {
	l.mu.Lock()
	t := l.topics[name]
	if t == nil {
		l.mu.Unlock()
		return nil, fmt.Errorf("%w: %s", engine.ErrUnknownTopic, name)
	}
	partitions := slices.Clone(t.partitions)
	l.mu.Unlock()
	ends := engine.Positions{}
	for i, records := range partitions {
		for _, r := range records[min(from[int32(i)], int64(len(records))):] {
			if err := f(int32(i), r); err != nil {
				return nil, err
			}
		}
		ends[int32(i)] = int64(len(records))
	}
	return ends, nil
}

// Lag implements engine.Engine.
func (l *Log) Lag(_ context.Context, name string, inputs []string) (map[engine.TopicPartition]engine.Position, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lag := map[engine.TopicPartition]engine.Position{}
	for _, input := range inputs {
		t := l.topics[input]
		if t == nil {
			continue
		}
		for i, records := range t.partitions {
			tp := engine.TopicPartition{Topic: input, Partition: int32(i)}
			p := engine.Position{Committed: -1, LogEnd: int64(len(records))}
			if g := l.groups[name]; g != nil {
				if at, ok := g.committed[tp]; ok {
					p.Committed = at
				}
			}
			lag[tp] = p
		}
	}
	return lag, nil
}

func comparePartitions(a, b engine.TopicPartition) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}
