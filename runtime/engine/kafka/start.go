package kafka

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	"github.com/millstream-io/millstream/runtime/engine"
)

// claims is how many producers are initialised at a time.
const claims = 16

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
			if p.last >= lastPause {
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
	m.mu.Lock()
	for tp := range m.wanted {
		if m.sessions[tp] == nil {
			missing = append(missing, &opening{tp: tp, input: slices.Index(m.g.Inputs, tp.Topic)})
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
	if err := m.prepare(ctx, missing); err != nil {
		for _, o := range missing {
			if o.cancel != nil {
				o.cancel()
			}
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
// else at its start position, which is committed before anything is read.
func (m *member) prepare(ctx context.Context, missing []*opening) error {
	if err := m.claim(ctx, missing); err != nil {
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
	starts, err := m.settle(ctx, fresh)
	if err != nil {
		return err
	}
	for _, o := range missing {
		if at, ok := stable[o.tp]; ok {
			o.position = at.offset
		} else {
			o.position = starts[o.tp]
		}
	}
	return nil
}

// claim initialises the producers of sessions, which ends what their last owners left open.
func (m *member) claim(ctx context.Context, missing []*opening) error {
	var claiming sync.WaitGroup
	var mu sync.Mutex
	var failed error
	slots := make(chan struct{}, claims)
	for _, o := range missing {
		txn := ""
		if m.g.Delivery == engine.ExactlyOnce {
			txn = engine.TransactionalID(m.g.Name, o.tp)
		}
		var life context.Context
		life, o.cancel = context.WithCancel(context.Background())
		o.writer = newWriter(life, m.cluster, txn, m.k.implicit, m.k.o.TransactionTimeout, o.tp.Partition)
		slots <- struct{}{}
		claiming.Go(func() {
			defer func() { <-slots }()
			if err := o.writer.claim(ctx); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = err
			}
		})
	}
	claiming.Wait()
	return failed
}

// settle commits the start positions of partitions that the group has never committed: from here
// on the start is what it is, and "latest" does not move with the next restart. If
// the group has committed others of a topic, these came later, and everything in
// them is new: a start at the end, or at an offset of the older ones, would pass records over.
func (m *member) settle(ctx context.Context, fresh []engine.TopicPartition) (map[engine.TopicPartition]int64, error) {
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
	offsets := map[engine.TopicPartition]committed{}
	for _, tp := range fresh {
		if at, ok := beginnings[tp]; ok {
			starts[tp] = at
		}
		offsets[tp] = committed{offset: starts[tp]}
	}
	return starts, m.asMember(ctx, nil, func(who identity) error {
		return m.cluster.commitOffsets(ctx, m.g.Name, who, offsets)
	})
}
