package group

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// errWaiting stands for a request that is not answered yet.
var errWaiting = errors.New("waiting")

// world is a coordinator in a bubble, with one group under test.
type world struct {
	t       *testing.T
	c       *Coordinator
	journal *memJournal
	members map[string]*client
}

// client is a consumer as it knows itself.
type client struct {
	w          *world
	name       string
	id         string
	instance   string
	generation int32
	protocols  []Protocol
	leader     bool
	skip       bool
	session    time.Duration
	rebalance  time.Duration
	requireID  bool
	canSkip    bool
}

const groupName = "g"

// inWorld runs f in a bubble with an open coordinator.
func inWorld(t *testing.T, o Options, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, o, newMemJournal(2))
		f(w)
		w.close()
	})
}

func newWorld(t *testing.T, o Options, j *memJournal) *world {
	t.Helper()
	o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	c, err := open(t.Context(), o, j)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return &world{t: t, c: c, journal: j, members: map[string]*client{}}
}

func (w *world) close() {
	w.t.Helper()
	checkRoom(w.t, w.c)
	if err := w.c.Close(context.Background()); err != nil {
		w.t.Fatalf("close: %v", err)
	}
	synctest.Wait()
}

// member returns the client of that name, which offers "range" with a subscription to topic "t".
func (w *world) member(name string) *client {
	m := w.members[name]
	if m == nil {
		s := Subscription{Topics: []string{"t"}, Generation: -1}
		m = &client{w: w, name: name, generation: -1, session: 10 * time.Second, rebalance: 60 * time.Second,
			protocols: []Protocol{{Name: "range", Metadata: s.Encode()}}}
		w.members[name] = m
	}
	return m
}

func (w *world) state() string {
	d, err := w.c.Describe(groupName)
	if errors.Is(err, ErrGroupNotFound) {
		return "none"
	}
	if err != nil {
		w.t.Fatalf("describe: %v", err)
	}
	return d.State
}

func (w *world) wantState(want State) {
	w.t.Helper()
	synctest.Wait()
	if got := w.state(); got != want.String() {
		w.t.Fatalf("group is %s, want %v", got, want)
	}
}

// pending is a request under way.
type pending struct {
	done chan struct{}
	err  error
}

// start runs a request in the background.
func start(f func() error) *pending {
	p := &pending{done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = f()
	}()
	return p
}

// outcome is the request's error, or errWaiting if nothing moves any more.
func (p *pending) outcome() error {
	synctest.Wait()
	select {
	case <-p.done:
		return p.err
	default:
		return errWaiting
	}
}

func (p *pending) want(t *testing.T, want error) {
	t.Helper()
	if got := p.outcome(); !errors.Is(got, want) {
		t.Fatalf("answer is %v, want %v", got, want)
	}
}

func (m *client) join() *pending {
	request := JoinRequest{
		Group: groupName, MemberID: m.id, InstanceID: m.instance, ClientID: m.name, ClientHost: "/127.0.0.1",
		SessionTimeout: m.session, RebalanceTimeout: m.rebalance, ProtocolType: ConsumerProtocolType,
		Protocols: m.protocols, RequireMemberID: m.requireID, CanSkipAssign: m.canSkip,
	}
	return start(func() error {
		r, err := m.w.c.Join(context.Background(), request)
		if err == nil || errors.Is(err, ErrMemberIDRequired) {
			m.id = r.MemberID
		}
		if err == nil {
			m.generation, m.leader, m.skip = r.Generation, r.Leader == r.MemberID, r.SkipAssign
		}
		return err
	})
}

// sync sends what the member thinks it is; a leader assigns each member its own id.
func (m *client) sync() *pending {
	request := SyncRequest{Group: groupName, MemberID: m.id, InstanceID: m.instance, Generation: m.generation,
		ProtocolType: ConsumerProtocolType, Protocol: "range"}
	if m.leader {
		request.Assignments = map[string][]byte{}
		for _, other := range m.w.members {
			request.Assignments[other.id] = []byte("for " + other.id)
		}
	}
	return start(func() error {
		r, err := m.w.c.Sync(context.Background(), request)
		if err == nil && string(r.Assignment) != "for "+m.id {
			m.w.t.Errorf("%s is assigned %q", m.name, r.Assignment)
		}
		return err
	})
}

func (m *client) identity() Identity {
	return Identity{Group: groupName, MemberID: m.id, InstanceID: m.instance, Generation: m.generation}
}

func (m *client) heartbeat() *pending {
	id := m.identity()
	return start(func() error { return m.w.c.Heartbeat(context.Background(), id) })
}

func (m *client) leave() *pending {
	id := m.identity()
	return start(func() error { return m.w.c.Leave(context.Background(), id, "test") })
}

func (m *client) commit(offset int64) *pending {
	return m.w.commit(m.identity(), offset)
}

func (w *world) commit(id Identity, offset int64) *pending {
	return start(func() error {
		return w.c.Commit(context.Background(), id, map[TopicPartition]Offset{{"t", 0}: {Offset: offset, LeaderEpoch: -1}})
	})
}

// plain is a client outside any generation.
var plain = Identity{Group: groupName, Generation: -1}

// committed is the group's offset of t-0, -1 if there is none.
func (w *world) committed() int64 {
	w.t.Helper()
	found, err := w.c.Offsets(context.Background(), groupName, []TopicPartition{{"t", 0}})
	if err != nil {
		w.t.Fatalf("offsets: %v", err)
	}
	if o, ok := found[TopicPartition{"t", 0}]; ok {
		return o.Offset
	}
	return -1
}

// stable brings the named members, the first one leading, into a stable generation.
func (w *world) stable(names ...string) {
	w.t.Helper()
	w.completing(names...)
	var all []*pending
	for _, name := range names {
		all = append(all, w.member(name).sync())
	}
	for _, p := range all {
		p.want(w.t, nil)
	}
	w.wantState(StateStable)
}

// completing brings the members into a generation whose leader has not assigned yet.
func (w *world) completing(names ...string) {
	w.t.Helper()
	first := w.member(names[0])
	first.join().want(w.t, nil)
	if len(names) == 1 {
		return
	}
	var all []*pending
	for _, name := range names[1:] {
		all = append(all, w.member(name).join())
		synctest.Wait()
	}
	for _, p := range append(all, first.join()) {
		p.want(w.t, nil)
	}
	w.wantState(StateCompletingRebalance)
}
