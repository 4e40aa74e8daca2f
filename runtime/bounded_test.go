package runtime

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/runtime/catalog"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/worker"
	"github.com/millstream-io/millstream/runtime/worker/workertest"
)

// TestABoundedRunEndsWhereItDidWhenItBegan, whatever interrupts it; the next run has an end of its own.
func TestABoundedRunEndsWhereItDidWhenItBegan(t *testing.T) {
	past := func(s *deploy.Spec) { s.Until = "2000-01-01T00:01:00Z" } // a minute into the bubble
	for name, until := range map[string]func(*deploy.Spec){"end": func(s *deploy.Spec) { s.Until = "end" }, "a time": past} {
		for how, interrupt := range map[string]func(b *bench){
			"restart": func(b *bench) {
				b.close()
				b.feed("late", "later")
				b.open()
			},
			"pause": func(b *bench) {
				_, err := b.runtime.Pause(b.t.Context(), "d")
				b.ok(err)
				b.feed("late", "later")
				_, err = b.runtime.Resume(b.t.Context(), "d")
				b.ok(err)
			},
			"upgrade": func(b *bench) {
				b.mustDeploy(b.version("1", until, func(s *deploy.Spec) { s.Delivery = deploy.DeliveryAtLeastOnce }))
				b.feed("late", "later")
			},
		} {
			t.Run(name+"/"+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBench(t)
					b.ok(b.log.EnsureTopic(t.Context(), "in", 1, nil))
					b.feed("a", "b")
					b.log.SetFault(func(op, topic string) error { // nothing gets through yet
						if op == "commit" && topic == "in" {
							return engine.ErrStorage
						}
						return nil
					})
					b.mustDeploy(b.version("1", until))
					time.Sleep(2 * time.Minute)
					if phase := b.status("d").Phase; phase == worker.PhaseCompleted {
						t.Fatalf("phase is %s", phase)
					}
					interrupt(b)
					b.log.SetFault(nil)
					time.Sleep(time.Minute)
					s := b.status("d")
					if s.Phase != worker.PhaseCompleted {
						t.Fatalf("phase is %s: %s", s.Phase, s.Reason)
					}
					b.wantValues("out", "a1", "b1")
					_, err := b.runtime.Resume(b.t.Context(), "d")
					b.ok(err)
					time.Sleep(time.Minute)
					b.wantValues("out", "a1", "b1", "late1", "later1")
					b.close()
				})
			})
		}
	}
}

// TestABoundedRunOfSeveralProcesses has one end for all of them.
func TestABoundedRunOfSeveralProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newBench(t)
		a.ok(a.log.EnsureTopic(t.Context(), "in", 2, nil))
		a.log.AppendTo("in", 0, "a")
		a.log.AppendTo("in", 1, "b")
		a.log.SetFault(func(op, topic string) error {
			if op == "commit" && topic == "in" {
				return engine.ErrStorage
			}
			return nil
		})
		a.mustDeploy(a.version("1", func(s *deploy.Spec) { s.Until = "end" }))
		synctest.Wait()
		a.log.AppendTo("in", 0, "late")
		a.log.AppendTo("in", 1, "late")
		b := a.another()
		time.Sleep(time.Second)
		a.log.SetFault(nil)
		time.Sleep(time.Minute)
		wantPhases(t, phases("d", a, b), worker.PhaseCompleted, worker.PhaseCompleted)
		if got := slices.Sorted(slices.Values(a.values("out"))); !slices.Equal(got, []string{"a1", "b1"}) {
			t.Errorf("out has %q", got)
		}
		b.close()
		a.close()
	})
}

// TestABoundedRunWhoseInputIsDeleted is through when there is nothing left to read.
func TestABoundedRunWhoseInputIsDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.ok(b.log.EnsureTopic(t.Context(), "in", 1, nil))
		b.ok(b.log.EnsureTopic(t.Context(), "more", 1, nil))
		b.log.AppendTo("in", 0, "a")
		b.log.AppendTo("more", 0, "b")
		b.log.SetFault(func(op, topic string) error {
			if op == "commit" && topic == "more" {
				return engine.ErrStorage
			}
			return nil
		})
		b.mustDeploy(b.version("1", func(s *deploy.Spec) { s.Until, s.Inputs = "end", []string{"in", "more"} }))
		synctest.Wait()
		b.log.DeleteTopic("more")
		time.Sleep(time.Second)
		if s := b.status("d"); s.Phase != worker.PhaseRetrying || s.Reason == "" {
			t.Errorf("phase is %s: %s", s.Phase, s.Reason)
		}
		time.Sleep(time.Minute)
		if s := b.status("d"); s.Phase != worker.PhaseCompleted {
			t.Errorf("phase is %s: %s", s.Phase, s.Reason)
		}
		b.wantValues("out", "a1")
		b.close()
	})
}

// TestABoundedRunThatEndedUnnoticed: a process that learns at once that its run has ended and that another one has begun works for that one.
func TestABoundedRunThatEndedUnnoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.ok(b.log.EnsureTopic(t.Context(), "in", 1, nil))
		b.feed("a")
		b.log.SetFault(func(op, topic string) error {
			if op == "commit" && topic == "in" {
				return engine.ErrStorage
			}
			return nil
		})
		b.mustDeploy(b.version("1", func(s *deploy.Spec) { s.Until = "end" }))
		synctest.Wait()
		d, err := b.runtime.take(t.Context(), "d") // nothing is done about what is stored meanwhile
		b.ok(err)
		for _, state := range []string{deploy.Completed, deploy.Running} {
			_, err = b.runtime.catalog.Change(t.Context(), "d", func(before catalog.Deployment, _ bool, _ []deploy.Spec) (*deploy.Spec, error) {
				next := inState(before.Spec, state)
				if state == deploy.Running {
					next.Ends = nil
				}
				return next, nil
			})
			b.ok(err)
			time.Sleep(time.Second)
		}
		b.feed("late")
		d.unlock()
		b.log.SetFault(nil)
		time.Sleep(time.Minute)
		b.wantValues("out", "a1", "late1")
		if s := b.status("d"); s.Phase != worker.PhaseCompleted {
			t.Errorf("phase is %s: %s", s.Phase, s.Reason)
		}
		b.close()
	})
}

// TestABoundedRunWithoutAnInput: when no input is left there is nothing to be done, which is stored once.
func TestABoundedRunWithoutAnInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.ok(b.log.EnsureTopic(t.Context(), "in", 1, nil))
		b.mustDeploy(b.version("1", func(s *deploy.Spec) { s.Until = "end" }))
		time.Sleep(time.Minute)
		b.log.DeleteTopic("in")
		before := len(b.log.Records(CatalogTopic))
		_, err := b.runtime.Resume(t.Context(), "d")
		b.ok(err)
		time.Sleep(time.Hour)
		if s := b.status("d"); s.Phase != worker.PhaseCompleted {
			t.Errorf("phase is %s: %s", s.Phase, s.Reason)
		}
		if stored := len(b.log.Records(CatalogTopic)) - before; stored != 3 {
			t.Errorf("%d records were stored, want that it runs, to where, and that it is through", stored)
		}
		b.close()
	})
}

// TestAnInputThatIsMissedForAMoment has its part in a bounded run: a broker may hear late of a topic.
func TestAnInputThatIsMissedForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.ok(b.log.EnsureTopic(t.Context(), "in", 1, nil))
		b.mustDeploy(b.version("1", func(s *deploy.Spec) { s.Until = "end" }))
		time.Sleep(time.Minute)
		b.log.DeleteTopic("in")
		b.ok(b.log.ForgetGroup(t.Context(), "d")) // the offsets of a topic go with it
		_, err := b.runtime.Resume(t.Context(), "d")
		b.ok(err)
		b.ok(b.log.EnsureTopic(t.Context(), "in", 1, nil))
		b.feed("a")
		time.Sleep(time.Minute)
		b.wantValues("out", "a1")
		if s := b.status("d"); s.Phase != worker.PhaseCompleted {
			t.Errorf("phase is %s: %s", s.Phase, s.Reason)
		}
		b.close()
	})
}

// TestABoundedRunWhoseInputIsMadeAnew ends without it: what the new topic has came after the run began. The next run reads it.
func TestABoundedRunWhoseInputIsMadeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.ok(b.log.EnsureTopic(t.Context(), "in", 1, nil))
		b.ok(b.log.EnsureTopic(t.Context(), "more", 2, nil))
		b.log.AppendTo("in", 0, "a")
		b.log.AppendTo("more", 0, "b", "c")
		b.log.SetFault(func(op, topic string) error {
			if op == "commit" && topic == "more" {
				return engine.ErrStorage
			}
			return nil
		})
		b.mustDeploy(b.version("1", func(s *deploy.Spec) { s.Until, s.Inputs = "end", []string{"in", "more"} }))
		time.Sleep(time.Second)
		b.close()
		b.log.SetFault(nil)
		b.log.DeleteTopic("more")
		b.ok(b.log.EnsureTopic(t.Context(), "more", 2, nil))
		b.log.AppendTo("more", 0, "new")
		b.open()
		time.Sleep(time.Minute)
		if s := b.status("d"); s.Phase != worker.PhaseCompleted {
			t.Errorf("phase is %s: %s", s.Phase, s.Reason)
		}
		b.wantValues("out", "a1")
		_, err := b.runtime.Resume(t.Context(), "d")
		b.ok(err)
		time.Sleep(time.Minute)
		b.wantValues("out", "a1", "new1")
		b.close()
	})
}

// TestALateWordOfAnOldTopic: a broker that tells another id of an input for a moment does not take it out of the run.
func TestALateWordOfAnOldTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		log := &lateLog{Log: b.log}
		b.openOver(log)
		b.ok(b.log.EnsureTopic(t.Context(), "in", 1, nil))
		b.feed("a")
		log.old = time.Now().Add(time.Second)
		b.mustDeploy(b.version("1", func(s *deploy.Spec) { s.Until = "end" }))
		time.Sleep(time.Minute)
		b.wantValues("out", "a1")
		if s := b.status("d"); s.Phase != worker.PhaseCompleted {
			t.Errorf("phase is %s: %s", s.Phase, s.Reason)
		}
		b.close()
	})
}

// lateLog tells an old id of each topic to who joins, until old.
type lateLog struct {
	*workertest.Log
	old time.Time
}

func (l *lateLog) Starts(ctx context.Context, topics []string, start engine.Start) (map[string]engine.TopicStart, error) {
	starts, err := l.Log.Starts(ctx, topics, start)
	if start.Kind == engine.StartEarliest && time.Now().Before(l.old) {
		for name, found := range starts {
			found.ID = "old"
			starts[name] = found
		}
	}
	return starts, err
}
