package kafka

import (
	"context"
	"errors"
	"log/slog"
	"maps"
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
	input    int
	writer   *writer
	cancel   context.CancelFunc // of the writer
	position int64
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
	var fresh []engine.TopicPartition
	for _, tp := range partitions {
		if _, ok := stable[tp]; !ok {
			fresh = append(fresh, tp)
		}
	}
	starts, err := m.starts(ctx, fresh)
	if err != nil {
		return err
	}
	var settling []*opening
	for _, o := range missing {
		if at, ok := stable[o.tp]; ok {
			o.position = at.offset
		} else {
			o.position = starts[o.tp]
			settling = append(settling, o)
		}
	}
	return m.settle(ctx, who, settling)
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

// starts finds the start positions of partitions that the group has never committed. If
// the group has committed others of a topic, these came later, and everything in
// them is new: a start at the end, or at an offset of the older ones, would pass records over.
func (m *member) starts(ctx context.Context, fresh []engine.TopicPartition) (map[engine.TopicPartition]int64, error) {
	if len(fresh) == 0 {
		return nil, nil
	}
	all, err := m.cluster.allOffsets(ctx, m.g.Name)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for tp := range all {
		known[tp.Topic] = true
	}
	var old, grown []engine.TopicPartition
	for _, tp := range fresh {
		if known[tp.Topic] && m.g.Start.Kind != engine.StartTimestamp {
			grown = append(grown, tp)
		} else {
			old = append(old, tp)
		}
	}
	starts, err := m.cluster.offsetsAt(ctx, old, m.g.Start)
	if err != nil {
		return nil, err
	}
	beginnings, err := m.cluster.listOffsets(ctx, grown, earliest, false)
	if err != nil {
		return nil, err
	}
	maps.Copy(starts, beginnings)
	return starts, nil
}

// settle commits start positions, all or none: from here on the start is what it is, and "latest" does not move with the
// next restart. With exactly once that is a transaction of one of the sessions' producers, as all their commits are.
func (m *member) settle(ctx context.Context, who identity, openings []*opening) error {
	if len(openings) == 0 {
		return nil
	}
	offsets := map[engine.TopicPartition]committed{}
	for _, o := range openings {
		offsets[o.tp] = committed{offset: o.position}
	}
	w := openings[0].writer
	if !w.transactional() {
		return retry(ctx, sendTimeout, func() error { return m.cluster.commitOffsets(ctx, m.g.Name, who, offsets) })
	}
	if err := w.addOffsets(ctx, m.g.Name); err != nil {
		return err
	}
	err := retry(ctx, sendTimeout, func() error { return w.commitOffsets(ctx, m.g.Name, who, offsets) })
	if err == nil {
		_, err = w.end(ctx, true)
	}
	return err
}
