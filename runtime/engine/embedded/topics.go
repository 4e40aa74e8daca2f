package embedded

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/coord/txn"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/millstream-io/millstream/runtime/engine"
)

// scanBytes is how much ReadAll and Follow read at once.
const scanBytes = 256 << 10

// EnsureTopic implements engine.Engine.
func (e *embedded) EnsureTopic(ctx context.Context, name string, partitions int, configs map[string]string) error {
	_, err := e.topics.Create(ctx, name, partitions, configs)
	switch {
	case err == nil, errors.Is(err, topic.ErrExists):
		return nil
	case errors.Is(err, topic.ErrInvalidName), errors.Is(err, topic.ErrInvalidConfig), errors.Is(err, topic.ErrInvalidPartition):
		return err
	}
	return explain(fmt.Errorf("create topic %q: %w", name, err))
}

// Topics implements engine.Engine.
func (e *embedded) Topics(_ context.Context, names []string) (map[string]int, error) {
	found := make(map[string]int, len(names))
	for _, name := range names {
		if info, ok := e.topics.Lookup(name); ok {
			found[name] = info.Partitions
		}
	}
	return found, nil
}

// Append implements engine.Engine. Records without a key go to one partition, another one with each call.
func (e *embedded) Append(ctx context.Context, name string, records []engine.Record) error {
	info, ok := e.topics.Lookup(name)
	if !ok || info.Partitions == 0 {
		return fmt.Errorf("%w: %q", engine.ErrUnknownTopic, name)
	}
	var written ends
	out := newOutputs(e.topics, e.nextSpread(), nil, func(p *topic.Partition, end int64, _ int) { written.add(p, end) })
	if err := out.addAll(ctx, name, records); err != nil {
		return err
	}
	if err := out.write(ctx); err != nil {
		return err
	}
	return explain(written.wait(ctx))
}

// nextSpread counts up.
func (e *embedded) nextSpread() int32 { return int32(e.spread.Add(1) & 0x7fffffff) }

func (o *outputs) addAll(ctx context.Context, name string, records []engine.Record) error {
	for i := range records {
		if err := o.addTo(ctx, name, &records[i]); err != nil {
			return err
		}
	}
	return nil
}

// updateTimeout is how long an update may take from its first write on.
const updateTimeout = time.Minute

// Update implements engine.Engine. Of those who update a topic, in whatever
// process, the last to begin fences all others: they begin again.
func (e *embedded) Update(ctx context.Context, name string, f func(context.Context) ([]engine.Record, error)) error {
	select {
	case e.updating <- struct{}{}: // in one process nobody needs to be fenced
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-e.updating }()
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		fenced, err := e.update(ctx, name, f)
		if !fenced {
			return err
		}
		if err := sleep(ctx, pause/2+rand.N(pause)); err != nil {
			return fmt.Errorf("update topic %q: others keep updating it: %w", name, err)
		}
	}
}

func (e *embedded) update(ctx context.Context, name string, f func(context.Context) ([]engine.Record, error)) (fenced bool, err error) {
	if info, ok := e.topics.Lookup(name); !ok || info.Partitions == 0 {
		return false, fmt.Errorf("%w: %q", engine.ErrUnknownTopic, name)
	}
	t := newTransaction(e, engine.UpdateID(name))
	t.timeout = min(t.timeout, updateTimeout)
	if err := t.init(ctx); err != nil {
		return errors.Is(err, txn.ErrConcurrent), explain(err)
	}
	records, err := f(ctx)
	if err != nil || len(records) == 0 {
		return false, err
	}
	var written ends
	out := newOutputs(e.topics, e.nextSpread(), t, func(p *topic.Partition, end int64, _ int) { written.add(p, end) })
	err = out.addAll(ctx, name, records)
	if err == nil {
		err = out.write(ctx)
	}
	if err == nil {
		err = written.wait(ctx)
	}
	if err == nil {
		err = t.end(ctx, true)
	}
	if err != nil {
		err = errors.Join(fmt.Errorf("update topic %q: %w", name, explain(err)), t.giveUp(context.WithoutCancel(ctx)))
	}
	return t.lost, err
}

// ReadAll implements engine.Engine.
func (e *embedded) ReadAll(ctx context.Context, name string, from engine.Positions, f func(partition int32, r engine.Record) error) (engine.Positions, error) {
	info, ok := e.topics.Lookup(name)
	if !ok {
		return nil, fmt.Errorf("%w: %q", engine.ErrUnknownTopic, name)
	}
	at := make(engine.Positions, info.Partitions)
	var s scanner
	for i := range info.Partitions {
		p, err := e.topics.Partition(name, int32(i))
		if err != nil {
			return nil, explain(err)
		}
		bounds := p.Offsets()
		position := max(bounds.LogStart, from[int32(i)])
		for position < bounds.LastStable {
			next, err := s.scan(ctx, p, position, bounds.LastStable, f)
			if err != nil {
				return nil, err
			}
			if next == position {
				next = bounds.LastStable // compaction has left nothing up to there
			}
			position = next
		}
		at[int32(i)] = position
	}
	return at, nil
}

// Follow implements engine.Engine.
func (e *embedded) Follow(ctx context.Context, name string, from engine.Positions, f func(partition int32, r engine.Record) error) error {
	wake := make(chan struct{}, 1)
	defer e.topics.Watch(wake)()
	at := make(map[*topic.Partition]int64)
	var order []*topic.Partition
	var s scanner
	for {
		info, ok := e.topics.Lookup(name)
		if !ok {
			return fmt.Errorf("%w: %q", engine.ErrUnknownTopic, name)
		}
		for i := len(order); i < info.Partitions; i++ {
			p, err := e.topics.Partition(name, int32(i))
			if err != nil {
				return explain(err)
			}
			defer p.Notify(wake)() // until the end; there are only as many as the topic has partitions
			position, given := from[int32(i)]
			if !given {
				position = p.Offsets().LogStart
			}
			order, at[p] = append(order, p), position
		}
		for _, p := range order {
			position, err := s.scanAll(ctx, p, at[p], f)
			if err != nil {
				return err
			}
			at[p] = position
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// scanner reads records outside any session, into one set of buffers.
type scanner struct{ fetch fetch }

// scanAll reads from position on until there is no more.
func (s *scanner) scanAll(ctx context.Context, p *topic.Partition, position int64, f func(int32, engine.Record) error) (int64, error) {
	for {
		if start := p.Offsets().LogStart; position < start {
			position = start // removed by retention meanwhile
		}
		next, err := s.scan(ctx, p, position, 1<<63-1, f)
		if err != nil || next == position {
			return next, err
		}
		position = next
	}
}

// scan reads once and calls f for each record below end; it returns the next position.
func (s *scanner) scan(ctx context.Context, p *topic.Partition, position, end int64, f func(int32, engine.Record) error) (int64, error) {
	if err := ctx.Err(); err != nil {
		return position, err
	}
	var err error
	s.fetch.raw, err = p.Read(s.fetch.raw[:0], topic.ReadOptions{Offset: position, MaxBytes: scanBytes, Committed: true})
	if err != nil {
		return position, explain(fmt.Errorf("read %s-%d from offset %d: %w", p.Topic(), p.Index(), position, err))
	}
	s.fetch.aborted = p.Aborted(s.fetch.raw)
	if err := s.fetch.load(position, scanBytes); err != nil {
		return position, explain(fmt.Errorf("read %s-%d: %w", p.Topic(), p.Index(), err))
	}
	for i := range s.fetch.Len() {
		r := s.fetch.Record(i)
		if r.Offset >= end {
			return end, nil
		}
		if err := f(p.Index(), r); err != nil {
			return r.Offset, err
		}
	}
	return s.fetch.next(), nil
}

// Lag implements engine.Engine.
func (e *embedded) Lag(ctx context.Context, name string, inputs []string) (map[engine.TopicPartition]engine.Position, error) {
	result := map[engine.TopicPartition]engine.Position{}
	var wanted []group.TopicPartition
	for _, input := range inputs {
		info, ok := e.topics.Lookup(input)
		if !ok {
			continue
		}
		for i := range info.Partitions {
			p, err := e.topics.Partition(input, int32(i))
			if err != nil {
				continue // deleted meanwhile
			}
			bounds := p.Offsets()
			tp := engine.TopicPartition{Topic: input, Partition: int32(i)}
			wanted = append(wanted, group.TopicPartition(tp))
			result[tp] = engine.Position{Committed: -1, LogStart: bounds.LogStart, LogEnd: bounds.HighWatermark}
		}
	}
	if len(wanted) == 0 {
		return result, nil
	}
	committed, err := e.groups.Offsets(ctx, name, wanted)
	if err != nil {
		return nil, explain(fmt.Errorf("lag of group %q: %w", name, err))
	}
	for tp, o := range committed {
		position := result[engine.TopicPartition(tp)]
		position.Committed = o.Offset
		result[engine.TopicPartition(tp)] = position
	}
	return result, nil
}

// KeepGroup implements engine.Engine.
func (e *embedded) KeepGroup(ctx context.Context, name string) error {
	err := e.groups.Keep(ctx, name)
	if errors.Is(err, group.ErrUnknownMember) {
		return nil // there is no such group
	}
	return explain(err)
}

// ForgetGroup implements engine.Engine. A group that does not exist is forgotten already.
func (e *embedded) ForgetGroup(ctx context.Context, name string) error {
	err := e.groups.Delete(ctx, name)
	switch {
	case err == nil, errors.Is(err, group.ErrGroupNotFound):
		return nil
	case errors.Is(err, group.ErrNonEmptyGroup):
		return fmt.Errorf("%w: group %q: %w", engine.ErrGroupActive, name, err)
	}
	return explain(fmt.Errorf("forget group %q: %w", name, err))
}
