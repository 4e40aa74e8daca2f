package kafka

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/millstream-io/millstream/runtime/engine"
)

// warnInterval is between warnings about trouble that goes on.
const warnInterval = time.Minute

// openingTogether is for how many partitions a request is under way at a time.
const openingTogether = 16

// opening is a session that is about to begin.
type opening struct {
	tp       engine.TopicPartition
	topic    topicID // of which it is a partition
	remade   bool    // since the group read from the topic of that name
	input    int
	writer   *writer
	cancel   context.CancelFunc // of the writer
	position int64
	base     committed // what the group has committed
}

// run opens sessions for what is assigned, again and again if that fails.
func (m *member) run() {
	var p pauses
	var warnedAt time.Time
	for {
		select {
		case <-m.kick:
		case <-m.ctx.Done():
			return
		}
		for {
			err := m.openMissing()
			if err == nil {
				p = pauses{}
				break
			}
			if m.ctx.Err() != nil {
				return
			}
			if errors.Is(err, engine.ErrNotAllowed) {
				m.fail(err) // whoever joined tries again, and says why
				return
			}
			if p.last >= lastPause && time.Since(warnedAt) >= warnInterval {
				warnedAt = time.Now()
				m.log.Warn("assigned partitions cannot be opened", slog.Any("error", err))
			}
			if p.wait(m.ctx) != nil {
				return
			}
		}
	}
}

// openMissing opens sessions for all partitions that are assigned and have none. It is interrupted when
// partitions are taken away, and then begins again with what is left.
func (m *member) openMissing() error {
	m.opening.Lock()
	defer m.opening.Unlock()
	ctx, cancel := context.WithCancel(m.ctx)
	defer cancel()
	var missing []*opening
	who := m.identity() // before what is wanted, as in asMember
	m.mu.Lock()
	for tp := range m.wanted {
		if m.sessions[tp] == nil {
			missing = append(missing, m.newOpening(tp))
		}
	}
	suspect := m.suspect
	m.interrupt = cancel
	m.mu.Unlock()
	if len(missing) == 0 {
		return nil
	}
	if suspect {
		if err := m.disowned(ctx, nil); err != nil {
			return err // the client library will find out as well
		}
		m.mu.Lock()
		m.suspect = false
		m.mu.Unlock()
	}
	if err := m.prepare(ctx, who, missing); err != nil {
		for _, o := range missing {
			o.cancel()
		}
		if ctx.Err() != nil && m.ctx.Err() == nil {
			signal(m.kick) // interrupted
			return nil
		}
		return err
	}
	opened := make([]*session, len(missing))
	for i, o := range missing {
		opened[i] = newSession(m, o)
	}
	m.update(func() {
		for _, s := range opened {
			m.sessions[s.tp] = s
		}
		m.version++
	})
	m.log.Debug("member has its assignment", slog.Int("new", len(opened)))
	return nil
}

// prepare claims the producers, then finds where the sessions begin: at what the group has committed,
// else at its start position, which is committed before anything is read, in the generation in which the partitions were ours.
func (m *member) prepare(ctx context.Context, who identity, missing []*opening) error {
	if err := concurrently(missing, func(o *opening) error { return o.writer.claim(ctx) }); err != nil {
		return err
	}
	partitions := make([]engine.TopicPartition, len(missing))
	for i, o := range missing {
		partitions[i] = o.tp
	}
	stable, err := m.cluster.committedOffsets(ctx, m.g.Name, partitions, m.k.o.TransactionTimeout)
	if err != nil {
		return err
	}
	if err := m.identify(ctx, missing, stable); err != nil {
		return err
	}
	var fresh []*opening
	for _, o := range missing {
		at, ok := stable[o.tp]
		if o.base = at; !ok {
			o.base = nothing
		}
		if ok && !o.remade {
			o.position = at.offset
		} else {
			fresh = append(fresh, o)
		}
	}
	if err := m.findStarts(ctx, fresh); err != nil {
		return err
	}
	if err := m.settle(ctx, who, fresh); err != nil {
		return err
	}
	for _, o := range fresh {
		if o.remade {
			m.log.Warn("input topic was made anew: the group begins as if it had never read from it",
				slog.String("topic", o.tp.Topic), slog.Int("partition", int(o.tp.Partition)), slog.Int64("offset", o.position))
			if m.g.Remade != nil {
				m.g.Remade(o.tp)
			}
		}
	}
	return nil
}

// identify finds out of which topics the partitions are, and which of these were made anew since the group read from one of the
// name, or since this member came.
func (m *member) identify(ctx context.Context, missing []*opening, stable map[engine.TopicPartition]committed) error {
	ids := map[string]topicID{}
	for _, o := range missing {
		if _, ok := ids[o.tp.Topic]; !ok {
			info, err := m.cluster.topic(ctx, o.tp.Topic, metadataMaxAge)
			if err != nil {
				return err
			}
			ids[o.tp.Topic] = info.id
		}
	}
	sure := map[string]bool{}
	for _, o := range missing {
		name := o.tp.Topic
		for {
			o.topic = ids[name]
			o.remade = m.remade(o, stable)
			if !o.remade || sure[name] {
				break
			}
			id, err := m.cluster.agreedID(ctx, name)
			if err != nil {
				return err
			}
			ids[name], sure[name] = id, true
		}
	}
	for name, id := range ids {
		if _, ok := m.began[name]; !ok {
			m.began[name] = id
		}
	}
	return nil
}

// remade compares the topic with what the group and this member know of it.
func (m *member) remade(o *opening, stable map[engine.TopicPartition]committed) bool {
	if at, ok := stable[o.tp]; ok {
		id, ok := topicOfMark(at.mark)
		return ok && id.differs(o.topic)
	}
	if found, ok := m.g.Starts[o.tp.Topic]; ok {
		id := o.topic.String()
		return id != "" && found.ID != "" && found.ID != id
	}
	return m.began[o.tp.Topic].differs(o.topic)
}

// newOpening has a producer that is not initialised yet.
func (m *member) newOpening(tp engine.TopicPartition) *opening {
	o := &opening{tp: tp, input: slices.Index(m.g.Inputs, tp.Topic)}
	txn := ""
	if m.g.Delivery == engine.ExactlyOnce {
		txn = engine.TransactionalID(m.g.Name, tp)
	}
	var life context.Context
	life, o.cancel = context.WithCancel(context.Background())
	o.writer = newWriter(life, m.cluster, txn, m.k.implicit, m.k.o.TransactionTimeout, tp.Partition)
	return o
}

// concurrently calls f for each, some at a time, and returns the last error.
func concurrently(openings []*opening, f func(*opening) error) error {
	var all sync.WaitGroup
	var mu sync.Mutex
	var failed error
	slots := make(chan struct{}, openingTogether)
	for _, o := range openings {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			if err := f(o); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = err
			}
		})
	}
	all.Wait()
	return failed
}

// findStarts finds the start positions of partitions that the group has never committed. If
// the group has committed others of a topic, these came later, and everything in
// them is new: a start at the end, or at an offset of the older ones, would pass records over.
func (m *member) findStarts(ctx context.Context, fresh []*opening) error {
	if len(fresh) == 0 {
		return nil
	}
	all, err := m.cluster.allOffsets(ctx, m.g.Name)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for tp := range all {
		known[tp.Topic] = true
	}
	same := map[engine.Start][]*opening{}
	for _, o := range fresh {
		start := m.g.Start
		if found, ok := m.g.Starts[o.tp.Topic]; ok {
			id := found.ID
			if o.remade {
				id = o.topic.String()
			}
			start = found.Of(o.tp.Partition, id, start)
		} else if (known[o.tp.Topic] || o.remade) && start.Kind != engine.StartTimestamp {
			start = engine.Start{Kind: engine.StartEarliest}
		}
		same[start] = append(same[start], o)
	}
	for start, openings := range same {
		partitions := make([]engine.TopicPartition, len(openings))
		for i, o := range openings {
			partitions[i] = o.tp
		}
		offsets, err := m.cluster.offsetsAt(ctx, partitions, start)
		if err != nil {
			return err
		}
		for _, o := range openings {
			o.position = offsets[o.tp]
		}
	}
	return nil
}

// settle commits start positions, all or none: from here on the start is what it is, and "latest" does not move with the
// next restart. With exactly once that is a transaction of one of the sessions' producers, as all their commits are.
func (m *member) settle(ctx context.Context, who identity, openings []*opening) error {
	if len(openings) == 0 {
		return nil
	}
	offsets, bases := map[engine.TopicPartition]committed{}, map[engine.TopicPartition]committed{}
	for _, o := range openings {
		bases[o.tp] = o.base
		o.base = committed{offset: o.position, mark: markOf("start", o.topic) + "0"}
		offsets[o.tp] = o.base
	}
	w := openings[0].writer
	if !w.transactional() {
		return retry(ctx, sendTimeout, func() error { return m.cluster.commitOffsets(ctx, m.g.Name, who, offsets) })
	}
	if err := w.addOffsets(ctx, m.g.Name); err != nil {
		return err
	}
	err := retry(ctx, sendTimeout, func() error {
		coordinator, err := w.commitOffsets(ctx, m.g.Name, who, offsets)
		if err != nil {
			return err
		}
		return m.cluster.confirm(ctx, coordinator, m.g.Name, bases)
	})
	if err == nil {
		_, err = w.end(ctx, true)
	}
	return err
}
