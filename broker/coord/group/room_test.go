package group

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
)

// checkRoom compares what was charged for the groups with what they are; every test of this package ends with it.
func checkRoom(t *testing.T, c *Coordinator) {
	t.Helper()
	var all int64
	for _, g := range c.all() {
		g.mu.Lock()
		want := int64(groupBytes + len(g.id))
		for tp, o := range g.offsets {
			want += sizeOfOffset(tp, &o)
		}
		for _, offsets := range g.held {
			for tp, o := range offsets {
				want += sizeOfOffset(tp, &o.Offset)
			}
		}
		weight := g.weight
		g.weigh(&g.roster)
		if want += g.weight; g.bytes != want || g.weight != weight {
			t.Errorf("group %q was charged %d bytes, %d of them for members; it has %d and %d", g.id, g.bytes, weight, want, g.weight)
		}
		all += g.bytes
		g.mu.Unlock()
	}
	if used := c.room.used.Load(); used != all {
		t.Errorf("%d bytes are in use, the groups have %d", used, all)
	}
}

func commitAt(w *world, group, topic, metadata string) error {
	return w.c.Commit(context.Background(), Identity{Group: group, Generation: -1}, map[TopicPartition]Offset{{topic, 0}: {Offset: 1, Metadata: metadata}})
}

func TestTooManyGroups(t *testing.T) {
	inWorld(t, Options{MaxGroups: 3}, func(w *world) {
		for i := range 3 {
			if err := commitAt(w, fmt.Sprint("g", i), "t", ""); err != nil {
				t.Fatal(err)
			}
		}
		join := w.member("a").join() // of a fourth group
		join.want(t, ErrTooManyGroups)
		_, err := w.c.Consumers().Heartbeat(t.Context(), ConsumerHeartbeat{Group: "fifth", MemberID: "m", RebalanceTimeout: 1})
		if !errors.Is(err, ErrTooManyGroups) {
			t.Errorf("a heartbeat: %v", err)
		}
		if err := commitAt(w, "g0", "t", ""); err != nil {
			t.Errorf("a group that is there: %v", err)
		}
		if err := w.c.Delete(t.Context(), "g1"); err != nil {
			t.Fatal(err)
		}
		w.member("a").join().want(t, nil)
	})
}

func TestGroupIDIsTooLong(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		if err := commitAt(w, strings.Repeat("g", maxGroupIDBytes+1), "t", ""); !errors.Is(err, ErrInvalidGroupID) {
			t.Errorf("committed: %v", err)
		}
	})
}

// Without room nothing new is taken, but who is there goes on with what it has.
func TestNoRoom(t *testing.T) {
	inWorld(t, Options{MaxBytes: 7 << 10}, func(w *world) {
		metadata := strings.Repeat("m", 3000)
		if err := commitAt(w, "g", "t", metadata); err != nil {
			t.Fatal(err)
		}
		if err := commitAt(w, "g", "u", metadata); !errors.Is(err, ErrNoRoom) {
			t.Errorf("another offset: %v", err)
		}
		if err := commitAt(w, "g", "t", metadata); err != nil {
			t.Errorf("the offset that is there: %v", err)
		}
		big := w.member("big")
		big.protocols[0].Metadata = make([]byte, 5000)
		big.join().want(t, ErrNoRoom)
		w.stable("a")
		a := w.member("a")
		a.protocols = []Protocol{{Name: "range", Metadata: make([]byte, 5000)}}
		a.join().want(t, ErrNoRoom)
		a.heartbeat().want(t, nil)
	})
}

func TestAssignmentsWithoutRoom(t *testing.T) {
	inWorld(t, Options{MaxBytes: 8 << 10}, func(w *world) {
		w.completing("a")
		a := w.member("a")
		_, err := w.c.Sync(context.Background(), SyncRequest{Group: groupName, MemberID: a.id, Generation: a.generation,
			Assignments: map[string][]byte{a.id: make([]byte, 8000)}})
		if !errors.Is(err, ErrNoRoom) {
			t.Errorf("an assignment that is too large: %v", err)
		}
		a.join().want(t, nil)
		a.sync().want(t, nil)
	})
}

func TestMembersOfOneGroupSayTooMuch(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		w.stable("a")
		b := w.member("b")
		b.protocols = []Protocol{{Name: "range", Metadata: make([]byte, maxMembershipBytes)}}
		b.join().want(t, ErrMaxSizeReached)
	})
}

// What a restart finds takes the room it took before, also if that is too much.
func TestRoomAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newMemJournal(2)
		w := newWorld(t, Options{}, j)
		for i := range 20 {
			if err := commitAt(w, fmt.Sprint("g", i), "t", "metadata"); err != nil {
				t.Fatal(err)
			}
		}
		used := w.c.room.used.Load()
		w.close()
		after := newWorld(t, Options{MaxBytes: 100, MaxGroups: 1}, j)
		defer after.close()
		if got := after.c.room.used.Load(); got != used {
			t.Errorf("%d bytes are in use after a restart, %d were before", got, used)
		}
		if err := commitAt(after, "g7", "t", "metadata"); err != nil {
			t.Errorf("a group that is there: %v", err)
		}
	})
}

func TestRegexesThatUnfold(t *testing.T) {
	for expression, fine := range map[string]bool{
		"orders-.*": true, "(a|b)+-[0-9]{1,10}": true, "[a-z]{1,249}": true,
		"((a{100}){100}){9}": false, strings.Repeat("(x{1000})", 100): false,
	} {
		if _, err := compileRegex(expression); (err == nil) != fine || err != nil && !errors.Is(err, ErrInvalidRegex) {
			t.Errorf("%.40q: %v", expression, err)
		}
	}
}
