package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millstream-io/millstream/runtime/engine"
)

// member is a membership. The client library joins, heartbeats and assigns, and calls assigned,
// revoked and lost, never two at a time; one goroutine (run) opens the sessions.
type member struct {
	k       *kafka
	g       engine.Group
	cluster *cluster
	fetcher *fetcher
	log     *slog.Logger

	mu       sync.Mutex
	wanted   map[engine.TopicPartition]bool // assigned
	began    map[string]topicID             // the inputs as they were first opened; guarded by opening
	sessions map[engine.TopicPartition]*session
	version  int           // of sessions; counts up when they change
	seen     int           // version that Next returned last
	changed  chan struct{} // closed and replaced when anything above changes
	failed   error         // why the membership has ended
	suspect  bool          // a session was fenced: perhaps this member is none any more

	// opening is held while sessions are opened; interrupt ends that.
	opening   sync.Mutex
	interrupt context.CancelFunc // guarded by mu

	kick    chan struct{} // run has something to open
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	leaving sync.Once
	left    error
}

func newMember(k *kafka, g engine.Group) (*member, error) {
	m := &member{
		k: k, g: g, log: k.log.With(slog.String("group", g.Name)),
		wanted: map[engine.TopicPartition]bool{}, began: map[string]topicID{}, sessions: map[engine.TopicPartition]*session{},
		version: 1, changed: make(chan struct{}), kick: make(chan struct{}, 1),
	}
	options := append(slices.Clone(k.options),
		kgo.ClientID(cmp.Or(g.Client, k.o.ClientID)),
		kgo.ConsumerGroup(g.Name), kgo.ConsumeTopics(g.Inputs...),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.DisableAutoCommit(), kgo.RequireStableFetchOffsets(), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.SessionTimeout(k.o.SessionTimeout), kgo.RebalanceTimeout(k.o.RebalanceTimeout),
		kgo.HeartbeatInterval(min(k.o.SessionTimeout/10, 3*time.Second)),
		kgo.OnPartitionsAssigned(m.assigned), kgo.OnPartitionsRevoked(m.revoked), kgo.OnPartitionsLost(m.lost),
		kgo.WithHooks(hooks{m}),
	)
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, err
	}
	client.PauseFetchTopics(g.Inputs...) // the fetcher reads
	m.cluster = newCluster(client)
	m.fetcher = newFetcher(m.cluster, m.log)
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.running.Go(m.run)
	m.running.Go(m.drain)
	return m, nil
}

// drain takes from the client library what it has for a poll, so that it does not pile up: with all inputs paused that
// is news of trouble only, which hooks have heard.
func (m *member) drain() {
	for m.ctx.Err() == nil {
		m.cluster.client.PollFetches(m.ctx).EachError(func(topic string, _ int32, err error) {
			if m.ctx.Err() == nil {
				m.log.Debug("client library reports", slog.String("topic", topic), slog.Any("error", err))
			}
		})
	}
}

// hooks hears of what the client library cannot mend.
type hooks struct{ m *member }

// OnGroupManageError implements kgo.HookGroupManageError.
func (h hooks) OnGroupManageError(err error) {
	for _, final := range []error{
		kerr.GroupAuthorizationFailed, kerr.TopicAuthorizationFailed, kerr.InconsistentGroupProtocol,
		kerr.GroupMaxSizeReached, kerr.InvalidSessionTimeout, kerr.InvalidGroupID,
	} {
		if errors.Is(err, final) {
			if denied := explain(err); errors.Is(denied, engine.ErrNotAllowed) {
				err = denied
			}
			h.m.fail(fmt.Errorf("join group %q: %w", h.m.g.Name, err))
			return
		}
	}
	h.m.log.Warn("member has trouble with its group", slog.Any("error", err))
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

// sortedSessions is never nil; mu is held.
func (m *member) sortedSessions() []engine.Session {
	list := make([]engine.Session, 0, len(m.sessions))
	for _, s := range m.sessions {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b engine.Session) int {
		return cmp.Or(cmp.Compare(a.Input(), b.Input()), cmp.Compare(a.Partition().Partition, b.Partition().Partition))
	})
	return list
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

// Leave implements engine.Member. The sessions are closed while the member still takes part in the group.
func (m *member) Leave(ctx context.Context) error {
	m.leaving.Do(func() {
		m.fail(fmt.Errorf("%w: the member has left group %q", engine.ErrClosed, m.g.Name))
		m.stopOpening()
		m.cancel()
		m.running.Wait()
		m.closeSessions(ctx)
		err := m.cluster.client.LeaveGroupContext(ctx)
		switch {
		case err == nil, errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kgo.ErrClientClosed):
		default:
			m.left = fmt.Errorf("leave group %q: %w", m.g.Name, err)
		}
		m.fetcher.close()
		m.cluster.client.Close()
		m.k.forget(m)
	})
	return m.left
}

// closeSessions closes all sessions in the name of their owners.
func (m *member) closeSessions(ctx context.Context) {
	m.mu.Lock()
	sessions := m.sortedSessions()
	m.mu.Unlock()
	var closing sync.WaitGroup
	for _, x := range sessions {
		s := x.(*session)
		s.revoke()
		closing.Go(func() {
			_ = s.Close(ctx) // what it could not end, the next owner ends
			s.fence()
		})
	}
	closing.Wait()
}

// each calls f for each partition in the form of the client library.
func each(partitions map[string][]int32, f func(engine.TopicPartition)) {
	for topic, numbers := range partitions {
		for _, n := range numbers {
			f(engine.TopicPartition{Topic: topic, Partition: n})
		}
	}
}

// assigned is called with each generation: with what is new.
func (m *member) assigned(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
	m.update(func() {
		each(partitions, func(tp engine.TopicPartition) { m.wanted[tp] = true })
		m.version++
	})
	signal(m.kick)
}

// revoked gives partitions up in good order: their owners have until the rebalance timeout to
// finish and close. The member's heart goes on beating.
func (m *member) revoked(ctx context.Context, _ *kgo.Client, partitions map[string][]int32) {
	if len(partitions) == 0 {
		return
	}
	sessions := m.take(partitions)
	for _, s := range sessions {
		s.revoke()
	}
	deadline := time.NewTimer(m.k.o.RebalanceTimeout)
	defer deadline.Stop()
	for _, s := range sessions {
		select {
		case <-s.gone:
			continue
		case <-ctx.Done():
		case <-deadline.C:
			m.log.Warn("sessions were not closed in time", slog.Duration("rebalance_timeout", m.k.o.RebalanceTimeout))
		}
		break
	}
	m.drop(sessions)
}

// lost: the partitions belong, or will belong, to somebody else already.
func (m *member) lost(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
	sessions := m.take(partitions)
	if len(sessions) > 0 {
		m.log.Warn("member lost its place", slog.Int("partitions", len(sessions)))
	}
	m.drop(sessions)
}

// take takes partitions off what is wanted, sees to it that none of them is being opened any more, and returns their sessions.
func (m *member) take(partitions map[string][]int32) []*session {
	m.mu.Lock()
	each(partitions, func(tp engine.TopicPartition) { delete(m.wanted, tp) })
	m.mu.Unlock()
	m.stopOpening()
	var sessions []*session
	m.mu.Lock()
	defer m.mu.Unlock()
	each(partitions, func(tp engine.TopicPartition) {
		if s := m.sessions[tp]; s != nil {
			sessions = append(sessions, s)
		}
	})
	signal(m.kick) // others may still have to be opened
	return sessions
}

// stopOpening returns when nothing is being opened.
func (m *member) stopOpening() {
	m.mu.Lock()
	if m.interrupt != nil {
		m.interrupt()
	}
	m.mu.Unlock()
	m.opening.Lock()
	defer m.opening.Unlock()
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
			if m.sessions[s.tp] == s {
				delete(m.sessions, s.tp)
			}
		}
		m.version++
	})
}

// contested ends a session that somebody else seems to have now. Should the group still say that the partition is
// ours, it is opened anew.
func (m *member) contested(s *session, why error) {
	m.log.Warn("session was fenced", slog.String("topic", s.tp.Topic), slog.Int("partition", int(s.tp.Partition)), slog.Any("error", why))
	m.mu.Lock()
	m.suspect = true
	m.mu.Unlock()
	m.drop([]*session{s})
	signal(m.kick)
}

// identity is who the member is in the present generation.
func (m *member) identity() identity {
	id, generation := m.cluster.client.GroupMetadata()
	return identity{id, generation}
}

// generationPause is how often it is looked whether there is a new generation, while the old one cannot commit.
const generationPause = 50 * time.Millisecond

// asMember calls f, which commits, in the name of the member's present generation; while the group
// rebalances that is tried until the next one stands, or the session has ended. A partition is taken from its session
// before the generation comes in which it is somebody else's: so who commits is asked for first, and
// whether the session is alive afterwards.
func (m *member) asMember(ctx context.Context, s *session, f func(identity) error) error {
	var p pauses
	for began := time.Now(); ; {
		who := m.identity()
		if s.alive() != nil {
			return s.ended
		}
		err := f(who)
		switch {
		case err == nil:
			return nil
		case rebalancing(err):
			if m.identity() != who {
				continue
			}
			timer := time.NewTimer(generationPause)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return ctx.Err()
			case <-s.gone:
				timer.Stop()
				return s.ended
			}
		case !again(err, time.Since(began), sendTimeout):
			return err
		default:
			if p.wait(ctx) != nil {
				return fmt.Errorf("%w: %w", ctx.Err(), err)
			}
		}
	}
}

// disowned asks the coordinator whether the member is one, and returns why not; with a session, whether that
// is still the member's.
func (m *member) disowned(ctx context.Context, s *session) error {
	who := m.identity() // before the session is looked at, as in asMember
	if s != nil && s.alive() != nil {
		return s.ended
	}
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.MemberID, req.Generation = m.g.Name, who.member, who.generation
	answer, err := req.RequestWith(ctx, m.cluster.client)
	if err != nil {
		return err
	}
	err = kerr.ErrorForCode(answer.ErrorCode)
	if errors.Is(err, kerr.RebalanceInProgress) {
		return nil
	}
	return err
}
