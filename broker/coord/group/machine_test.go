package group

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestStateMachine is the classic protocol as a table: in each state of a
// group with leader a and follower b, what a request is answered and where the group goes.
func TestStateMachine(t *testing.T) {
	setups := map[State]func(w *world){
		StateEmpty: func(w *world) { w.commit(plain, 1).want(w.t, nil) },
		StatePreparingRebalance: func(w *world) {
			w.stable("a", "b")
			w.member("c").join().want(w.t, errWaiting) // until a and b have joined again
		},
		StateCompletingRebalance: func(w *world) { w.completing("a", "b") },
		StateStable:              func(w *world) { w.stable("a", "b") },
	}
	changed := []Protocol{{Name: "range", Metadata: []byte("changed")}}
	tests := []struct {
		name string
		in   State
		do   func(w *world) *pending
		want error
		then State
	}{
		{"new member", StateEmpty, func(w *world) *pending { return w.member("x").join() }, nil, StateCompletingRebalance},
		{"new member", StatePreparingRebalance, func(w *world) *pending { return w.member("x").join() }, errWaiting, StatePreparingRebalance},
		{"new member", StateCompletingRebalance, func(w *world) *pending { return w.member("x").join() }, errWaiting, StatePreparingRebalance},
		{"new member", StateStable, func(w *world) *pending { return w.member("x").join() }, errWaiting, StatePreparingRebalance},

		{"leader rejoins", StatePreparingRebalance, func(w *world) *pending { return w.member("a").join() }, errWaiting, StatePreparingRebalance},
		{"leader rejoins unchanged", StateCompletingRebalance, func(w *world) *pending { return w.member("a").join() }, nil, StateCompletingRebalance},
		{"leader rejoins unchanged", StateStable, func(w *world) *pending { return w.member("a").join() }, errWaiting, StatePreparingRebalance},
		{"follower rejoins unchanged", StateCompletingRebalance, func(w *world) *pending { return w.member("b").join() }, nil, StateCompletingRebalance},
		{"follower rejoins unchanged", StateStable, func(w *world) *pending { return w.member("b").join() }, nil, StateStable},
		{"follower rejoins changed", StateCompletingRebalance, func(w *world) *pending {
			w.member("b").protocols = changed
			return w.member("b").join()
		}, errWaiting, StatePreparingRebalance},
		{"follower rejoins changed", StateStable, func(w *world) *pending {
			w.member("b").protocols = changed
			return w.member("b").join()
		}, errWaiting, StatePreparingRebalance},

		{"leader syncs", StatePreparingRebalance, func(w *world) *pending { return w.member("a").sync() }, ErrRebalanceInProgress, StatePreparingRebalance},
		{"leader syncs", StateCompletingRebalance, func(w *world) *pending { return w.member("a").sync() }, nil, StateStable},
		{"leader syncs again", StateStable, func(w *world) *pending { return w.member("a").sync() }, nil, StateStable},
		{"follower syncs", StateCompletingRebalance, func(w *world) *pending { return w.member("b").sync() }, errWaiting, StateCompletingRebalance},
		{"follower syncs again", StateStable, func(w *world) *pending { return w.member("b").sync() }, nil, StateStable},
		{"sync of an old generation", StateStable, func(w *world) *pending {
			w.member("b").generation--
			return w.member("b").sync()
		}, ErrIllegalGeneration, StateStable},
		{"sync of a stranger", StateStable, func(w *world) *pending { return w.member("x").sync() }, ErrUnknownMember, StateStable},
		{"sync of a stranger", StateEmpty, func(w *world) *pending { return w.member("x").sync() }, ErrUnknownMember, StateEmpty},

		{"heartbeat", StatePreparingRebalance, func(w *world) *pending { return w.member("a").heartbeat() }, ErrRebalanceInProgress, StatePreparingRebalance},
		{"heartbeat", StateCompletingRebalance, func(w *world) *pending { return w.member("a").heartbeat() }, nil, StateCompletingRebalance},
		{"heartbeat", StateStable, func(w *world) *pending { return w.member("a").heartbeat() }, nil, StateStable},
		{"heartbeat of an old generation", StateStable, func(w *world) *pending {
			w.member("a").generation--
			return w.member("a").heartbeat()
		}, ErrIllegalGeneration, StateStable},
		{"heartbeat of a stranger", StateStable, func(w *world) *pending { return w.member("x").heartbeat() }, ErrUnknownMember, StateStable},
		{"heartbeat of a stranger", StateEmpty, func(w *world) *pending { return w.member("x").heartbeat() }, ErrUnknownMember, StateEmpty},

		{"member leaves", StateStable, func(w *world) *pending { return w.member("b").leave() }, nil, StatePreparingRebalance},
		{"member leaves", StateCompletingRebalance, func(w *world) *pending { return w.member("b").leave() }, nil, StatePreparingRebalance},
		{"stranger leaves", StateStable, func(w *world) *pending { return w.member("x").leave() }, ErrUnknownMember, StateStable},

		{"plain client commits", StateEmpty, func(w *world) *pending { return w.commit(plain, 7) }, nil, StateEmpty},
		{"plain client commits", StateStable, func(w *world) *pending { return w.commit(plain, 7) }, ErrUnknownMember, StateStable},
		{"member commits", StatePreparingRebalance, func(w *world) *pending { return w.member("a").commit(7) }, nil, StatePreparingRebalance},
		{"member commits", StateCompletingRebalance, func(w *world) *pending { return w.member("a").commit(7) }, ErrRebalanceInProgress, StateCompletingRebalance},
		{"member commits", StateStable, func(w *world) *pending { return w.member("a").commit(7) }, nil, StateStable},
		{"member of an old generation commits", StateStable, func(w *world) *pending {
			w.member("a").generation--
			return w.member("a").commit(7)
		}, ErrIllegalGeneration, StateStable},
		{"stranger commits", StateStable, func(w *world) *pending {
			w.member("x").generation = 2
			return w.member("x").commit(7)
		}, ErrUnknownMember, StateStable},

		{"delete", StateEmpty, func(w *world) *pending {
			return start(func() error { return w.c.Delete(context.Background(), groupName) })
		}, nil, StateDead},
		{"delete", StateStable, func(w *world) *pending {
			return start(func() error { return w.c.Delete(context.Background(), groupName) })
		}, ErrNonEmptyGroup, StateStable},
		{"delete", StatePreparingRebalance, func(w *world) *pending {
			return start(func() error { return w.c.Delete(context.Background(), groupName) })
		}, ErrNonEmptyGroup, StatePreparingRebalance},
		{"another protocol type", StateStable, func(w *world) *pending {
			return start(func() error {
				_, err := w.c.Join(context.Background(), JoinRequest{Group: groupName, ProtocolType: "connect", SessionTimeout: 10 * time.Second,
					Protocols: []Protocol{{Name: "range"}}})
				return err
			})
		}, ErrInconsistentGroup, StateStable},
		{"no common protocol", StateStable, func(w *world) *pending {
			w.member("x").protocols = []Protocol{{Name: "roundrobin"}}
			return w.member("x").join()
		}, ErrInconsistentGroup, StateStable},
		{"session timeout too short", StateStable, func(w *world) *pending {
			w.member("x").session = time.Second
			return w.member("x").join()
		}, ErrInvalidSession, StateStable},
	}
	for _, test := range tests {
		t.Run(test.in.String()+"/"+test.name, func(t *testing.T) {
			inWorld(t, Options{}, func(w *world) {
				setups[test.in](w)
				w.wantState(test.in)
				p := test.do(w)
				p.want(t, test.want)
				want := test.then.String()
				if test.then == StateDead {
					want = "none"
				}
				if got := w.state(); got != want {
					t.Fatalf("group is %s then, want %s", got, want)
				}
			})
		})
	}
}

// TestUnknownGroup: what is asked of a group that does not exist never makes one.
func TestUnknownGroup(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		ctx := context.Background()
		m := w.member("x")
		m.id, m.generation = "x-1", 1
		m.join().want(t, ErrUnknownMember)
		m.sync().want(t, ErrUnknownMember)
		m.heartbeat().want(t, ErrUnknownMember)
		m.leave().want(t, ErrUnknownMember)
		m.commit(1).want(t, ErrIllegalGeneration)
		if got := w.committed(); got != -1 {
			t.Errorf("an unknown group has committed %d", got)
		}
		start(func() error { return w.c.Delete(ctx, groupName) }).want(t, ErrGroupNotFound)
		start(func() error { _, err := w.c.DeleteOffsets(ctx, groupName, nil); return err }).want(t, ErrGroupNotFound)
		start(func() error { _, err := w.c.Join(ctx, JoinRequest{SessionTimeout: 10 * time.Second}); return err }).want(t, ErrInvalidGroupID)
		if list := w.c.List(); len(list) != 0 {
			t.Errorf("groups appeared: %v", list)
		}
	})
}

func TestMemberIDHandshake(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		m := w.member("a")
		m.requireID = true
		m.join().want(t, ErrMemberIDRequired)
		if m.id == "" {
			t.Fatal("no member id was given")
		}
		m.join().want(t, nil)
		m.sync().want(t, nil)
		w.wantState(StateStable)

		// An id that is asked for and never used holds up the join phase for a session, no longer.
		late := w.member("late")
		late.requireID = true
		late.join().want(t, ErrMemberIDRequired)
		rejoin := m.join()
		rejoin.want(t, errWaiting)
		time.Sleep(late.session)
		rejoin.want(t, nil)
		late.join().want(t, ErrUnknownMember)
	})
}

func TestUnusedGroupIsForgotten(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		m := w.member("a")
		m.requireID = true
		m.join().want(t, ErrMemberIDRequired)
		time.Sleep(m.session)
		synctest.Wait()
		if got := w.state(); got != "none" {
			t.Errorf("group is %s, nothing of it is worth remembering", got)
		}
	})
}

func TestProtocolVote(t *testing.T) {
	protocols := func(names ...string) (p []Protocol) {
		for _, n := range names {
			p = append(p, Protocol{Name: n, Metadata: []byte(n)})
		}
		return p
	}
	tests := []struct {
		name   string
		offers [][]Protocol
		want   string
	}{
		{"one member", [][]Protocol{protocols("x", "y")}, "x"},
		{"majority", [][]Protocol{protocols("x", "y"), protocols("y", "x"), protocols("y", "x")}, "y"},
		{"only what all offer", [][]Protocol{protocols("x", "y"), protocols("x", "y"), protocols("y")}, "y"},
		{"equal votes: the earliest member's", [][]Protocol{protocols("y", "x"), protocols("x", "y")}, "y"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			g := newGroup(nil, groupName, 0)
			for i, p := range test.offers {
				g.addMember(&member{id: string(rune('a' + i)), protocolType: ConsumerProtocolType, protocols: p})
			}
			if got := g.vote(); got != test.want {
				t.Errorf("vote is %q, want %q", got, test.want)
			}
		})
	}
}

func TestMaxSize(t *testing.T) {
	inWorld(t, Options{MaxGroupSize: 2}, func(w *world) {
		w.stable("a", "b")
		w.member("c").join().want(t, ErrMaxSizeReached)
		w.member("d").requireID = true
		w.member("d").join().want(t, ErrMaxSizeReached)
		w.wantState(StateStable)
		w.member("b").join().want(t, nil) // members remain welcome
	})
}

func TestGenerationWraps(t *testing.T) {
	if got := nextGeneration(1<<31 - 1); got != 1 {
		t.Errorf("generation after the last one is %d", got)
	}
}

func TestSyncNamesAnotherProtocol(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		w.completing("a")
		a := w.member("a")
		for _, r := range []SyncRequest{
			{ProtocolType: "connect", Protocol: "range"},
			{ProtocolType: ConsumerProtocolType, Protocol: "roundrobin"},
		} {
			r.Group, r.MemberID, r.Generation = groupName, a.id, a.generation
			start(func() error { _, err := w.c.Sync(context.Background(), r); return err }).want(t, ErrInconsistentGroup)
		}
	})
}
