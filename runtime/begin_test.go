package runtime

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/millstream-io/millstream/runtime/catalog"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/worker/workertest"
)

var errDied = errors.New("the process has ended")

// dyingLog is the log of a process that ends when it comes to write the catalog: nothing happens from there on.
type dyingLog struct {
	*workertest.Log
	dying, died bool
	before      func() // each update
}

func (l *dyingLog) Update(ctx context.Context, name string, f func(context.Context) ([]engine.Record, error)) error {
	if l.died {
		return errDied
	}
	if l.before != nil {
		l.before()
	}
	if !l.dying {
		return l.Log.Update(ctx, name, f)
	}
	if _, err := f(ctx); err != nil {
		return err
	}
	l.died = true
	return errDied
}

func (l *dyingLog) ForgetGroup(ctx context.Context, name string) error {
	if l.died {
		return errDied
	}
	return l.Log.ForgetGroup(ctx, name)
}

// TestADeployThatWasCutShort leaves nothing that keeps the name from being used, and the next one begins where it should.
func TestADeployThatWasCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.ok(b.log.EnsureTopic(t.Context(), "in", 1, nil))
		log := &dyingLog{Log: b.log}
		b.openOver(log)
		s := b.version("1", startLatest)
		log.dying = true
		if _, err := b.runtime.Deploy(t.Context(), s, DeployOptions{CreateTopics: true}); !errors.Is(err, errDied) {
			t.Fatalf("deploy: %v", err)
		}
		b.openOver(b.log)
		b.feed("before")
		b.mustDeploy(s)
		b.feed("new")
		b.wantValues("out", "new1")
		b.close()
	})
}

func startLatest(s *deploy.Spec) { s.Start = "latest" }

// TestWhereAnInputBegins: an input that comes with an upgrade begins where "latest" was when that was deployed, however long it takes until
// the group reads it; going back to a version with an input goes on where that one was.
func TestWhereAnInputBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		for _, name := range []string{"in", "more"} {
			b.ok(b.log.EnsureTopic(t.Context(), name, 1, nil))
			b.log.AppendTo(name, 0, "old")
		}
		b.mustDeploy(b.version("1", startLatest))
		_, err := b.runtime.Pause(t.Context(), "d")
		b.ok(err)
		b.mustDeploy(b.version("2", startLatest, func(s *deploy.Spec) { s.Inputs = []string{"in", "more"} }))
		b.log.AppendTo("more", 0, "meanwhile")
		s := b.status("d")
		if lag := s.Partitions[engine.TopicPartition{Topic: "more"}].Lag(s.Spec); lag != 1 {
			t.Errorf("the lag of what was not read yet is %d, want 1", lag)
		}
		_, err = b.runtime.Resume(t.Context(), "d")
		b.ok(err)
		b.feed("a")
		b.wantAmong("out", "a2", "meanwhile2")
		b.mustDeploy(b.version("3", startLatest))
		b.log.AppendTo("more", 0, "while it is no input")
		b.feed("b")
		_, err = b.runtime.Rollback(t.Context(), "d", 2, "")
		b.ok(err)
		b.feed("c")
		b.wantAmong("out", "a2", "b3", "c2", "meanwhile2", "while it is no input2")
		b.close()
	})
}

// wantAmong is wantValues for several inputs, whose records come in any order; want is sorted.
func (b *bench) wantAmong(topic string, want ...string) {
	b.t.Helper()
	if got := slices.Sorted(slices.Values(b.values(topic))); !slices.Equal(got, want) {
		b.t.Errorf("%s has %q, want %q", topic, got, want)
	}
}

// TestAnInputMadeAnewWhileNobodyReads is read from its beginning: what was "latest" of the one before says nothing about it.
func TestAnInputMadeAnewWhileNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.ok(b.log.EnsureTopic(t.Context(), "in", 1, nil))
		b.feed("a", "b", "c")
		b.mustDeploy(b.version("1", startLatest))
		_, err := b.runtime.Pause(t.Context(), "d")
		b.ok(err)
		b.log.DeleteTopic("in")
		b.ok(b.log.ForgetGroup(t.Context(), "d")) // the offsets of a topic go with it
		b.ok(b.log.EnsureTopic(t.Context(), "in", 1, nil))
		b.feed("new")
		_, err = b.runtime.Resume(t.Context(), "d")
		b.ok(err)
		synctest.Wait()
		b.wantValues("out", "new1")
		b.close()
	})
}

// TestADeploymentOfAnOlderVersion, which committed where it begins and stored nothing of it, goes on from there, also with one
// more input.
func TestADeploymentOfAnOlderVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		for _, name := range []string{"in", "more"} {
			b.ok(b.log.EnsureTopic(t.Context(), name, 1, nil))
			b.log.AppendTo(name, 0, "old")
		}
		b.mustDeploy(b.version("1", startLatest))
		_, err := b.runtime.Pause(t.Context(), "d")
		b.ok(err)
		_, err = b.runtime.catalog.Change(t.Context(), "d", func(before catalog.Deployment, _ bool, _ []deploy.Spec) (*deploy.Spec, error) {
			next := inState(before.Spec, deploy.Running)
			next.Starts = nil
			return next, nil
		})
		b.ok(err)
		b.close()
		b.ok(b.log.ForgetGroup(t.Context(), "d"))
		b.ok(b.log.SetOffsets(t.Context(), "d", map[engine.TopicPartition]int64{{Topic: "in"}: 1}))
		b.feed("a")
		b.open()
		synctest.Wait()
		b.wantValues("out", "a1")
		b.mustDeploy(b.version("2", startLatest, func(s *deploy.Spec) { s.Inputs = []string{"in", "more"} }))
		b.log.AppendTo("more", 0, "c")
		b.feed("b")
		b.wantAmong("out", "a1", "b2", "c2")
		b.close()
	})
}
