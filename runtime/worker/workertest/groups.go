package workertest

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/millstream-io/millstream/runtime/engine"
)

// Follow implements engine.Engine.
func (l *Log) Follow(ctx context.Context, name string, from engine.Positions, f func(int32, engine.Record) error) error {
	at := maps.Clone(from)
	if at == nil {
		at = engine.Positions{}
	}
	for {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		ends, err := l.ReadAll(ctx, name, at, f)
		if err != nil {
			return err
		}
		at = ends
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// OffsetsAt implements engine.Engine.
func (l *Log) OffsetsAt(_ context.Context, topics []string, start engine.Start) (map[engine.TopicPartition]int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	offsets := map[engine.TopicPartition]int64{}
	for _, name := range topics {
		if t := l.topics[name]; t != nil {
			for i, records := range t.partitions {
				offsets[engine.TopicPartition{Topic: name, Partition: int32(i)}] = offsetAt(records, start)
			}
		}
	}
	return offsets, nil
}

// Starts implements engine.Engine.
func (l *Log) Starts(_ context.Context, topics []string, start engine.Start) (map[string]engine.TopicStart, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	starts := map[string]engine.TopicStart{}
	for _, name := range topics {
		if t := l.topics[name]; t != nil {
			found := engine.TopicStart{ID: t.id}
			for _, records := range t.partitions {
				found.Offsets = append(found.Offsets, offsetAt(records, start))
			}
			starts[name] = found
		}
	}
	return starts, nil
}

// SetOffsets implements engine.Engine.
func (l *Log) SetOffsets(_ context.Context, name string, offsets map[engine.TopicPartition]int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.group(name)
	if n := len(g.members); n > 0 {
		return fmt.Errorf("%w: group %s has %d", engine.ErrGroupActive, name, n)
	}
	maps.Copy(g.committed, offsets)
	return nil
}

// Members implements engine.Engine.
func (l *Log) Members(_ context.Context, name string) ([]engine.GroupMember, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.groups[name]
	if g == nil {
		return nil, nil
	}
	members := make([]engine.GroupMember, len(g.members))
	for i, m := range g.members {
		members[i].Client = m.config.Client
		for tp, s := range g.owners {
			if s.member == m {
				members[i].Partitions = append(members[i].Partitions, tp)
			}
		}
		slices.SortFunc(members[i].Partitions, comparePartitions)
	}
	return members, nil
}

// KeepGroup implements engine.Engine: nothing expires here, so it counts the calls.
func (l *Log) KeepGroup(_ context.Context, name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept[name]++
	return nil
}

// Kept returns how often a group was kept.
func (l *Log) Kept(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kept[name]
}

// ForgetGroup implements engine.Engine.
func (l *Log) ForgetGroup(_ context.Context, name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if g := l.groups[name]; g != nil && len(g.members) > 0 {
		return fmt.Errorf("%w: group %s has %d", engine.ErrGroupActive, name, len(g.members))
	}
	delete(l.groups, name)
	return nil
}

// Committed returns the committed offset of a group; -1 for none.
func (l *Log) Committed(name, input string, partition int32) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if g := l.groups[name]; g != nil {
		if at, ok := g.committed[engine.TopicPartition{Topic: input, Partition: partition}]; ok {
			return at
		}
	}
	return -1
}

// MemberCount returns how many members a group has.
func (l *Log) MemberCount(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if g := l.groups[name]; g != nil {
		return len(g.members)
	}
	return 0
}

// Joins returns how often somebody joined a group.
func (l *Log) Joins(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if g := l.groups[name]; g != nil {
		return g.joins
	}
	return 0
}
