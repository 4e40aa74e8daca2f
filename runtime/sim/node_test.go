package sim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/millstream-io/millstream/runtime/engine"
)

// node is one process: an engine.Engine whose requests go through its own, bad, network.
type node struct {
	engine.Engine // nil: a worker needs no other method
	c             *cluster
	faults
}

// call is one request: it may be lost, late, or arrive although its sender is dead by then.
func (n *node) call(ctx context.Context, apply func() error) error {
	if err := n.gate(ctx); err != nil {
		return err
	}
	before, after, requestLost, answerLost := n.draw()
	if err := n.pass(ctx, before); err != nil && n.chance(0.5) {
		return err // never sent
	}
	var err error
	if !requestLost {
		n.c.mu.Lock()
		err = apply()
		n.c.mu.Unlock()
	}
	if err := n.pass(ctx, after); err != nil {
		return err
	}
	if err := n.gate(ctx); err != nil {
		return err
	}
	if requestLost || answerLost {
		return errLost
	}
	return err
}

// pass lets time go by.
func (n *node) pass(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-n.dead:
		return errDead
	}
}

// gate holds up a process that is paused.
func (n *node) gate(ctx context.Context) error {
	n.mu.Lock()
	paused := n.paused
	n.mu.Unlock()
	if n.isDead() {
		return errDead
	}
	if paused == nil {
		return ctx.Err()
	}
	select {
	case <-paused:
		return nil
	case <-n.dead:
		return errDead
	case <-ctx.Done():
		return ctx.Err()
	}
}

// insist sends a request again when there is no answer, with little patience.
func (n *node) insist(ctx context.Context, apply func() error) error {
	for {
		if err := n.call(ctx, apply); !errors.Is(err, errLost) || n.chance(0.4) {
			return err
		}
	}
}

// pause stops the process for a while, as SIGSTOP does.
func (n *node) pause(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.paused != nil {
		return
	}
	paused := make(chan struct{})
	n.paused = paused
	time.AfterFunc(d, func() {
		n.mu.Lock()
		n.paused = nil
		n.mu.Unlock()
		close(paused)
	})
}

// Append implements engine.Engine: log lines go nowhere.
func (n *node) Append(context.Context, string, []engine.Record) error { return nil }

// EnsureTopic implements engine.Engine.
func (n *node) EnsureTopic(context.Context, string, int, map[string]string) error { return nil }

// Starts implements engine.Engine, for the input's beginning and end.
func (n *node) Starts(ctx context.Context, _ []string, start engine.Start) (starts map[string]engine.TopicStart, err error) {
	err = n.call(ctx, func() error {
		in := engine.TopicStart{ID: "in"}
		for _, p := range n.c.topics["in"] {
			at := 0
			if start.Kind == engine.StartLatest {
				at = len(p.entries)
			}
			in.Offsets = append(in.Offsets, int64(at))
		}
		starts = map[string]engine.TopicStart{"in": in}
		return nil
	})
	return starts, err
}

// Lag implements engine.Engine.
func (n *node) Lag(ctx context.Context, _ string, _ []string) (positions map[engine.TopicPartition]engine.Position, err error) {
	err = n.call(ctx, func() error {
		positions = map[engine.TopicPartition]engine.Position{}
		for _, tp := range n.c.group.partitions() {
			at, ok := n.c.group.committed[tp]
			if !ok {
				at = -1
			}
			positions[tp] = engine.Position{Committed: at, LogEnd: int64(len(n.c.topics["in"][tp.Partition].entries))}
		}
		return nil
	})
	return positions, err
}

// Join implements engine.Engine.
func (n *node) Join(ctx context.Context, g engine.Group) (engine.Member, error) {
	var id string
	// An answer that got lost leaves a member behind that nobody knows, until its session times out.
	err := n.insist(ctx, func() error {
		id = fmt.Sprintf("member-%d", n.c.group.joined)
		n.c.group.join(id)
		return nil
	})
	if err != nil {
		return nil, err
	}
	m := &member{n: n, id: id, config: g, sessions: map[engine.TopicPartition]*session{}, changed: make(chan struct{}), stopped: make(chan struct{})}
	m.ctx, m.stop = context.WithCancel(context.WithoutCancel(ctx))
	go m.beat()
	return m, nil
}

// member is a membership as its process sees it.
type member struct {
	n       *node
	id      string
	config  engine.Group
	ctx     context.Context
	stop    context.CancelFunc
	stopped chan struct{}

	mu         sync.Mutex
	generation int
	sessions   map[engine.TopicPartition]*session
	released   []engine.TopicPartition
	changed    chan struct{}
	version    int // of the set of sessions
	told       int
	lost       bool
}

func (m *member) beat() {
	defer close(m.stopped)
	for m.ctx.Err() == nil {
		if err := m.heartbeat(); errors.Is(err, errUnknown) || errors.Is(err, errDead) {
			m.drop()
			return
		}
		m.n.mu.Lock()
		jitter := time.Duration(m.n.rng.Int64N(int64(heartbeatInterval)))
		m.n.mu.Unlock()
		_ = m.n.pass(m.ctx, heartbeatInterval/2+jitter)
	}
}

func (m *member) heartbeat() error {
	m.mu.Lock()
	released := slices.Clone(m.released)
	m.mu.Unlock()
	var generation int
	var has, revoked []engine.TopicPartition
	err := m.n.call(m.ctx, func() (err error) {
		generation, has, revoked, err = m.n.c.group.heartbeat(m.id, released)
		return err
	})
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.generation = generation
	m.released = slices.Delete(m.released, 0, len(released))
	for _, tp := range revoked {
		if s := m.sessions[tp]; s != nil {
			s.revoke()
		} else if !slices.Contains(m.released, tp) {
			m.released = append(m.released, tp) // it never had a session
		}
	}
	var missing []engine.TopicPartition
	for _, tp := range has {
		if m.sessions[tp] == nil && !slices.Contains(m.released, tp) {
			missing = append(missing, tp)
		}
	}
	if m.told == 0 && m.version == 0 {
		m.bump()
	}
	m.mu.Unlock()
	for _, tp := range missing {
		if s, err := m.open(tp); err == nil {
			m.mu.Lock()
			m.sessions[tp] = s
			m.bump()
			m.mu.Unlock()
		}
	}
	return nil
}

// bump tells Next; m.mu is held.
func (m *member) bump() {
	m.version++
	close(m.changed)
	m.changed = make(chan struct{})
}

// open fences the last owner's producer first and asks where it got to then: between the two nothing can be committed.
func (m *member) open(tp engine.TopicPartition) (*session, error) {
	s := &session{m: m, n: m.n, tp: tp, done: make(chan struct{}), id: fmt.Sprintf("d-%s-%d", tp.Topic, tp.Partition)}
	s.revoke = sync.OnceFunc(func() { close(s.done) })
	err := m.n.insist(m.ctx, func() (err error) {
		s.epoch, err = m.n.c.initProducer(s.id, -1)
		return err
	})
	if err == nil {
		err = s.rewind(m.ctx)
	}
	return s, err
}

// drop ends a membership that the coordinator does not know any more.
func (m *member) drop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lost = true
	for _, s := range m.sessions {
		s.fence()
	}
	m.sessions = map[engine.TopicPartition]*session{}
	m.bump()
}

// Next implements engine.Member.
func (m *member) Next(ctx context.Context) ([]engine.Session, error) {
	for {
		m.mu.Lock()
		changed, fresh, lost := m.changed, m.version != m.told, m.lost
		m.told = m.version
		now := make([]engine.Session, 0, len(m.sessions))
		for _, tp := range slices.SortedFunc(maps.Keys(m.sessions), func(a, b engine.TopicPartition) int { return int(a.Partition - b.Partition) }) {
			now = append(now, m.sessions[tp])
		}
		m.mu.Unlock()
		switch {
		case lost:
			return nil, engine.ErrClosed
		case fresh:
			return now, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Leave implements engine.Member.
func (m *member) Leave(ctx context.Context) error {
	m.stop()
	<-m.stopped
	m.drop()
	return m.n.insist(ctx, func() error { m.n.c.group.leave(m.id); return nil })
}
