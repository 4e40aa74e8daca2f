package group

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/broker/topic"
)

// TestConsumerHeartbeats is what heartbeats are answered in a group with the
// settled members a (dynamic) and s (static), which have two partitions each.
func TestConsumerHeartbeats(t *testing.T) {
	empty := ""
	full := func(m *consumer) ConsumerHeartbeat {
		return ConsumerHeartbeat{Group: groupName, MemberID: m.id, InstanceID: m.instance, Epoch: m.epoch, RebalanceTimeout: m.timeout,
			Topics: m.topics, Owned: m.owned}
	}
	tests := []struct {
		name string
		say  func(w *audience) ConsumerHeartbeat
		want error
	}{
		{"nothing new", func(w *audience) ConsumerHeartbeat { return w.member("a").heartbeat() }, nil},
		{"everything again", func(w *audience) ConsumerHeartbeat { return full(w.member("a")) }, nil},
		{"no group", func(w *audience) ConsumerHeartbeat { return ConsumerHeartbeat{MemberID: "a"} }, ErrInvalidGroupID},
		{"another group", func(w *audience) ConsumerHeartbeat {
			h := w.member("a").heartbeat()
			h.Group = "other"
			return h
		}, ErrGroupNotFound},
		{"a stranger", func(w *audience) ConsumerHeartbeat {
			h := w.member("a").heartbeat()
			h.MemberID = "x"
			return h
		}, ErrUnknownMember},
		{"epoch to come", func(w *audience) ConsumerHeartbeat {
			h := w.member("a").heartbeat()
			h.Epoch++
			return h
		}, ErrFencedEpoch},
		{"epoch long gone", func(w *audience) ConsumerHeartbeat {
			h := w.member("a").heartbeat()
			h.Epoch -= 2
			return h
		}, ErrFencedEpoch},
		{"last epoch, holding what it may", func(w *audience) ConsumerHeartbeat {
			h := full(w.member("a"))
			h.Epoch = w.c.groups[groupName].consumer.members["a"].previousEpoch
			return h
		}, nil},
		{"last epoch, not saying what it holds", func(w *audience) ConsumerHeartbeat {
			h := w.member("a").heartbeat()
			h.Epoch, h.Owned = w.c.groups[groupName].consumer.members["a"].previousEpoch, nil
			return h
		}, ErrFencedEpoch},
		{"last epoch, holding what is another's", func(w *audience) ConsumerHeartbeat {
			h := full(w.member("a"))
			h.Epoch, h.Owned = w.c.groups[groupName].consumer.members["a"].previousEpoch, w.member("s").owned
			return h
		}, ErrFencedEpoch},
		{"begins anew", func(w *audience) ConsumerHeartbeat {
			w.member("a").epoch = 0
			return w.member("a").heartbeat()
		}, nil},
		{"unknown assignor", func(w *audience) ConsumerHeartbeat {
			h, name := w.member("a").heartbeat(), "best"
			h.Assignor = &name
			return h
		}, ErrUnknownAssignor},
		{"regex with a hole", func(w *audience) ConsumerHeartbeat {
			h, expression := w.member("a").heartbeat(), "a)|(b"
			h.Regex = &expression
			return h
		}, ErrInvalidRegex},
		{"no regex any more", func(w *audience) ConsumerHeartbeat {
			h := w.member("a").heartbeat()
			h.Regex = &empty
			return h
		}, nil},
		{"instance that has not left", func(w *audience) ConsumerHeartbeat {
			h := full(w.member("s"))
			h.MemberID, h.Epoch, h.Owned = "s2", 0, Partitions{}
			return h
		}, ErrUnreleasedInstance},
		{"instance that is another member", func(w *audience) ConsumerHeartbeat {
			h := w.member("s").heartbeat()
			h.MemberID = "a"
			return h
		}, ErrFencedInstance},
		{"instance nobody knows", func(w *audience) ConsumerHeartbeat {
			h := w.member("s").heartbeat()
			h.InstanceID = "nobody"
			return h
		}, ErrUnknownMember},
		{"static member begins anew", func(w *audience) ConsumerHeartbeat {
			w.member("s").epoch = 0
			return w.member("s").heartbeat()
		}, nil},
		{"a stranger leaves", func(w *audience) ConsumerHeartbeat {
			return ConsumerHeartbeat{Group: groupName, MemberID: "x", Epoch: LeaveEpoch}
		}, ErrUnknownMember},
		{"an instance leaves as another member", func(w *audience) ConsumerHeartbeat {
			return ConsumerHeartbeat{Group: groupName, MemberID: "a", InstanceID: "i", Epoch: LeaveStaticEpoch}
		}, ErrFencedInstance},
		{"an instance nobody knows leaves", func(w *audience) ConsumerHeartbeat {
			return ConsumerHeartbeat{Group: groupName, MemberID: "a", InstanceID: "x", Epoch: LeaveStaticEpoch}
		}, ErrUnknownMember},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inAudience(t, func(w *audience) {
				a, s := w.member("a"), w.member("s")
				s.instance = "i"
				a.want(nil)
				w.converge(a, s)
				w.topics.set("t", 5)
				synctest.Wait()
				w.converge(a, s)
				before := w.describe()
				_, err := w.c.Consumers().Heartbeat(t.Context(), test.say(w))
				if !errors.Is(err, test.want) {
					t.Fatalf("answer is %v, want %v", err, test.want)
				}
				if after := w.describe(); after.Epoch != before.Epoch || after.State != consumerStable {
					t.Errorf("group was %s at epoch %d and is %s at %d", before.State, before.Epoch, after.State, after.Epoch)
				}
			})
		})
	}
}

func TestConsumerJoinsAndLeaves(t *testing.T) {
	inAudience(t, func(w *audience) {
		a, b := w.member("a"), w.member("b")
		a.want(nil)
		if a.epoch != 1 || a.held() != 4 {
			t.Fatalf("the first member is at epoch %d with %d partitions", a.epoch, a.held())
		}
		b.want(nil)
		if b.epoch != 2 || b.held() != 0 {
			t.Fatalf("the second is at epoch %d with %d partitions, which a still holds", b.epoch, b.held())
		}
		a.want(nil) // is told to give two up
		if a.epoch != 1 || a.held() != 2 {
			t.Fatalf("a is at epoch %d with %d partitions", a.epoch, a.held())
		}
		b.want(nil)
		if b.held() != 0 {
			t.Fatal("b has partitions that a has not said to have given up")
		}
		a.want(nil) // says so
		if a.epoch != 2 {
			t.Fatalf("a has given up and is at epoch %d", a.epoch)
		}
		b.want(nil)
		if b.held() != 2 {
			t.Fatalf("b has %d partitions", b.held())
		}
		if err := b.leave(LeaveEpoch); err != nil {
			t.Fatal(err)
		}
		w.converge(a)
		if a.held() != 4 || a.epoch != 3 {
			t.Fatalf("a is alone at epoch %d with %d partitions", a.epoch, a.held())
		}
		if err := a.leave(LeaveEpoch); err != nil {
			t.Fatal(err)
		}
		if l := w.c.List(); len(l) != 1 || l[0] != (Listing{groupName, TypeConsumer, ConsumerProtocolType, "Empty"}) {
			t.Errorf("listed as %+v", l)
		}
	})
}

// What is held by a member that hears nothing is nobody else's until its time is over.
func TestConsumerSessionTimeout(t *testing.T) {
	inAudience(t, func(w *audience) {
		a, b := w.member("a"), w.member("b")
		a.want(nil)
		w.converge(a, b)
		for range 8 { // b is silent for 40 of 45 seconds
			time.Sleep(5 * time.Second)
			a.want(nil)
		}
		if a.held() != 2 {
			t.Fatal("a has what b may hold")
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		b.want(ErrUnknownMember)
		b.owned = nil
		w.converge(a)
		if a.held() != 4 {
			t.Errorf("a has %d partitions", a.held())
		}
	})
}

func TestConsumerRebalanceTimeout(t *testing.T) {
	inAudience(t, func(w *audience) {
		a, b := w.member("a"), w.member("b")
		a.want(nil)
		a.stubborn = true
		b.want(nil)
		for range 5 {
			a.want(nil)
			b.want(nil)
			time.Sleep(5 * time.Second)
		}
		if b.held() != 0 {
			t.Fatal("b has what a holds on to")
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		a.want(ErrUnknownMember)
		a.owned = nil
		w.converge(b)
		if b.held() != 4 {
			t.Errorf("b has %d partitions", b.held())
		}
	})
}

// A static member that leaves for a while keeps its partitions, and nothing is rebalanced.
func TestConsumerStaticMember(t *testing.T) {
	inAudience(t, func(w *audience) {
		a, s := w.member("a"), w.member("s")
		s.instance = "i"
		a.want(nil)
		w.converge(a, s)
		had, epoch := s.owned, s.epoch
		if err := s.leave(LeaveStaticEpoch); err != nil {
			t.Fatal(err)
		}
		a.want(nil)
		back := w.member("s2")
		back.instance = "i"
		back.want(nil)
		if !back.owned.equal(had) || back.epoch != epoch || a.held() != 2 {
			t.Errorf("it came back to %v at epoch %d, and had %v at %d", back.owned, back.epoch, had, epoch)
		}
		s.epoch = epoch
		s.want(ErrFencedInstance)
		s.owned = nil

		if err := back.leave(LeaveStaticEpoch); err != nil {
			t.Fatal(err)
		}
		for range 10 { // and does not come back
			time.Sleep(5 * time.Second)
			a.want(nil)
		}
		w.converge(a)
		if a.held() != 4 {
			t.Errorf("a has %d partitions", a.held())
		}
	})
}

// A static member that was to give something up and leaves has given it up; the rebalance timeout is no concern of it any more.
func TestConsumerStaticMemberLeavesWhileItGivesUp(t *testing.T) {
	inAudience(t, func(w *audience) {
		a, s := w.member("a"), w.member("s")
		s.instance, s.timeout = "i", 10*time.Second
		s.want(nil)
		a.want(nil)
		s.want(nil) // is told to give two up
		if err := s.leave(LeaveStaticEpoch); err != nil {
			t.Fatal(err)
		}
		a.want(nil)
		if a.held() != 2 {
			t.Errorf("a has %d partitions", a.held())
		}
		epoch := a.epoch
		time.Sleep(20 * time.Second)
		synctest.Wait()
		s.want(nil)
		if s.epoch != epoch {
			t.Errorf("it came back at epoch %d, the group was at %d", s.epoch, epoch)
		}
		if s.held() != 2 {
			t.Errorf("it came back to %d partitions", s.held())
		}
	})
}

func TestConsumerTopicsChange(t *testing.T) {
	inAudience(t, func(w *audience) {
		a, b := w.member("a"), w.member("b")
		a.topics, a.regex = nil, "t|more-.*"
		b.topics, b.regex = []string{"t"}, "more-.*"
		count := func(want int) {
			t.Helper()
			synctest.Wait() // the coordinator hears of it
			w.converge(a, b)
			if got := a.held() + b.held(); got != want {
				t.Fatalf("%d partitions are assigned, want %d", got, want)
			}
			if d := a.held() - b.held(); d < -1 || d > 1 {
				t.Fatalf("%d and %d are not balanced", a.held(), b.held())
			}
		}
		a.want(nil)
		count(4)
		w.topics.set("t", 7)
		count(7)
		w.topics.set("no-more-1", 9) // a regex has to match the whole name
		count(7)
		w.topics.set("more-1", 3)
		count(10)
		w.topics.set("t", 0)
		count(3)
		w.topics.set("t", 2) // another topic of the same name
		count(5)
		epoch := w.describe().Epoch
		w.topics.set("unrelated", 1)
		count(5)
		if now := w.describe().Epoch; now != epoch {
			t.Errorf("a topic nobody reads moved the epoch from %d to %d", epoch, now)
		}
	})
}

func TestConsumerSubscriptionChanges(t *testing.T) {
	inAudience(t, func(w *audience) {
		w.topics.set("u", 4)
		a, b := w.member("a"), w.member("b")
		a.want(nil)
		w.converge(a, b)
		h := a.heartbeat()
		h.Topics = []string{"u"}
		if err := a.say(h); err != nil {
			t.Fatal(err)
		}
		w.converge(a, b)
		u, _ := w.topics.Lookup("u")
		if len(a.owned[u.ID]) != 4 || a.held() != 4 || b.held() != 4 {
			t.Errorf("a has %v and b %v", a.owned, b.owned)
		}
		name := AssignorRange
		for _, m := range []*consumer{a, b} {
			h := m.heartbeat()
			h.Assignor = &name
			if err := m.say(h); err != nil {
				t.Fatal(err)
			}
		}
		if d := w.describe(); d.Assignor != AssignorRange {
			t.Errorf("assignor is %q, all want %q", d.Assignor, AssignorRange)
		}
	})
}

// Clients expect of names and a regular expression that come together that the named topics are assigned first.
func TestConsumerNamesBeforeRegex(t *testing.T) {
	inAudience(t, func(w *audience) {
		w.topics.set("more", 3)
		a := w.member("a")
		a.regex = "m.*"
		a.want(nil)
		if a.held() != 4 {
			t.Errorf("%d partitions at first", a.held())
		}
		a.want(nil)
		if a.held() != 7 {
			t.Errorf("%d partitions then", a.held())
		}
		a.topics = nil
		a.epoch, a.regex = 0, "t|more"
		a.want(nil)
		if a.held() != 7 {
			t.Errorf("%d partitions by a regular expression alone", a.held())
		}
	})
}

func TestConsumerCommits(t *testing.T) {
	inAudience(t, func(w *audience) {
		a := w.member("a")
		w.commit(plain, 1).want(t, nil)
		a.want(nil)
		for _, test := range []struct {
			name   string
			id     Identity
			commit error
			check  error
		}{
			{"member", Identity{Group: groupName, MemberID: "a", Generation: 1}, nil, nil},
			{"epoch to come", Identity{Group: groupName, MemberID: "a", Generation: 2}, ErrStaleEpoch, ErrStaleEpoch},
			{"stranger", Identity{Group: groupName, MemberID: "x", Generation: 1}, ErrUnknownMember, ErrUnknownMember},
			{"plain client", plain, ErrUnknownMember, nil},
			{"other group", Identity{Group: "other", MemberID: "a", Generation: 1}, ErrGroupNotFound, nil},
		} {
			w.commit(test.id, 7).want(t, test.commit)
			if err := w.c.Consumers().Check(test.id); !errors.Is(err, test.check) {
				t.Errorf("%s may fetch offsets: %v, want %v", test.name, err, test.check)
			}
		}
		if got := w.committed(); got != 7 {
			t.Errorf("committed offset is %d", got)
		}
		if err := a.leave(LeaveEpoch); err != nil {
			t.Fatal(err)
		}
		w.commit(plain, 8).want(t, nil)
	})
}

// A group without members changes its protocol and keeps its offsets; one with members does not, where the policy forbids it.
func TestGroupChangesProtocol(t *testing.T) {
	inAudience(t, func(w *audience) {
		w.c.migration = MigrateNot
		classic, modern := w.world.member("c"), w.member("m")
		w.stable("c")
		classic.commit(5).want(t, nil)
		modern.want(ErrGroupNotFound)
		if _, err := w.c.Consumers().Describe(groupName); !errors.Is(err, ErrGroupNotFound) {
			t.Errorf("a classic group is described as a consumer group: %v", err)
		}
		classic.leave().want(t, nil)

		modern.want(nil)
		if got := w.committed(); got != 5 {
			t.Errorf("committed offset is %d after the upgrade", got)
		}
		classic.heartbeat().want(t, ErrUnknownMember)
		classic.sync().want(t, ErrUnknownMember)
		if _, err := w.c.Describe(groupName); !errors.Is(err, ErrGroupNotFound) {
			t.Errorf("a consumer group is described as a classic one: %v", err)
		}
		if err := modern.leave(LeaveEpoch); err != nil {
			t.Fatal(err)
		}

		classic.id = ""
		classic.join().want(t, nil)
		classic.sync().want(t, nil)
		w.wantState(StateStable)
		if got := w.committed(); got != 5 {
			t.Errorf("committed offset is %d after the downgrade", got)
		}
		after := w.restarted()
		if d, err := after.c.Describe(groupName); err != nil || d.State != "Empty" {
			t.Errorf("after a restart the group is %+v, %v", d, err)
		}
		after.close()
	})
}

func TestConsumerGroupDeletion(t *testing.T) {
	inAudience(t, func(w *audience) {
		a := w.member("a")
		a.want(nil)
		w.commit(Identity{Group: groupName, MemberID: "a", Generation: 1}, 3).want(t, nil)
		ctx := context.Background()
		if err := w.c.Delete(ctx, groupName); !errors.Is(err, ErrNonEmptyGroup) {
			t.Errorf("deletion of a group with members: %v", err)
		}
		results, err := w.c.DeleteOffsets(ctx, groupName, []TopicPartition{{"t", 0}, {"u", 0}})
		if err != nil || !errors.Is(results[TopicPartition{"t", 0}], ErrSubscribedTopic) || results[TopicPartition{"u", 0}] != nil {
			t.Errorf("deletion of offsets: %v, %v", results, err)
		}
		if err := w.c.Leave(ctx, Identity{Group: groupName, MemberID: "a"}, "operator"); err != nil {
			t.Errorf("an operator removes a member: %v", err)
		}
		a.want(ErrUnknownMember)
		if err := w.c.Delete(ctx, groupName); err != nil {
			t.Error(err)
		}
		after := w.restarted()
		if l := after.c.List(); len(l) != 0 {
			t.Errorf("after a restart there is %+v", l)
		}
		after.close()
	})
}

// Members, epochs and assignments survive a restart, in whatever step of a rebalance.
func TestConsumersOverRestarts(t *testing.T) {
	inAudience(t, func(w *audience) {
		a, b, s := w.member("a"), w.member("b"), w.member("s")
		s.instance = "i"
		w.topics.set("t", 12)
		a.want(nil)
		steps := []*consumer{b, a, s, b, a, b, s, a, b, s, a, b, s}
		for _, m := range steps {
			before := w.describe()
			w = w.restarted()
			if after := w.describe(); !sameDescription(before, after) {
				t.Fatalf("group was %+v and is %+v", before, after)
			}
			m.want(nil)
			w.exclusive()
		}
		w.converge(a, b, s)
		if a.held() != 4 || b.held() != 4 || s.held() != 4 {
			t.Errorf("%d, %d and %d partitions", a.held(), b.held(), s.held())
		}
		w = w.restarted()
		time.Sleep(40 * time.Second)
		a.want(nil)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		b.want(ErrUnknownMember) // sessions count from the start
		w.close()
	})
}

func sameDescription(a, b ConsumerDescription) bool {
	return a.Epoch == b.Epoch && a.AssignmentEpoch == b.AssignmentEpoch && a.State == b.State && a.Assignor == b.Assignor &&
		slices.EqualFunc(a.Members, b.Members, func(x, y ConsumerMemberDescription) bool {
			return x.MemberID == y.MemberID && x.InstanceID == y.InstanceID && x.Epoch == y.Epoch && slices.Equal(x.Topics, y.Topics) &&
				x.Regex == y.Regex && x.Assigned.equal(y.Assigned) && x.Target.equal(y.Target)
		})
}

// An answer is given only for what a power cut cannot take back.
func TestConsumerAnswersAreDurable(t *testing.T) {
	inAudience(t, func(w *audience) {
		release := w.journal.block()
		joining := start(func() error { return w.member("a").beat() })
		joining.want(t, errWaiting)
		release()
		joining.want(t, nil)
		after := newAudience(t, w.journal.crash(), w.topics)
		if d := after.describe(); len(d.Members) != 1 || d.Members[0].Epoch != 1 || d.Members[0].Assigned.count() != 4 {
			t.Errorf("after a power cut the group is %+v", d)
		}
		after.close()
	})
}

func TestConsumerJournalRefuses(t *testing.T) {
	inAudience(t, func(w *audience) {
		a, b := w.member("a"), w.member("b")
		a.want(nil)
		w.journal.refuse = ErrJournal
		b.want(ErrJournal)
		b.epoch = 0
		w.journal.refuse = nil
		w.converge(a, b)
		if a.held() != 2 || b.held() != 2 {
			t.Errorf("%d and %d partitions", a.held(), b.held())
		}
	})
}

// TestConsumersAtRandom lets members join, leave, die, lose answers and the
// broker restart while topics come and go: nobody ever holds what another holds, and in the end all is balanced.
func TestConsumersAtRandom(t *testing.T) {
	for seed := range uint64(20) {
		inAudience(t, func(w *audience) {
			r := rand.New(rand.NewPCG(seed, 1))
			names := []string{"a", "b", "c", "d", "e"}
			for range 300 {
				m := w.member(names[r.IntN(len(names))])
				switch r.IntN(20) {
				case 0:
					if m.epoch > 0 && m.leave(LeaveEpoch) != nil {
						m.epoch, m.owned = 0, nil
					}
				case 1: // the answer is lost
					if _, err := w.c.Consumers().Heartbeat(t.Context(), m.heartbeat()); err != nil {
						m.epoch, m.owned = 0, nil
					}
					m.missed = true
				case 2:
					w.topics.set([]string{"t", "u"}[r.IntN(2)], 1+r.IntN(9))
					m.topics = []string{"t", "u"}
				case 3:
					time.Sleep(time.Duration(r.IntN(20)) * time.Second)
				case 4:
					before := w.members()
					w.close()
					w.journal.compact(r.IntN(2) == 0)
					if w = w.restarted(); w.members() != before {
						t.Fatalf("seed %d: there were %s, and %s after a restart", seed, before, w.members())
					}
				case 5:
					m.stubborn = !m.stubborn
				default:
					if m.beat() != nil { // what it held is lost with its membership
						m.epoch, m.owned = 0, nil
					}
				}
				w.expired()
				w.exclusive()
			}
			var all []*consumer
			for _, name := range names {
				m := w.member(name)
				m.stubborn = false
				if m.beat() != nil {
					m.epoch, m.owned = 0, nil
					m.want(nil)
				}
				all = append(all, m)
			}
			w.converge(all...)
			w.complete()
			w.close()
		})
	}
}

// expired makes members that the coordinator has given up let go, as their own clocks tell them.
func (w *audience) expired() {
	synctest.Wait()
	d, err := w.c.Consumers().Describe(groupName)
	for _, m := range w.consumers {
		known := err == nil && slices.ContainsFunc(d.Members, func(x ConsumerMemberDescription) bool { return x.MemberID == m.id })
		if !known {
			m.epoch, m.owned = 0, nil
		}
	}
}

// complete checks that each partition of what is read has an owner that reads it.
func (w *audience) complete() {
	w.t.Helper()
	want := map[topic.ID]int{}
	for _, m := range w.consumers {
		for _, name := range m.topics {
			if info, ok := w.topics.Lookup(name); ok {
				want[info.ID] = info.Partitions
			}
		}
	}
	total := 0
	for _, n := range want {
		total += n
	}
	for _, m := range w.consumers {
		total -= m.held()
	}
	if total != 0 {
		w.t.Errorf("%d partitions are read and have no owner", total)
	}
}
