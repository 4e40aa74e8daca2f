package embedded

import (
	"context"
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

// member is a membership. One goroutine (run) joins, assigns when it leads,
// hands sessions out and takes them back; mu guards what others read.
type member struct {
	e *embedded
	g engine.Group
	// began are the inputs that there were when the membership began.
	began map[string]topic.ID

	mu       sync.Mutex
	id       group.Identity
	sessions map[engine.TopicPartition]*session
	version  int           // of sessions; counts up when they change
	changed  chan struct{} // closed and replaced when anything above changes
	failed   error         // why the membership has ended
	seen     int           // version that Next returned last

	// The rest belongs to run.
	eager    bool                // the last generation's protocol wants everything given up before a join
	leading  bool                // this member made the assignment
	assigned map[string]topic.ID // topics as of that assignment, with their partition counts
	counts   map[string]int
	alone    []engine.TopicPartition // assigned by another leader, and not there

	rebalanced chan struct{} // the group rebalances, or has done so
	topology   chan struct{} // topics came, went or grew
	ctx        context.Context
	cancel     context.CancelFunc
	stopped    chan struct{}
}

func newMember(e *embedded, g engine.Group) *member {
	m := &member{
		e: e, g: g, began: map[string]topic.ID{},
		id:         group.Identity{Group: g.Name, Generation: -1},
		sessions:   map[engine.TopicPartition]*session{},
		changed:    make(chan struct{}),
		rebalanced: make(chan struct{}, 1),
		topology:   make(chan struct{}, 1),
		stopped:    make(chan struct{}),
	}
	for _, name := range g.Inputs {
		if info, ok := e.topics.Lookup(name); ok {
			m.began[name] = info.ID
		}
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	go m.run()
	return m
}

// Next implements engine.Member.
func (m *member) Next(ctx context.Context) ([]engine.Session, error) {
	for {
		m.mu.Lock()
		failed, changed := m.failed, m.changed
		var sessions []engine.Session
		if m.version != m.seen && failed == nil {
			m.seen = m.version
			sessions = m.sortedSessions()
		}
		m.mu.Unlock()
		if failed != nil {
			return nil, failed
		}
		if sessions != nil {
			return sessions, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// sortedSessions is never nil.
func (m *member) sortedSessions() []engine.Session {
	list := make([]engine.Session, 0, len(m.sessions))
	for _, s := range m.sessions {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b engine.Session) int {
		x, y := a.Partition(), b.Partition()
		if a.Input() != b.Input() {
			return a.Input() - b.Input()
		}
		return int(x.Partition - y.Partition)
	})
	return list
}

// Leave implements engine.Member. The sessions are closed while the member
// still takes part in the group, for a rebalance that is under way has to end before
// their last offsets can be committed.
func (m *member) Leave(ctx context.Context) error {
	m.fail(fmt.Errorf("%w: the member has left group %q", engine.ErrClosed, m.g.Name))
	errs := m.closeSessions(ctx, m.owned())
	m.cancel()
	<-m.stopped
	errs = append(errs, m.closeSessions(ctx, m.owned())...) // those that came meanwhile
	id, _ := m.identity()
	if id.MemberID != "" {
		err := m.e.groups.Leave(ctx, id, "the member was closed")
		if err != nil && !errors.Is(err, group.ErrUnknownMember) && !errors.Is(err, group.ErrClosed) {
			errs = append(errs, fmt.Errorf("leave group %q: %w", m.g.Name, err))
		}
	}
	return errors.Join(errs...)
}

// closeSessions closes sessions in the name of their owners, all at the same time.
func (m *member) closeSessions(ctx context.Context, sessions []*session) []error {
	results := make([]error, len(sessions))
	var closing sync.WaitGroup
	for i, s := range sessions {
		s.revoke()
		closing.Go(func() {
			results[i] = s.Close(ctx)
			s.fence() // whatever Close could not finish
		})
	}
	closing.Wait()
	return slices.DeleteFunc(results, func(err error) bool { return err == nil })
}

// identity returns who the member is now, and a channel that is closed when that changes.
func (m *member) identity() (group.Identity, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.id, m.changed
}

// out tells why the member is not in its group any more; nil: it is.
func (m *member) out(ctx context.Context) error {
	id, _ := m.identity()
	if id.MemberID == "" {
		return errNoMember
	}
	if err := m.e.groups.Heartbeat(ctx, id); errors.Is(err, group.ErrUnknownMember) || errors.Is(err, group.ErrFencedInstance) {
		return err
	}
	return nil // it may have to join again, which is not for us to do
}

var errNoMember = errors.New("the member has lost its place")

// asMember runs f, which commits offsets of a session, in the name of the member's present
// generation. While the group rebalances that can take until the next one stands.
func (m *member) asMember(ctx context.Context, s *session, f func(id group.Identity) error) error {
	for {
		id, changed := m.identity()
		err := errNoMember
		if id.MemberID != "" { // without a name it would be a commit from outside the group, which nobody fences
			err = f(id)
		}
		if !errors.Is(err, errNoMember) && !errors.Is(err, group.ErrRebalanceInProgress) &&
			!errors.Is(err, group.ErrIllegalGeneration) && !errors.Is(err, group.ErrUnknownMember) {
			return err
		}
		if now, _ := m.identity(); now != id {
			continue
		}
		select {
		case <-changed:
		case <-s.gone:
			return s.ended
		case <-ctx.Done():
			return ctx.Err()
		case <-m.ctx.Done(): // the member has left: its generation will not come
			return fmt.Errorf("%w: %w", engine.ErrFenced, err)
		}
	}
}

// update changes what others read and tells them.
func (m *member) update(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *member) fail(err error) {
	m.update(func() {
		if m.failed == nil {
			m.failed = err
		}
	})
}

// owned returns the present sessions.
func (m *member) owned() []*session {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]*session, 0, len(m.sessions))
	for _, s := range m.sessions {
		list = append(list, s)
	}
	return list
}

// What keeps a member from joining is tried again after firstPause, and after twice as long each time; after lastPause
// the membership has failed.
const (
	firstPause = 10 * time.Millisecond
	lastPause  = time.Second
)

// run is the life of the membership.
func (m *member) run() {
	defer close(m.stopped)
	defer m.e.groups.Watch(m.g.Name, m.rebalanced)()
	defer m.e.topics.Watch(m.topology)()
	pause := firstPause
	for m.ctx.Err() == nil {
		settled, err := m.rebalance()
		switch {
		case m.ctx.Err() != nil:
			return
		case errors.Is(err, group.ErrUnknownMember), errors.Is(err, group.ErrFencedInstance):
			m.lose(err)
		case errors.Is(err, group.ErrRebalanceInProgress), errors.Is(err, group.ErrIllegalGeneration):
			// The group went on without waiting: join again.
		case final(err):
			m.fail(explainGroup(err))
			m.drop(m.owned()) // no generation will come in whose name they could commit
			return
		case err != nil && pause >= lastPause: // whoever joined tries again, and says why
			m.fail(explainGroup(err))
			m.drop(m.owned())
			return
		case err != nil:
			m.e.log.Debug("member could not join", slog.String("group", m.g.Name), slog.Any("error", err), slog.Duration("again_in", pause))
			m.wait(pause)
			pause *= 2
		case settled:
			pause = firstPause
			m.attend()
		}
	}
}

// final reports errors that joining again does not cure.
func final(err error) bool {
	return errors.Is(err, group.ErrInconsistentGroup) || errors.Is(err, group.ErrMaxSizeReached) ||
		errors.Is(err, group.ErrInvalidSession) || errors.Is(err, group.ErrInvalidGroupID) || errors.Is(err, group.ErrClosed)
}

func explainGroup(err error) error {
	if errors.Is(err, group.ErrClosed) {
		return explain(err)
	}
	return fmt.Errorf("join: %w", err)
}

func (m *member) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-m.ctx.Done():
	}
}

// lose forgets the membership: somebody else has, or will get, the partitions.
func (m *member) lose(why error) {
	m.e.log.Warn("member lost its place", slog.String("group", m.g.Name), slog.Any("error", why))
	m.drop(m.owned())
	m.update(func() { m.id.MemberID, m.id.Generation = "", -1 })
}

// drop fences sessions and takes them off the list.
func (m *member) drop(sessions []*session) {
	if len(sessions) == 0 {
		return
	}
	for _, s := range sessions {
		s.fence()
	}
	m.update(func() {
		for _, s := range sessions {
			delete(m.sessions, s.tp)
		}
		m.version++
	})
}

// release takes partitions away in good order: their owners have until the
// rebalance timeout to finish and close. The member's heart goes on beating.
func (m *member) release(sessions []*session) {
	for _, s := range sessions {
		s.revoke()
	}
	deadline := time.NewTimer(m.e.rejoin)
	defer deadline.Stop()
	beat := time.NewTicker(m.heartbeatInterval())
	defer beat.Stop()
	for _, s := range sessions {
		for waiting := true; waiting; {
			select {
			case <-s.gone:
				waiting = false
			case <-beat.C:
				id, _ := m.identity()
				// The answer is found again by what follows.
				_ = m.e.groups.Heartbeat(m.ctx, id)
			case <-deadline.C:
				m.e.log.Warn("sessions were not closed in time", slog.String("group", m.g.Name), slog.Duration("rebalance_timeout", m.e.rejoin))
				m.drop(sessions)
				return
			case <-m.ctx.Done():
				return
			}
		}
	}
	m.drop(sessions)
}

func (m *member) heartbeatInterval() time.Duration { return min(m.e.session/10, 3*time.Second) }

// attend keeps the membership alive until the member has to join again.
func (m *member) attend() {
	beat := time.NewTicker(m.heartbeatInterval())
	defer beat.Stop()
	for {
		select {
		case <-beat.C:
		case <-m.rebalanced:
		case <-m.topology:
			if m.outdated() {
				return
			}
			continue
		case <-m.ctx.Done():
			return
		}
		id, _ := m.identity()
		switch err := m.e.groups.Heartbeat(m.ctx, id); {
		case err == nil:
		case errors.Is(err, group.ErrUnknownMember):
			m.lose(err)
			return
		default:
			return
		}
	}
}

// outdated reports whether the topics have changed so that the assignment does not fit any more.
func (m *member) outdated() bool {
	for _, s := range m.owned() {
		if info, ok := m.e.topics.Lookup(s.tp.Topic); !ok || info.ID != s.partition.TopicID() {
			return true
		}
	}
	for _, tp := range m.alone {
		if _, err := m.e.topics.Partition(tp.Topic, tp.Partition); err == nil {
			return true // it is there now, and may be assigned again without a change that the leader sees
		}
	}
	if !m.leading {
		return false
	}
	for name, id := range m.assigned {
		info, _ := m.e.topics.Lookup(name)
		if info.ID != id || info.Partitions != m.counts[name] {
			return true
		}
	}
	return false
}
