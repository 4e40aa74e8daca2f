package workertest

import (
	"context"
	"fmt"
	"slices"

	"github.com/millstream-io/millstream/runtime/engine"
)

type group struct {
	committed map[engine.TopicPartition]int64
	members   []*member
	joins     int
	owners    map[engine.TopicPartition]*session // until they close
}

type member struct {
	log    *Log
	group  *group
	config engine.Group
	known  map[*session]bool // as of the last Next
	left   bool
}

// Join implements engine.Engine.
func (l *Log) Join(_ context.Context, g engine.Group) (engine.Member, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, input := range g.Inputs {
		if l.topics[input] == nil {
			return nil, fmt.Errorf("%w: %s", engine.ErrUnknownTopic, input)
		}
	}
	joined := l.group(g.Name)
	m := &member{log: l, group: joined, config: g}
	joined.members = append(joined.members, m)
	joined.joins++
	joined.rebalance(l)
	return m, nil
}

// group returns a group, which it makes if there is none; l.mu is held.
func (l *Log) group(name string) *group {
	g := l.groups[name]
	if g == nil {
		g = &group{committed: map[engine.TopicPartition]int64{}, owners: map[engine.TopicPartition]*session{}}
		l.groups[name] = g
	}
	return g
}

// rebalance deals the partitions out in turn; what has another owner is taken away from it first.
func (g *group) rebalance(l *Log) {
	for i, tp := range g.partitions(l) {
		target := g.members[i%len(g.members)]
		owner := g.owners[tp]
		switch {
		case owner == nil:
			g.owners[tp] = newSession(target, tp, g.start(l, target, tp))
		case owner.member != target:
			owner.takeAway()
		}
	}
	l.signal()
}

func (g *group) partitions(l *Log) []engine.TopicPartition {
	var all []engine.TopicPartition
	if len(g.members) == 0 {
		return nil
	}
	for _, input := range g.members[0].config.Inputs {
		if t := l.topics[input]; t != nil {
			for i := range t.partitions {
				all = append(all, engine.TopicPartition{Topic: input, Partition: int32(i)})
			}
		}
	}
	slices.SortFunc(all, comparePartitions)
	return all
}

// start is where a new session begins; it is committed at once, so that it does not move.
func (g *group) start(l *Log, m *member, tp engine.TopicPartition) int64 {
	if at, ok := g.committed[tp]; ok {
		return at
	}
	t, start := l.topics[tp.Topic], m.config.Start
	if found, ok := m.config.Starts[tp.Topic]; ok {
		start = found.Of(tp.Partition, t.id, start)
	}
	at := offsetAt(t.partitions[tp.Partition], start)
	g.committed[tp] = at
	return at
}

// offsetAt is where start is among the records of a partition.
func offsetAt(records []engine.Record, start engine.Start) int64 {
	end := int64(len(records))
	switch start.Kind {
	case engine.StartEarliest:
		return 0
	case engine.StartOffset:
		return min(end, start.Offset)
	case engine.StartTimestamp:
		i := slices.IndexFunc(records, func(r engine.Record) bool { return r.Timestamp >= start.Timestamp.UnixMilli() })
		if i >= 0 {
			return int64(i)
		}
	}
	return end
}

// Next implements engine.Member.
func (m *member) Next(ctx context.Context) ([]engine.Session, error) {
	for {
		m.log.mu.Lock()
		changed := m.log.changed
		owned, fresh := m.owned()
		left := m.left
		m.log.mu.Unlock()
		if left {
			return nil, engine.ErrClosed
		}
		if fresh {
			return owned, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// owned lists the member's sessions; fresh tells whether they are others than last time.
func (m *member) owned() (sessions []engine.Session, fresh bool) {
	now := map[*session]bool{}
	for _, s := range m.group.owners {
		if s.member == m {
			now[s] = true
			sessions = append(sessions, s)
		}
	}
	fresh = m.known == nil || len(now) != len(m.known)
	for s := range now {
		fresh = fresh || !m.known[s]
	}
	m.known = now
	slices.SortFunc(sessions, func(a, b engine.Session) int { return comparePartitions(a.Partition(), b.Partition()) })
	return sessions, fresh
}

// Leave implements engine.Member.
func (m *member) Leave(context.Context) error {
	m.log.mu.Lock()
	defer m.log.mu.Unlock()
	m.expel()
	return nil
}

func (m *member) expel() {
	if m.left {
		return
	}
	m.left = true
	m.group.members = slices.DeleteFunc(m.group.members, func(o *member) bool { return o == m })
	for tp, s := range m.group.owners {
		if s.member == m {
			s.end()
			delete(m.group.owners, tp)
		}
	}
	if len(m.group.members) > 0 {
		m.group.rebalance(m.log)
	}
	m.log.signal()
}

// Expel drops all members of a group, as a coordinator does with members that it has not heard of.
func (l *Log) Expel(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if g := l.groups[name]; g != nil {
		for _, m := range slices.Clone(g.members) {
			m.expel()
		}
	}
}
