package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

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
	txn       *transactional // with exactly-once delivery
}

// openSessions opens sessions at what the group has committed, else at the group's start position.
func (m *member) openSessions(partitions []engine.TopicPartition) ([]*session, error) {
	all := m.openings(partitions)
	if len(all) == 0 {
		return nil, nil
	}
	if m.g.Delivery == engine.ExactlyOnce {
		if err := m.takeOver(all); err != nil {
			return nil, err
		}
	}
	committed, err := m.stableOffsets(all)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for tp := range committed {
		known[tp.Topic] = true
	}
	var fresh []*opening
	for _, o := range all {
		if at, ok := committed[group.TopicPartition(o.tp)]; ok {
			o.position = at.Offset
			continue
		}
		later := known[o.tp.Topic] || m.began[o.tp.Topic] != o.partition.TopicID()
		if o.position, err = m.startOf(o.partition, later); err != nil {
			return nil, err
		}
		fresh = append(fresh, o)
	}
	if err := m.settle(fresh); err != nil {
		return nil, err
	}
	for _, o := range fresh {
		if remade(m, o.partition) {
			m.e.log.Warn("input topic was made anew: the group begins as if it had never read from it", slog.String("group", m.g.Name),
				slog.String("topic", o.tp.Topic), slog.Int("partition", int(o.tp.Partition)), slog.Int64("offset", o.position))
			if m.g.Remade != nil {
				m.g.Remade(o.tp)
			}
		}
	}
	sessions := make([]*session, len(all))
	for i, o := range all {
		sessions[i] = newSession(m, o)
	}
	return sessions, nil
}

// openings finds the partitions of an assignment.
func (m *member) openings(partitions []engine.TopicPartition) (all []*opening) {
	m.alone = m.alone[:0]
	for _, tp := range partitions {
		o := &opening{tp: tp, input: slices.Index(m.g.Inputs, tp.Topic)}
		var err error
		o.partition, err = m.e.topics.Partition(tp.Topic, tp.Partition)
		if o.input < 0 || err != nil {
			// A foreign leader's mistake, or the topic went meanwhile and may come back.
			if o.input >= 0 {
				m.alone = append(m.alone, tp)
			}
			m.e.log.Warn("assigned partition is left alone", slog.String("group", m.g.Name), slog.String("topic", tp.Topic),
				slog.Int("partition", int(tp.Partition)), slog.Any("error", err))
			continue
		}
		all = append(all, o)
	}
	return all
}

// takeOver fences whoever wrote for the partitions before, and ends what
// that one left open: only then do the committed offsets say where to go on.
func (m *member) takeOver(all []*opening) error {
	tp := m.e.groups.TransactionPartition(m.g.Name)
	offsets, err := m.e.topics.Partition(tp.Topic, tp.Partition)
	if err != nil {
		return explain(fmt.Errorf("offsets of group %q: %w", m.g.Name, err))
	}
	errs := make([]error, len(all))
	var waiting sync.WaitGroup
	for i, o := range all {
		o.txn = &transactional{transaction: newTransaction(m.e, engine.TransactionalID(m.g.Name, o.tp)), group: tp, offsets: offsets, flusher: newFlusher()}
		waiting.Go(func() { errs[i] = o.txn.init(m.ctx) })
	}
	waiting.Wait()
	return explain(errors.Join(errs...))
}

// stablePause lies between two looks at offsets that are part of an open transaction.
const stablePause = 20 * time.Millisecond

// stableOffsets returns the group's offsets once none of the partitions' is
// part of an open transaction (KIP-447): a foreign member of the group may have left one.
func (m *member) stableOffsets(all []*opening) (map[group.TopicPartition]group.Offset, error) {
	for m.g.Delivery == engine.ExactlyOnce {
		unstable, err := m.e.groups.Unstable(m.g.Name)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(all, func(o *opening) bool { return unstable[group.TopicPartition(o.tp)] }) {
			break
		}
		id, _ := m.identity()
		if err := m.e.groups.Heartbeat(m.ctx, id); err != nil {
			return nil, err
		}
		if err := sleep(m.ctx, stablePause); err != nil {
			return nil, err
		}
	}
	return m.e.groups.Offsets(m.ctx, m.g.Name, nil)
}

// settle commits start positions, all or none, before anything is read: from
// here on the start is what it is, and "latest" does not move with the next restart.
func (m *member) settle(fresh []*opening) error {
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
	err := m.e.groups.Commit(m.ctx, id, offsets)
	for _, o := range fresh {
		if err == nil && o.partition.Deleted() {
			err = m.takeBack(m.ctx, o.tp.Topic, inputDeleted(o.tp.Topic))
		}
	}
	return err
}

// remade tells whether a topic is another one than the group, or this member, knew by its name.
func remade(m *member, p *topic.Partition) bool {
	if found, ok := m.g.Starts[p.Topic()]; ok {
		return found.ID != idText(p.TopicID())
	}
	id, ok := m.began[p.Topic()]
	return ok && id != p.TopicID()
}

// startOf is where a partition begins that the group has never committed. It came later if the group has
// committed others of the topic, or if the topic was made, or made again, since the membership began. Then everything
// in it is new: a start at the end, or at an offset of the older ones, would pass records over.
func (m *member) startOf(p *topic.Partition, later bool) (int64, error) {
	start := m.g.Start
	if found, ok := m.g.Starts[p.Topic()]; ok {
		start = found.Of(p.Index(), idText(p.TopicID()), start)
	} else if later && (start.Kind == engine.StartLatest || start.Kind == engine.StartOffset) {
		start = engine.Start{Kind: engine.StartEarliest}
	}
	return offsetAt(p, start)
}
