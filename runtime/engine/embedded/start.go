package embedded

import (
	"fmt"
	"log/slog"
	"slices"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/millstream-io/millstream/runtime/engine"
)

// opening is a session that is about to begin.
type opening struct {
	tp        engine.TopicPartition
	input     int
	partition *topic.Partition
	position  int64
}

// openSessions opens sessions at what the group has committed, else at the group's start position.
func (m *member) openSessions(partitions []engine.TopicPartition) ([]*session, error) {
	if len(partitions) == 0 {
		return nil, nil
	}
	committed, err := m.e.groups.Offsets(m.ctx, m.g.Name, nil)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for tp := range committed {
		known[tp.Topic] = true
	}
	var all, fresh []opening
	for _, tp := range partitions {
		o := opening{tp: tp, input: slices.Index(m.g.Inputs, tp.Topic)}
		o.partition, err = m.e.topics.Partition(tp.Topic, tp.Partition)
		if o.input < 0 || err != nil {
			// A foreign leader's mistake, or the topic went meanwhile: the next rebalance tells.
			m.e.log.Warn("assigned partition is left alone", slog.String("group", m.g.Name), slog.String("topic", tp.Topic),
				slog.Int("partition", int(tp.Partition)), slog.Any("error", err))
			continue
		}
		if at, ok := committed[group.TopicPartition(tp)]; ok {
			o.position = at.Offset
		} else {
			if o.position, err = m.startOf(o.partition, known[tp.Topic]); err != nil {
				return nil, err
			}
			fresh = append(fresh, o)
		}
		all = append(all, o)
	}
	if err := m.settle(fresh); err != nil {
		return nil, err
	}
	sessions := make([]*session, len(all))
	for i, o := range all {
		sessions[i] = newSession(m, o.tp, o.input, o.partition, o.position)
	}
	return sessions, nil
}

// settle commits start positions, all or none, before anything is read: from
// here on the start is what it is, and "latest" does not move with the next restart.
func (m *member) settle(fresh []opening) error {
	if len(fresh) == 0 {
		return nil
	}
	offsets := make(map[group.TopicPartition]group.Offset, len(fresh))
	for _, o := range fresh {
		if err := o.partition.WaitDurable(m.ctx, min(o.position, o.partition.Offsets().LogEnd)); err != nil {
			return explain(fmt.Errorf("flush input %s-%d: %w", o.tp.Topic, o.tp.Partition, err))
		}
		offsets[group.TopicPartition(o.tp)] = group.Offset{Offset: o.position, LeaderEpoch: -1}
	}
	id, _ := m.identity()
	return m.e.groups.Commit(m.ctx, id, offsets)
}

// startOf is where a partition begins that the group has never committed. If
// the group has committed others of the topic, this one came later, and everything
// in it is new: a start at the end, or at an offset of the older ones, would pass records over.
func (m *member) startOf(p *topic.Partition, grown bool) (int64, error) {
	start := m.g.Start
	if grown && (start.Kind == engine.StartLatest || start.Kind == engine.StartOffset) {
		start = engine.Start{Kind: engine.StartEarliest}
	}
	return offsetAt(p, start)
}
