package group

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestCommitWaitsForDurability(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		release := w.journal.block()
		commit := w.commit(plain, 5)
		commit.want(t, errWaiting)
		// Nobody may build on an offset that a power cut could take back.
		var got int64
		fetch := start(func() error { got = w.committed(); return nil })
		fetch.want(t, errWaiting)
		release()
		commit.want(t, nil)
		fetch.want(t, nil)
		if got != 5 {
			t.Errorf("committed offset is %d, want 5", got)
		}
	})
}

func TestCommitAsync(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		release := w.journal.block()
		done := make(chan error, 1)
		err := w.c.CommitAsync(context.Background(), plain, map[TopicPartition]Offset{{"t", 0}: {Offset: 5}}, func(err error) { done <- err })
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("done before it was durable")
		default:
		}
		release()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{}, newMemJournal(3))
		w.stable("a", "b")
		w.member("a").commit(5).want(t, nil)
		w.member("a").commit(6).want(t, nil)
		a, generation := w.member("a").identity(), w.member("a").generation
		w.close()

		w = newWorld(t, Options{}, w.journal)
		w.wantState(StateEmpty)
		if got := w.committed(); got != 6 {
			t.Errorf("committed offset is %d after a restart, want 6", got)
		}
		// Members of the former life are unknown, also with the right generation.
		w.commit(a, 7).want(t, ErrUnknownMember)
		w.member("c").join().want(t, nil)
		if got := w.member("c").generation; got <= generation {
			t.Errorf("generation %d after a restart, it was %d before", got, generation)
		}
		w.close()
	})
}

func TestCrashKeepsWhatWasAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{}, newMemJournal(2))
		w.commit(plain, 1).want(t, nil)
		release := w.journal.block()
		second := w.commit(plain, 2)
		second.want(t, errWaiting)
		after := newWorld(t, Options{}, w.journal.crash())
		if got := after.committed(); got != 1 {
			t.Errorf("after the crash %d is committed; 1 was acknowledged and 2 was not", got)
		}
		after.close()
		release()
		second.want(t, nil)
		w.close()
	})
}

func TestJournalRefuses(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		w.commit(plain, 1).want(t, nil)
		w.journal.refuse = ErrJournal
		w.commit(plain, 2).want(t, ErrJournal)
		if got := w.committed(); got != 1 {
			t.Errorf("committed offset is %d: what is not in the journal must not be in memory", got)
		}
		a, b := w.member("a"), w.member("b")
		a.join().want(t, nil)
		a.sync().want(t, ErrJournal)
		w.wantState(StatePreparingRebalance) // nobody works on an assignment that is not on record
		w.journal.refuse = nil
		p := b.join()
		p.want(t, errWaiting)
		a.join().want(t, nil)
		p.want(t, nil)
		a.sync().want(t, nil)
		w.wantState(StateStable)
	})
}

func TestMetadataTooLarge(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		err := w.c.Commit(context.Background(), plain, map[TopicPartition]Offset{{"t", 0}: {Metadata: strings.Repeat("x", MaxMetadataBytes+1)}})
		if !errors.Is(err, ErrMetadataTooLarge) {
			t.Errorf("answer is %v", err)
		}
	})
}

func TestOffsetsKeepMetadataAndEpoch(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		tp := TopicPartition{"t", 3}
		want := Offset{Offset: 42, LeaderEpoch: 7, Metadata: "käse", CommitTime: time.Now()}
		if err := w.c.Commit(context.Background(), plain, map[TopicPartition]Offset{tp: want}); err != nil {
			t.Fatal(err)
		}
		w.close()
		again := newWorld(t, Options{}, w.journal)
		defer again.close()
		found, err := again.c.Offsets(context.Background(), groupName, nil)
		if err != nil || len(found) != 1 {
			t.Fatalf("offsets: %v, %v", found, err)
		}
		if got := found[tp]; got.Offset != 42 || got.LeaderEpoch != 7 || got.Metadata != "käse" || !got.CommitTime.Equal(want.CommitTime) {
			t.Errorf("offset is %+v, want %+v", got, want)
		}
	})
}

func TestDeleteIsForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{}, newMemJournal(2))
		w.stable("a")
		w.member("a").commit(5).want(t, nil)
		w.member("a").leave().want(t, nil)
		w.wantState(StateEmpty)
		if err := w.c.Delete(context.Background(), groupName); err != nil {
			t.Fatal(err)
		}
		w.close()
		w = newWorld(t, Options{}, w.journal)
		if got := w.state(); got != "none" {
			t.Errorf("group is %s after a restart, it was deleted", got)
		}
		w.close()
	})
}

func TestDeleteOffsets(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		w.stable("a") // reads topic t
		id := w.member("a").identity()
		read, unread, never := TopicPartition{"t", 0}, TopicPartition{"old", 0}, TopicPartition{"old", 1}
		if err := w.c.Commit(context.Background(), id, map[TopicPartition]Offset{read: {Offset: 1}, unread: {Offset: 2}}); err != nil {
			t.Fatal(err)
		}
		result, err := w.c.DeleteOffsets(context.Background(), groupName, []TopicPartition{read, unread, never})
		if err != nil {
			t.Fatal(err)
		}
		if !errors.Is(result[read], ErrSubscribedTopic) || result[unread] != nil || result[never] != nil || len(result) != 3 {
			t.Errorf("result is %v", result)
		}
		left, _ := w.c.Offsets(context.Background(), groupName, nil)
		if _, ok := left[unread]; ok || len(left) != 1 {
			t.Errorf("offsets left: %v", left)
		}
	})
}

func TestForgetTopic(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		other := Identity{Group: "other", Generation: -1}
		gone, kept := TopicPartition{"gone", 0}, TopicPartition{"kept", 0}
		for _, id := range []Identity{plain, other} {
			if err := w.c.Commit(context.Background(), id, map[TopicPartition]Offset{gone: {Offset: 1}, kept: {Offset: 2}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.c.ForgetTopic(context.Background(), "gone"); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{groupName, "other"} {
			left, _ := w.c.Offsets(context.Background(), name, nil)
			if _, ok := left[gone]; ok || len(left) != 1 {
				t.Errorf("offsets of %s: %v", name, left)
			}
		}
	})
}

func TestExpiry(t *testing.T) {
	const day = 24 * time.Hour
	tests := []struct {
		name string
		do   func(w *world)
		want map[string]bool // topics whose offset is left
	}{
		{"plain client: from the commit", func(w *world) {
			w.commitTo(plain, "t")
			time.Sleep(4 * day)
			w.commitTo(plain, "u")
			time.Sleep(4 * day)
		}, map[string]bool{"u": true}},
		{"group: not while it has members", func(w *world) {
			w.stable("a")
			w.commitTo(w.member("a").identity(), "t")
			w.live("a", 8*day)
		}, map[string]bool{"t": true}},
		{"group: of topics nobody is subscribed to", func(w *world) {
			w.stable("a")
			w.commitTo(w.member("a").identity(), "t")
			w.commitTo(w.member("a").identity(), "former")
			w.live("a", 8*day)
		}, map[string]bool{"t": true}},
		{"group: from when it became empty", func(w *world) {
			w.stable("a")
			w.commitTo(w.member("a").identity(), "t")
			w.live("a", 6*day)
			w.member("a").leave().want(w.t, nil)
			time.Sleep(6 * day)
		}, map[string]bool{"t": true}},
		{"group: seven days after it became empty", func(w *world) {
			w.stable("a")
			w.commitTo(w.member("a").identity(), "t")
			w.live("a", 6*day)
			w.member("a").leave().want(w.t, nil)
			time.Sleep(7*day + expiryInterval)
		}, map[string]bool{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inWorld(t, Options{}, func(w *world) {
				test.do(w)
				synctest.Wait()
				found, err := w.c.Offsets(context.Background(), groupName, nil)
				if err != nil {
					t.Fatal(err)
				}
				got := map[string]bool{}
				for tp := range found {
					got[tp.Topic] = true
				}
				if !maps.Equal(got, test.want) {
					t.Errorf("offsets left for %v, want %v", got, test.want)
				}
				if len(test.want) == 0 && w.state() != "none" {
					t.Errorf("a group without members and offsets is still %s", w.state())
				}
			})
		})
	}
}

func (w *world) commitTo(id Identity, topic string) {
	w.t.Helper()
	if err := w.c.Commit(context.Background(), id, map[TopicPartition]Offset{{topic, 0}: {Offset: 1}}); err != nil {
		w.t.Fatal(err)
	}
}

// live lets a member heartbeat for d.
func (w *world) live(name string, d time.Duration) {
	w.t.Helper()
	m := w.member(name)
	m.session = 10 * time.Second
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(9 * time.Second)
		if err := w.c.Heartbeat(context.Background(), m.identity()); err != nil {
			w.t.Fatal(err)
		}
	}
}

func TestWatchHearsOfARebalance(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		w.stable("a")
		heard := make(chan struct{}, 1)
		cancel := w.c.Watch(groupName, heard)
		w.member("b").join()
		synctest.Wait()
		select {
		case <-heard:
		default:
			t.Error("nothing was heard")
		}
		cancel()
		w.member("a").join().want(t, nil)
		select {
		case <-heard:
			t.Error("heard after cancel")
		default:
		}
	})
}
