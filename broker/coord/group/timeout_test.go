package group

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestSessionTimeout(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		w.stable("a", "b")
		a, b := w.member("a"), w.member("b")
		for range 5 { // a lives, b is silent
			time.Sleep(b.session/2 - time.Millisecond)
			p := a.heartbeat()
			if got := p.outcome(); got != nil {
				break
			}
		}
		w.wantState(StatePreparingRebalance)
		b.heartbeat().want(t, ErrUnknownMember)
		a.join().want(t, nil)
		a.sync().want(t, nil)
	})
}

func TestCommitKeepsSessionAlive(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		w.stable("a")
		for range 5 {
			time.Sleep(w.member("a").session - time.Second)
			w.member("a").commit(1).want(t, nil)
		}
		w.wantState(StateStable)
	})
}

func TestSessionDoesNotEndWhileJoining(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		w.stable("a", "b")
		a, b, c := w.member("a"), w.member("b"), w.member("c")
		b.session = time.Minute
		b.join().want(t, nil) // followers may change their session timeout only by a real join; unchanged protocols keep the generation
		joining := []*pending{c.join(), a.join()}
		time.Sleep(a.session * 9 / 10) // b is still to come
		b.heartbeat().want(t, ErrRebalanceInProgress)
		time.Sleep(a.session * 9 / 10)
		for _, p := range joining {
			p.want(t, errWaiting)
		}
		b.join().want(t, nil)
		for _, p := range joining {
			p.want(t, nil)
		}
	})
}

func TestRebalanceTimeoutDropsWhoDoesNotRejoin(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		w.stable("a", "b")
		a, b, c := w.member("a"), w.member("b"), w.member("c")
		joins := []*pending{c.join(), a.join()}
		for range 12 { // b heartbeats and does not rejoin
			time.Sleep(5 * time.Second)
			synctest.Wait()
			b.heartbeat()
		}
		for _, p := range joins {
			p.want(t, nil)
		}
		b.heartbeat().want(t, ErrUnknownMember)
		if d, _ := w.c.Describe(groupName); len(d.Members) != 2 {
			t.Errorf("%d members, want 2", len(d.Members))
		}
	})
}

func TestMemberThatNeverSyncsIsDropped(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		w.completing("a", "b")
		a, b := w.member("a"), w.member("b")
		a.sync().want(t, nil)
		for range 13 { // both heartbeat, b never asks for its assignment
			time.Sleep(5 * time.Second)
			synctest.Wait()
			a.heartbeat()
			b.heartbeat()
		}
		b.heartbeat().want(t, ErrUnknownMember)
		w.wantState(StatePreparingRebalance)
	})
}

func TestLeaderThatNeverSyncsIsDropped(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		w.completing("a", "b")
		a, b := w.member("a"), w.member("b")
		waiting := b.sync()
		waiting.want(t, errWaiting)
		time.Sleep(a.session) // a is dead
		waiting.want(t, ErrRebalanceInProgress)
		b.join().want(t, nil)
		if !b.leader {
			t.Error("the only member does not lead")
		}
	})
}

func TestInitialRebalanceDelay(t *testing.T) {
	inWorld(t, Options{InitialRebalanceDelay: 3 * time.Second}, func(w *world) {
		a, b := w.member("a").join(), (*pending)(nil)
		time.Sleep(2 * time.Second)
		a.want(t, errWaiting)
		b = w.member("b").join()
		time.Sleep(2 * time.Second) // the delay begins again because b came
		a.want(t, errWaiting)
		time.Sleep(2 * time.Second)
		a.want(t, nil)
		b.want(t, nil)
		if g := w.member("a").generation; g != 1 {
			t.Errorf("generation is %d: members that came together need one rebalance", g)
		}
	})
}

func TestInitialRebalanceDelayEndsWithRebalanceTimeout(t *testing.T) {
	inWorld(t, Options{InitialRebalanceDelay: 3 * time.Second}, func(w *world) {
		m := w.member("a")
		m.rebalance = 7 * time.Second
		first := m.join()
		for _, name := range []string{"b", "c", "d"} { // somebody comes all the time
			time.Sleep(2 * time.Second)
			w.member(name).rebalance = 7 * time.Second
			w.member(name).join()
		}
		time.Sleep(time.Second)
		first.want(t, nil)
	})
}

func TestJoinWhoseCallerIsGone(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		w.stable("a")
		ctx, cancel := context.WithCancel(context.Background())
		b := w.member("b")
		p := start(func() error {
			_, err := w.c.Join(ctx, JoinRequest{Group: groupName, ClientID: "b", SessionTimeout: b.session, RebalanceTimeout: b.rebalance,
				ProtocolType: ConsumerProtocolType, Protocols: b.protocols})
			return err
		})
		p.want(t, errWaiting)
		cancel()
		p.want(t, context.Canceled)
		// The member stays until its session ends, as after a lost connection.
		a := w.member("a")
		a.join().want(t, nil)
		a.sync().want(t, nil)
		for range 3 {
			time.Sleep(b.session / 2)
			if a.heartbeat().outcome() != nil {
				break
			}
		}
		a.join().want(t, nil)
		if d, _ := w.c.Describe(groupName); len(d.Members) != 1 {
			t.Errorf("%d members, want 1", len(d.Members))
		}
	})
}

func TestCloseAnswersEverybody(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		w.stable("a", "b")
		joining := w.member("c").join()
		joining.want(t, errWaiting)
		w.close()
		joining.want(t, ErrClosed)
		w.member("a").heartbeat().want(t, ErrClosed)
		w.commit(plain, 1).want(t, ErrClosed)
	})
}
