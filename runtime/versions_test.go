package runtime

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/runtime/catalog"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/module"
	"github.com/millstream-io/millstream/runtime/worker"
)

// version is a specification of deployment "d" from in to out, whose module puts tag behind each value.
func (b *bench) version(tag string, change ...func(*deploy.Spec)) deploy.Spec {
	b.t.Helper()
	s := b.spec("d", "in", "out")
	s.Module = b.put("wasm " + tag)
	for _, c := range change {
		c(&s)
	}
	return s
}

func (b *bench) mustDeploy(s deploy.Spec) Status {
	b.t.Helper()
	status, err := b.runtime.Deploy(b.t.Context(), s, DeployOptions{CreateTopics: true, Partitions: 1})
	b.ok(err)
	return status
}

// feed appends to topic in and waits until all is done that follows from it.
func (b *bench) feed(values ...string) {
	b.log.AppendTo("in", 0, values...)
	synctest.Wait()
}

// TestUpgrades: what goes from one version to the next, without a record lost, handled by both or handled twice.
func TestUpgrades(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*deploy.Spec)
		action string
		want   []string
	}{
		"module":   {func(*deploy.Spec) {}, ActionSwap, []string{"a1", "b1", "c2", "d2"}},
		"delivery": {func(s *deploy.Spec) { s.Delivery = deploy.DeliveryAtLeastOnce }, ActionRestart, []string{"a1", "b1", "c2", "d2"}},
		"inputs":   {func(s *deploy.Spec) { s.Inputs = []string{"in", "more"} }, ActionRestart, []string{"a1", "b1", "c2", "d2"}},
		"outputs":  {func(s *deploy.Spec) { s.Outputs[0].Topic = "out2" }, ActionSwap, []string{"a1", "b1"}},
		"policy":   {func(s *deploy.Spec) { s.OnError = deploy.OnErrorSkip }, ActionSwap, []string{"a1", "b1", "c2", "d2"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.mustDeploy(b.version("1"))
				b.feed("a", "b")
				before := b.worker("d")
				next := b.version("2", c.change)
				plan, err := b.runtime.Plan(t.Context(), next, DeployOptions{CreateTopics: true})
				b.ok(err)
				if plan.Action != c.action || plan.Before.Version != 1 || plan.After.Version != 2 || len(plan.Changes) == 0 {
					t.Errorf("plan is %+v", plan)
				}
				s := b.mustDeploy(next)
				if s.Spec.Version != 2 || s.Phase != worker.PhaseRunning || s.Replacing != 0 {
					t.Errorf("status is %+v", s)
				}
				if swapped := b.worker("d") == before; swapped != (c.action == ActionSwap) {
					t.Errorf("the worker is the same: %v", swapped)
				}
				b.feed("c", "d")
				b.wantValues("out", c.want...)
				b.close()
				b.open()
				b.feed("e")
				if s := b.status("d"); s.Spec.Version != 2 {
					t.Errorf("after a restart: %+v", s.Spec)
				}
				b.close()
			})
		})
	}
}

func (b *bench) worker(name string) *worker.Worker {
	b.t.Helper()
	d, err := b.runtime.lookup(name)
	b.ok(err)
	_, _, w, _ := d.snapshot()
	return w
}

// TestAVersionThatDoesNotStart leaves everything as it is, and says so.
func TestAVersionThatDoesNotStart(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*bench, *deploy.Spec)
		text   string
	}{
		"refuses its configuration": {func(b *bench, s *deploy.Spec) { s.Module = b.put("wasm refuse") }, "version 2 was not deployed, version 1 keeps running: "},
		"does not exist":            {func(_ *bench, s *deploy.Spec) { s.Module = module.DigestOf(nil).String() }, "upload it"},
		"writes to nowhere":         {func(_ *bench, s *deploy.Spec) { s.Outputs[0].Topic = "nowhere" }, "nowhere; deploy with --create-topics"},
		"reads what it writes":      {func(_ *bench, s *deploy.Spec) { s.Outputs[0].Topic = "in" }, "d → in → d"},
		"has a bad configuration":   {func(_ *bench, s *deploy.Spec) { s.Delivery = "twice" }, `delivery "twice" is unknown`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.mustDeploy(b.version("1"))
				next := b.version("2")
				c.change(b, &next)
				before := len(b.log.Records(CatalogTopic))
				for _, try := range []func() error{
					func() error { _, err := b.runtime.Plan(t.Context(), next, DeployOptions{}); return err },
					func() error { _, err := b.runtime.Deploy(t.Context(), next, DeployOptions{}); return err },
				} {
					if err := try(); err == nil || !strings.Contains(err.Error(), c.text) {
						t.Errorf("error is %v, want %q", err, c.text)
					}
				}
				if after := len(b.log.Records(CatalogTopic)); after != before {
					t.Errorf("%d records were stored", after-before)
				}
				b.feed("a")
				b.wantValues("out", "a1")
				if s := b.status("d"); s.Phase != worker.PhaseRunning || s.Spec.Version != 1 || s.Reason != "" {
					t.Errorf("status is %+v", s)
				}
				b.close()
			})
		})
	}
}

func TestTheSameAgainChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.mustDeploy(b.version("1"))
		before := len(b.log.Records(CatalogTopic))
		again := b.version("1")
		again.Start, again.By = "", "somebody else"
		if s := b.mustDeploy(again); !s.Unchanged || s.Spec.Version != 1 {
			t.Errorf("status is %+v", s)
		}
		if plan, err := b.runtime.Plan(t.Context(), again, DeployOptions{}); err != nil || plan.Action != ActionNothing || plan.After.Version != 1 {
			t.Errorf("plan is %+v, %v", plan, err)
		}
		if after := len(b.log.Records(CatalogTopic)); after != before {
			t.Errorf("%d records were stored", after-before)
		}
		if _, err := b.runtime.Deploy(t.Context(), again, DeployOptions{New: true}); !errors.Is(err, deploy.ErrExists) || !strings.Contains(err.Error(), `"d" is at version 1`) {
			t.Errorf("a new one of that name: %v", err)
		}
		b.close()
	})
}

// TestAPlanStoresNothing, not even the module it is about.
func TestAPlanStoresNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		report, err := b.runtime.TryModule(t.Context(), []byte("wasm 1"))
		b.ok(err)
		asset := b.runtime.TryAsset([]byte("hola"))
		s := deploy.Spec{
			Name: "d", Module: report.Digest.String(), Inputs: []string{"in"}, Outputs: []deploy.Output{{Topic: "out"}},
			Assets: map[string]string{"words": asset.String()},
		}
		plan, err := b.runtime.Plan(t.Context(), s, DeployOptions{CreateTopics: true})
		b.ok(err)
		if plan.Action != ActionCreate || !slices.Equal(plan.CreateTopics, []string{"in", "out"}) || plan.Before != nil {
			t.Errorf("plan is %+v", plan)
		}
		left, err := b.log.Topics(t.Context(), []string{"in", "out", "d.dlq"})
		b.ok(err)
		if n := len(b.log.Records(CatalogTopic)); n != 0 || len(left) != 0 || len(b.runtime.all()) != 0 {
			t.Errorf("the plan left %d records and the topics %v", n, left)
		}
		if _, err := b.runtime.Deploy(t.Context(), s, DeployOptions{CreateTopics: true}); !errors.Is(err, catalog.ErrNotFound) {
			t.Errorf("what was only tried was deployed: %v", err)
		}
		time.Sleep(2 * keepInterval)
		if _, ok := b.runtime.tried.get(asset); ok {
			t.Error("what was tried is kept for ever")
		}
		b.close()
	})
}

func TestHistoryAndRollback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		if _, err := b.runtime.History(t.Context(), "d"); !errors.Is(err, deploy.ErrNotFound) {
			t.Errorf("history of nothing: %v", err)
		}
		b.mustDeploy(b.version("1", func(s *deploy.Spec) { s.By = "ana" }))
		if _, err := b.runtime.Rollback(t.Context(), "d", 0, ""); !errors.Is(err, deploy.ErrNoVersion) {
			t.Errorf("rollback of the first version: %v", err)
		}
		b.feed("a")
		time.Sleep(time.Minute)
		b.mustDeploy(b.version("2", func(s *deploy.Spec) { s.By, s.OnError = "ben", deploy.OnErrorSkip }))
		b.feed("b")
		s, err := b.runtime.Rollback(t.Context(), "d", 0, "carl")
		b.ok(err)
		if s.Spec.Version != 3 || s.Spec.Rollback != 1 || s.Spec.By != "carl" || s.Spec.OnError != deploy.OnErrorDeadLetter {
			t.Errorf("rolled back to %+v", s.Spec)
		}
		b.feed("c")
		b.wantValues("out", "a1", "b2", "c1")
		for what, c := range map[string]struct {
			version int
			is      error
			text    string
		}{
			"one that never was":  {9, deploy.ErrNoVersion, "no version 9, the oldest that is kept is 1"},
			"the present version": {3, deploy.ErrConflict, "is at version 3"},
		} {
			if _, err := b.runtime.Rollback(t.Context(), "d", c.version, ""); !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("rollback to %s: %v", what, err)
			}
		}
		_, err = b.runtime.Pause(t.Context(), "d")
		b.ok(err)
		if s, err := b.runtime.Rollback(t.Context(), "d", 2, "ana"); err != nil || s.Phase != PhasePaused || s.Spec.Version != 4 {
			t.Errorf("rollback of a paused deployment: %+v, %v", s, err)
		}
		b.close()
		b.open()
		history, err := b.runtime.History(t.Context(), "d")
		b.ok(err)
		var got []string
		for _, v := range history {
			got = append(got, fmt.Sprint(v.Spec.Version, v.Spec.By, len(v.Changes), v.Spec.Rollback, v.Current))
		}
		if want := []string{"4ana2 2true", "3carl2 1false", "2ben2 0false", "1ana0 0false"}; !slices.Equal(squeeze(got), squeeze(want)) {
			t.Errorf("history is %q, want %q", got, want)
		}
		if first, second := history[3].Spec, history[2].Spec; second.DeployedAt().Sub(first.DeployedAt()) != time.Minute || !second.Created.Equal(first.Created) {
			t.Errorf("deployed at %v and %v", first.DeployedAt(), second.DeployedAt())
		}
		b.ok(b.runtime.Undeploy(t.Context(), "d"))
		b.mustDeploy(b.version("1"))
		if history, err := b.runtime.History(t.Context(), "d"); err != nil || len(history) != 1 || history[0].Spec.Version != 1 {
			t.Errorf("the history of a deleted deployment is its successor's: %+v, %v", history, err)
		}
		b.close()
	})
}

func squeeze(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = strings.ReplaceAll(s, " ", "")
	}
	return out
}

// TestPausedDeploymentsStayPaused when they get a new version; resume starts that one.
func TestPausedDeploymentsStayPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.mustDeploy(b.version("1"))
		_, err := b.runtime.Pause(t.Context(), "d")
		b.ok(err)
		if s := b.mustDeploy(b.version("2")); s.Phase != PhasePaused || s.Spec.Version != 2 || !strings.Contains(s.Reason, "millstream resume d") {
			t.Errorf("status is %+v", s)
		}
		b.feed("a")
		b.wantValues("out")
		_, err = b.runtime.Resume(t.Context(), "d")
		b.ok(err)
		synctest.Wait()
		b.wantValues("out", "a2")
		b.close()
	})
}

func TestReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.ok(b.log.EnsureTopic(t.Context(), "in", 2, nil))
		b.mustDeploy(b.version("1"))
		for i := range 5 {
			b.ok(b.log.Append(t.Context(), "in", []engine.Record{{Value: fmt.Append(nil, i), Timestamp: time.Now().Add(time.Duration(i-10) * time.Hour).UnixMilli()}}))
		}
		synctest.Wait()
		reset := func(to string, dryRun bool, partitions ...int32) ([]OffsetChange, error) {
			return b.runtime.Reset(t.Context(), "d", ResetOptions{To: to, Partitions: partitions, DryRun: dryRun})
		}
		if _, err := reset("earliest", false); !errors.Is(err, deploy.ErrActive) || !strings.Contains(err.Error(), "`millstream pause d`") {
			t.Errorf("a running deployment was reset: %v", err)
		}
		_, err := b.runtime.Pause(t.Context(), "d")
		b.ok(err)
		for _, c := range []struct {
			to         string
			partitions []int32
			want       map[int32]int64
		}{
			{"earliest", nil, map[int32]int64{0: 0, 1: 0}},
			{"latest", nil, map[int32]int64{0: 5, 1: 0}},
			{"3", []int32{0}, map[int32]int64{0: 3}},
			{"99", nil, map[int32]int64{0: 5, 1: 0}},
			{time.Now().Add(-8 * time.Hour).UTC().Format(time.RFC3339), []int32{0}, map[int32]int64{0: 2}},
			{"7h30m", []int32{0}, map[int32]int64{0: 3}},
		} {
			before := b.log.Committed("d", "in", 0)
			planned, err := reset(c.to, true, c.partitions...)
			b.ok(err)
			if now := b.log.Committed("d", "in", 0); now != before {
				t.Errorf("a dry run moved the offset from %d to %d", before, now)
			}
			done, err := reset(c.to, false, c.partitions...)
			b.ok(err)
			got := map[int32]int64{}
			for _, change := range done {
				got[change.Partition] = change.To
				if at := b.log.Committed("d", "in", change.Partition); at != change.To {
					t.Errorf("--to %s: partition %d is at %d, want %d", c.to, change.Partition, at, change.To)
				}
			}
			if !maps.Equal(got, c.want) || !slices.Equal(planned, done) {
				t.Errorf("--to %s: %v (planned %v), want %v", c.to, done, planned, c.want)
			}
		}
		for text, try := range map[string]func() ([]OffsetChange, error){
			"soon":         func() ([]OffsetChange, error) { return reset("soon", false) },
			"earliest":     func() ([]OffsetChange, error) { return reset("", false) },
			"partition 7":  func() ([]OffsetChange, error) { return reset("0", false, 7) },
			`"nosuch"`:     func() ([]OffsetChange, error) { return b.runtime.Reset(t.Context(), "nosuch", ResetOptions{To: "0"}) },
			"group descri": func() ([]OffsetChange, error) { b.join("d", "in"); return reset("0", false) },
		} {
			if _, err := try(); err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("error is %v, want %q", err, text)
			}
		}
		b.log.Expel("d")
		_, err = reset("4", false, 0)
		b.ok(err)
		_, err = b.runtime.Resume(t.Context(), "d")
		b.ok(err)
		synctest.Wait()
		b.wantValues("out", "01", "11", "21", "31", "41", "41")
		b.close()
	})
}

// join is a stranger in a group.
func (b *bench) join(group, input string) {
	b.t.Helper()
	_, err := b.log.Join(b.t.Context(), engine.Group{Name: group, Inputs: []string{input}})
	b.ok(err)
}

// TestABoundedRun ends by itself, stays ended, and is run again by resume, to a new end.
func TestABoundedRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.ok(b.log.EnsureTopic(t.Context(), "in", 1, nil))
		b.feed("a", "b")
		b.mustDeploy(b.version("1", func(s *deploy.Spec) { s.Until = "end" }))
		time.Sleep(10 * time.Second)
		b.feed("c")
		completed := func(want ...string) {
			t.Helper()
			s := b.status("d")
			if s.Phase != worker.PhaseCompleted || s.Spec.State != deploy.Completed || s.Spec.Version != 1 || !strings.Contains(s.Reason, "millstream resume d") {
				t.Errorf("status is %+v", s)
			}
			if n := b.log.MemberCount("d"); n != 0 {
				t.Errorf("%d members are left", n)
			}
			b.wantValues("out", want...)
		}
		completed("a1", "b1")
		b.close()
		b.open()
		time.Sleep(10 * time.Second)
		completed("a1", "b1")
		_, err := b.runtime.Resume(t.Context(), "d")
		b.ok(err)
		time.Sleep(10 * time.Second)
		completed("a1", "b1", "c1")
		if s := b.mustDeploy(b.version("2")); s.Phase != worker.PhaseRunning || s.Spec.Version != 2 {
			t.Errorf("a new version of a completed deployment, without end: %+v", s)
		}
		b.close()
	})
}

// TestAStoppedDeploymentSaysWhatToDo: the failure, and the commands that help.
func TestAStoppedDeploymentSaysWhatToDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.mustDeploy(b.version("1"))
		b.onCompile(func(string) error { return errors.New("the compiler is ill") })
		if _, err := b.runtime.Resume(t.Context(), "d"); err != nil {
			t.Errorf("resuming what runs compiles it: %v", err)
		}
		b.close()
		b.open()
		synctest.Wait()
		if s := b.status("d"); s.Phase != worker.PhaseFailed || !strings.Contains(s.Reason, "the compiler is ill (`millstream logs d`") {
			t.Errorf("status is %s: %s", s.Phase, s.Reason)
		}
		// What may go by itself is tried again.
		b.onCompile(nil)
		time.Sleep(2 * retryInterval)
		if s := b.status("d"); s.Phase != worker.PhaseRunning {
			t.Errorf("status is %s: %s", s.Phase, s.Reason)
		}
		b.close()
	})
}

// TestHints: a deployment that runs, and what still deserves a look.
func TestHints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		s := b.mustDeploy(b.version("1"))
		synctest.Wait()
		if s = b.status("d"); len(s.Hints) != 0 {
			t.Errorf("hints about nothing: %q", s.Hints)
		}
		d, err := b.runtime.lookup("d")
		b.ok(err)
		d.stats.DeadLetters.Add(3)
		d.stats.Traps.Add(1)
		b.log.Expel("d")
		hints := strings.Join(b.status("d").Hints, "\n")
		for _, want := range []string{"nobody works on 1 of 1 partition,", "failed and put into d.dlq: 3 records; `millstream dlq list d`", "stopped: 1; `millstream logs d"} {
			if !strings.Contains(hints, want) {
				t.Errorf("hints have no %q: %s", want, hints)
			}
		}
		b.close()
	})
}

// TestRates are of the last seconds, of what is committed.
func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.mustDeploy(b.version("1"))
		time.Sleep(time.Second / 2) // beside the moments when samples are taken
		for range 60 {
			time.Sleep(time.Second)
			b.feed("a", "b", "c")
		}
		p := b.status("d").Partitions[engine.TopicPartition{Topic: "in"}]
		if p.Rate < 2.7 || p.Rate > 3.3 || p.Worker.Records != 180 || p.Owner == "" {
			t.Errorf("partition is %+v, want a rate of about 3", p)
		}
		b.close()
	})
}
