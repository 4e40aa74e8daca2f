package group

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func staticWorld(t *testing.T, f func(w *world, a, b *client)) {
	inWorld(t, Options{}, func(w *world) {
		a, b := w.member("a"), w.member("b")
		a.instance, b.instance = "i-a", "i-b"
		w.stable("a", "b")
		f(w, a, b)
	})
}

// restarted is a static member after a restart: it remembers its instance id only.
func restarted(m *client, name string) *client {
	n := *m
	n.name, n.id, n.generation, n.leader = name, "", -1, false
	return &n
}

func TestStaticMemberComesBack(t *testing.T) {
	staticWorld(t, func(w *world, a, b *client) {
		back := restarted(b, "b2")
		back.join().want(t, nil)
		w.wantState(StateStable)
		if back.generation != b.generation {
			t.Errorf("generation went from %d to %d", b.generation, back.generation)
		}
		if back.id == b.id {
			t.Error("the member id is the old one")
		}
		b.heartbeat().want(t, ErrFencedInstance)
		b.commit(1).want(t, ErrFencedInstance)
		b.sync().want(t, ErrFencedInstance)
		b.leave().want(t, ErrFencedInstance)
		back.heartbeat().want(t, nil)
		back.commit(1).want(t, nil)
	})
}

func TestStaticLeaderComesBack(t *testing.T) {
	for _, canSkip := range []bool{false, true} {
		staticWorld(t, func(w *world, a, b *client) {
			back := restarted(a, "a2")
			back.canSkip = canSkip
			back.join().want(t, nil)
			w.wantState(StateStable)
			if back.skip != canSkip {
				t.Errorf("SkipAssign is %v for a member that says %v", back.skip, canSkip)
			}
			if back.leader != canSkip {
				t.Errorf("the leader of a settled generation is told to assign (can skip: %v)", canSkip)
			}
		})
	}
}

func TestStaticMemberWithAnotherProtocolRebalances(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		a, b := w.member("a"), w.member("b")
		b.instance = "i-b"
		both := func(first, second string) []Protocol {
			return []Protocol{{Name: first, Metadata: []byte("m")}, {Name: second, Metadata: []byte("m")}}
		}
		a.protocols, b.protocols = both("range", "other"), both("range", "other")
		w.stable("a", "b")
		back := restarted(b, "b2")
		back.protocols = []Protocol{{Name: "other", Metadata: []byte("m")}}
		p := back.join()
		p.want(t, errWaiting)
		w.wantState(StatePreparingRebalance)
		a.join().want(t, nil)
		p.want(t, nil)
	})
}

func TestStaticMemberIsFencedWhileItWaits(t *testing.T) {
	staticWorld(t, func(w *world, a, b *client) {
		waiting := a.join()
		waiting.want(t, errWaiting)
		back := restarted(a, "a2")
		p := back.join()
		waiting.want(t, ErrFencedInstance)
		p.want(t, errWaiting)
		b.join().want(t, nil)
		p.want(t, nil)
	})
}

func TestStaticMemberKeepsItsPlaceDuringARebalance(t *testing.T) {
	staticWorld(t, func(w *world, a, b *client) {
		b.session = 5 * time.Minute
		restarted(b, "b2").join().want(t, nil) // takes the long session over
		w.member("c").join()
		p := a.join()
		time.Sleep(a.rebalance) // b is away longer than the rebalance timeout
		p.want(t, nil)
		d, _ := w.c.Describe(groupName)
		if len(d.Members) != 3 {
			t.Errorf("%d members, want 3: a static one stays until its session ends", len(d.Members))
		}
	})
}

func TestGroupOfAbsentStaticMembersWaits(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		a := w.member("a")
		a.instance, a.session, a.rebalance = "i-a", time.Minute, 10*time.Second
		w.stable("a")
		d := w.member("d")
		d.rebalance, d.requireID = 10*time.Second, true
		d.join().want(t, ErrMemberIDRequired)
		p := d.join()
		p.want(t, errWaiting)
		d.leave().want(t, nil) // the dynamic member gives up
		p.want(t, ErrUnknownMember)
		time.Sleep(a.rebalance * 2)
		w.wantState(StatePreparingRebalance)
		back := restarted(a, "a2")
		back.join().want(t, nil)
		if !back.leader {
			t.Error("nobody leads")
		}
	})
}

func TestOperatorRemovesStaticMember(t *testing.T) {
	staticWorld(t, func(w *world, a, b *client) {
		err := w.c.Leave(context.Background(), Identity{Group: groupName, InstanceID: "i-b"}, "removed by an operator")
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.wantState(StatePreparingRebalance)
		start(func() error {
			return w.c.Leave(context.Background(), Identity{Group: groupName, InstanceID: "nobody"}, "")
		}).want(t, ErrUnknownMember)
	})
}
