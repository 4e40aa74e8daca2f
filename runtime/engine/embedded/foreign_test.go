package embedded

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/vfs"
	"github.com/millstream-io/millstream/runtime/engine"
)

// foreign is a Kafka client's member of the group, as seen by the coordinator.
type foreign struct {
	l         *log
	protocols []string
	id        string
	owned     []group.TopicPartition
	joined    group.JoinResponse
}

// rebalance joins until an assignment stands and returns it.
func (f *foreign) rebalance(t *testing.T) []group.TopicPartition {
	t.Helper()
	for {
		s := group.Subscription{Topics: []string{"in"}, Owned: f.owned, Generation: f.joined.Generation}
		r := group.JoinRequest{Group: "g", MemberID: f.id, ClientID: "foreign", SessionTimeout: 30 * time.Second,
			RebalanceTimeout: time.Minute, ProtocolType: group.ConsumerProtocolType}
		for _, p := range f.protocols {
			r.Protocols = append(r.Protocols, group.Protocol{Name: p, Metadata: s.Encode()})
		}
		joined, err := f.l.groups.Join(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		f.id, f.joined = joined.MemberID, joined
		sync := group.SyncRequest{Group: "g", MemberID: f.id, Generation: joined.Generation}
		if joined.Leader == f.id {
			sync.Assignments = map[string][]byte{}
			counts := map[string]int{"in": 4}
			for id, partitions := range assignRange(subscribersOf(joined.Members), counts) {
				sync.Assignments[id] = group.EncodeAssignment(partitions)
			}
		}
		synced, err := f.l.groups.Sync(t.Context(), sync)
		if errors.Is(err, group.ErrRebalanceInProgress) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		partitions, err := group.DecodeAssignment(synced.Assignment)
		if err != nil {
			t.Fatal(err)
		}
		f.owned = partitions
		return partitions
	}
}

// serve closes the sessions that are taken away, as a worker does, and keeps the latest set.
type serving struct {
	owned []engine.Session
	done  chan struct{}
}

func serve(m engine.Member) *serving {
	v := &serving{done: make(chan struct{})}
	go func() {
		defer close(v.done)
		seen := map[engine.Session]bool{}
		for {
			owned, err := m.Next(context.Background())
			if err != nil {
				return
			}
			v.owned = owned
			for _, s := range owned {
				if !seen[s] {
					seen[s] = true
					go func() {
						<-s.Done()
						_ = s.Close(context.Background())
					}()
				}
			}
		}
	}()
	return v
}

func (v *serving) partitions() int {
	synctest.Wait()
	return len(v.owned)
}

func withGroup(t *testing.T, f func(t *testing.T, l *log, m engine.Member, v *serving)) {
	synctest.Test(t, func(t *testing.T) {
		l := openLog(t, vfs.NewMem(), "data")
		defer l.close(t)
		if err := l.engine.EnsureTopic(t.Context(), "in", 4, nil); err != nil {
			t.Fatal(err)
		}
		m, err := l.engine.Join(t.Context(), engine.Group{Name: "g", Inputs: []string{"in"}})
		if err != nil {
			t.Fatal(err)
		}
		v := serve(m)
		if n := v.partitions(); n != 4 {
			t.Fatalf("%d partitions, want 4", n)
		}
		f(t, l, m, v)
		if err := m.Leave(context.Background()); err != nil {
			t.Error(err)
		}
		<-v.done
	})
}

// TestForeignRangeMember: a client that knows only "range" brings the group down to it.
func TestForeignRangeMember(t *testing.T) {
	withGroup(t, func(t *testing.T, l *log, m engine.Member, v *serving) {
		f := &foreign{l: l, protocols: []string{strategyRange}}
		if got := f.rebalance(t); len(got) != 2 {
			t.Errorf("the client is assigned %v, want 2 partitions", got)
		}
		if f.joined.Protocol != strategyRange || f.joined.Leader == f.id {
			t.Errorf("protocol %s, leader %s", f.joined.Protocol, f.joined.Leader)
		}
		if n := v.partitions(); n != 2 {
			t.Errorf("the member has %d partitions, want 2", n)
		}
		// The client goes, and the group comes back to keeping partitions.
		if err := l.groups.Leave(t.Context(), group.Identity{Group: "g", MemberID: f.id}, ""); err != nil {
			t.Fatal(err)
		}
		if n := v.partitions(); n != 4 {
			t.Errorf("the member has %d partitions, want 4", n)
		}
		d, err := l.groups.Describe("g")
		if err != nil || d.Protocol != strategyCooperative {
			t.Errorf("protocol is %q, %v", d.Protocol, err)
		}
	})
}

// TestForeignCooperativeMember: our leader assigns for a client that keeps partitions, in two steps.
func TestForeignCooperativeMember(t *testing.T) {
	withGroup(t, func(t *testing.T, l *log, m engine.Member, v *serving) {
		f := &foreign{l: l, protocols: []string{strategyCooperative}}
		got := f.rebalance(t)
		if len(got) == 0 { // the member has everything and is letting go, else it was fast enough to have done so
			synctest.Wait()
			if err := l.groups.Heartbeat(t.Context(), group.Identity{Group: "g", MemberID: f.id, Generation: f.joined.Generation}); !errors.Is(err, group.ErrRebalanceInProgress) {
				t.Errorf("heartbeat: %v", err)
			}
			got = f.rebalance(t)
		}
		if len(got) != 2 || f.joined.Generation != 3 {
			t.Errorf("the client is assigned %v in generation %d, want 2 partitions in the third", got, f.joined.Generation)
		}
		if n := v.partitions(); n != 2 {
			t.Errorf("the member has %d partitions, want 2", n)
		}
	})
}

// TestForeignLeader: the member takes what a client assigns, and owns up to what it cannot use.
func TestForeignLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLog(t, vfs.NewMem(), "data")
		defer l.close(t)
		if err := l.engine.EnsureTopic(t.Context(), "in", 4, nil); err != nil {
			t.Fatal(err)
		}
		f := &foreign{l: l, protocols: []string{strategyRange}}
		f.rebalance(t)
		m, err := l.engine.Join(t.Context(), engine.Group{Name: "g", Inputs: []string{"in"}})
		if err != nil {
			t.Fatal(err)
		}
		v := serve(m)
		synctest.Wait()
		if got := f.rebalance(t); len(got) != 2 || f.joined.Leader != f.id {
			t.Errorf("the client is assigned %v and the leader is %s", got, f.joined.Leader)
		}
		if n := v.partitions(); n != 2 {
			t.Errorf("the member has %d partitions, want 2", n)
		}
		if err := m.Leave(context.Background()); err != nil {
			t.Error(err)
		}
		<-v.done
	})
}

// TestForeignGroupOfAnotherKind: Next says why the member can never get in.
func TestForeignGroupOfAnotherKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLog(t, vfs.NewMem(), "data")
		defer l.close(t)
		go l.groups.Join(t.Context(), group.JoinRequest{Group: "g", SessionTimeout: 30 * time.Second, RebalanceTimeout: time.Minute,
			ProtocolType: "connect", Protocols: []group.Protocol{{Name: "sessioned"}}})
		synctest.Wait()
		m, err := l.engine.Join(t.Context(), engine.Group{Name: "g", Inputs: []string{"in"}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Next(t.Context()); !errors.Is(err, group.ErrInconsistentGroup) {
			t.Errorf("Next: %v", err)
		}
		if err := m.Leave(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// TestMemberLivesOn: heartbeats keep the membership over many session timeouts.
func TestMemberLivesOn(t *testing.T) {
	withGroup(t, func(t *testing.T, l *log, m engine.Member, v *serving) {
		before := v.owned
		time.Sleep(time.Hour)
		if n := v.partitions(); n != 4 || v.owned[0] != before[0] {
			t.Errorf("%d partitions after an hour, first session kept: %v", n, v.owned[0] == before[0])
		}
		d, _ := l.groups.Describe("g")
		if d.Generation != 1 || d.State != group.StateStable.String() {
			t.Errorf("group is %s at generation %d", d.State, d.Generation)
		}
	})
}

// TestTopicIsDeletedAndMadeAgain: the sessions of the old topic end, the new one is read from its start.
func TestTopicIsDeletedAndMadeAgain(t *testing.T) {
	withGroup(t, func(t *testing.T, l *log, m engine.Member, v *serving) {
		before := v.owned[0]
		if err := l.topics.Delete(t.Context(), "in"); err != nil {
			t.Fatal(err)
		}
		if err := l.groups.ForgetTopic(t.Context(), "in"); err != nil {
			t.Fatal(err)
		}
		if n := v.partitions(); n != 0 {
			t.Errorf("%d partitions of a deleted topic", n)
		}
		if err := l.engine.EnsureTopic(t.Context(), "in", 2, nil); err != nil {
			t.Fatal(err)
		}
		if n := v.partitions(); n != 2 {
			t.Errorf("%d partitions of the new topic, want 2", n)
		}
		if err := before.Begin([]string{"out"}); !errors.Is(err, engine.ErrFenced) && !errors.Is(err, engine.ErrClosed) {
			t.Errorf("a session of the old topic says %v", err)
		}
	})
}

// TestATopicThatComesBackUnderAForeignLeader: a leader that has not noticed that a topic was away assigns its partitions as before; who
// got some of them and could not open them does when they are there.
func TestATopicThatComesBackUnderAForeignLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLog(t, vfs.NewMem(), "data")
		defer l.close(t)
		f := &foreign{l: l, protocols: []string{strategyCooperative}}
		f.rebalance(t)
		m, err := l.engine.Join(t.Context(), engine.Group{Name: "g", Inputs: []string{"in"}})
		if err != nil {
			t.Fatal(err)
		}
		v := serve(m)
		synctest.Wait()
		if got := f.rebalance(t); len(got) != 2 || f.joined.Leader != f.id {
			t.Fatalf("the client is assigned %v, the leader is %s", got, f.joined.Leader)
		}
		if n := v.partitions(); n != 0 {
			t.Errorf("the member has %d partitions of a topic that does not exist", n)
		}
		if err := l.engine.EnsureTopic(t.Context(), "in", 4, nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		f.rebalance(t)
		if n := v.partitions(); n != 2 {
			t.Errorf("the member has %d partitions, want 2", n)
		}
		if err := m.Leave(context.Background()); err != nil {
			t.Error(err)
		}
		<-v.done
	})
}

// TestLeavingWhileTheGroupWaits: a member that goes before its first generation stands leaves nobody behind.
func TestLeavingWhileTheGroupWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLog(t, vfs.NewMem(), "data")
		defer l.close(t)
		if err := l.engine.EnsureTopic(t.Context(), "in", 4, nil); err != nil {
			t.Fatal(err)
		}
		f := &foreign{l: l, protocols: []string{strategyRange}}
		f.rebalance(t)
		m, err := l.engine.Join(t.Context(), engine.Group{Name: "g", Inputs: []string{"in"}})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // it waits for the client to join again
		if err := m.Leave(t.Context()); err != nil {
			t.Error(err)
		}
		d, err := l.groups.Describe("g")
		if err != nil {
			t.Fatal(err)
		}
		if len(d.Members) != 1 || d.Members[0].MemberID != f.id {
			t.Errorf("in the group are %+v", d.Members)
		}
		if got := f.rebalance(t); len(got) != 4 {
			t.Errorf("the client is assigned %v, want all", got)
		}
		if err := l.groups.Leave(t.Context(), group.Identity{Group: "g", MemberID: f.id}, ""); err != nil {
			t.Error(err)
		}
	})
}
