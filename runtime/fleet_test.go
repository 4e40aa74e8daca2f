package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/runtime/catalog"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/module"
	"github.com/millstream-io/millstream/runtime/worker"
	"github.com/prometheus/client_golang/prometheus"
)

// another opens one more runtime over the same log, as another process would.
func (b *bench) another() *bench {
	other := &bench{t: b.t, log: b.log, compiler: &toyCompiler{}}
	other.open()
	return other
}

// phases are those of a deployment in several processes; "" where there is none.
func phases(name string, processes ...*bench) []string {
	var list []string
	synctest.Wait()
	for _, p := range processes {
		s, err := p.runtime.Status(p.t.Context(), name)
		if errors.Is(err, deploy.ErrNotFound) {
			s.Phase = ""
		}
		list = append(list, s.Phase)
	}
	return list
}

func wantPhases(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("phases are %q, want %q", got, want)
	}
}

// TestProcessesShareDeployments: what one process stores, the others do.
func TestProcessesShareDeployments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newBench(t)
		b := a.another()
		a.deploy("d", "in", "out") // two partitions
		wantPhases(t, phases("d", a, b), worker.PhaseRunning, worker.PhaseRunning)
		if n := a.log.MemberCount("d"); n != 2 {
			t.Errorf("the group has %d members, want one of each process", n)
		}
		owned := 0
		for _, p := range b.status("d").Partitions {
			if p.Running {
				owned++
			}
			if p.Owner == "" {
				t.Errorf("partition %+v has no owner", p)
			}
		}
		if s := b.status("d"); owned != 1 || len(s.Members) != 2 {
			t.Errorf("this process has %d partitions, the group the members %+v", owned, s.Members)
		}
		a.log.AppendTo("in", 0, "x")
		a.log.AppendTo("in", 1, "y")
		synctest.Wait()
		if got := a.values("out"); len(got) != 2 {
			t.Errorf("out has %q", got)
		}

		// An upgrade swaps everywhere.
		inA, inB := a.worker("d"), b.worker("d")
		s := a.spec("d", "in", "out")
		s.Module = b.put("wasm 2") // put by the one, deployed by the other
		a.mustDeploy(s)
		synctest.Wait()
		if got := b.status("d"); got.Spec.Version != 2 || b.worker("d") != inB || a.worker("d") != inA {
			t.Errorf("the other process is at version %d, same workers: %v %v", got.Spec.Version, a.worker("d") == inA, b.worker("d") == inB)
		}
		a.log.AppendTo("in", 0, "x")
		a.log.AppendTo("in", 1, "y")
		synctest.Wait()
		if got := a.values("out"); len(got) != 4 || !slices.Contains(got, "x2") || !slices.Contains(got, "y2") {
			t.Errorf("out has %q", got)
		}

		// Pause, roll back, resume, and delete, each by another one.
		_, err := b.runtime.Pause(t.Context(), "d")
		b.ok(err)
		wantPhases(t, phases("d", a, b), PhasePaused, PhasePaused)
		_, err = a.runtime.Rollback(t.Context(), "d", 0, "")
		a.ok(err)
		_, err = b.runtime.Resume(t.Context(), "d")
		b.ok(err)
		wantPhases(t, phases("d", a, b), worker.PhaseRunning, worker.PhaseRunning)
		if s := a.status("d"); s.Spec.Version != 3 {
			t.Errorf("version is %d", s.Spec.Version)
		}
		b.ok(b.runtime.Undeploy(t.Context(), "d"))
		wantPhases(t, phases("d", a, b), "", "")
		if at := a.log.Committed("d", "in", 0); at != -1 || a.log.MemberCount("d") != 0 {
			t.Errorf("the group is left with offset %d and %d members", at, a.log.MemberCount("d"))
		}

		// A process that comes later takes its part; one that goes leaves its part to the others.
		a.deploy("e", "in", "out")
		c := a.another()
		wantPhases(t, phases("e", a, b, c), worker.PhaseRunning, worker.PhaseRunning, worker.PhaseRunning)
		b.close()
		a.close()
		wantPhases(t, phases("e", c), worker.PhaseRunning)
		if n := c.log.MemberCount("e"); n != 1 {
			t.Errorf("the group has %d members", n)
		}
		c.close()
	})
}

// TestChangesAtTheSameTime: those of different deployments all survive; of one deployment, the
// one that was decided on an older state is refused.
func TestChangesAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newBench(t)
		b := a.another()
		a.ok(a.log.EnsureTopic(t.Context(), "in", 1, nil))
		processes := []*bench{a, b}
		var all sync.WaitGroup
		for i := range 20 {
			p := processes[i%2]
			s := p.spec(fmt.Sprint("d", i), "in", fmt.Sprint("out", i))
			all.Go(func() {
				if _, err := p.runtime.Deploy(t.Context(), s, DeployOptions{CreateTopics: true}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		synctest.Wait()
		for _, p := range processes {
			list, err := p.runtime.List(t.Context())
			p.ok(err)
			running := 0
			for _, s := range list {
				if s.Phase == worker.PhaseRunning && s.Spec.Version == 1 {
					running++
				}
			}
			if running != 20 {
				t.Errorf("%d of 20 deployments run", running)
			}
		}
		a.close()
		b.close()
	})
}

func TestConflicts(t *testing.T) {
	for name, c := range map[string]struct {
		deployed bool           // before
		rival    func(b *bench) // what the other process does in between
		text     string         // "" = both are taken
	}{
		"both make it": {rival: func(b *bench) { b.mustDeploy(b.version("rival")) },
			text: "somebody else has deployed"},
		"both upgrade it": {deployed: true, rival: func(b *bench) { b.mustDeploy(b.version("rival", func(s *deploy.Spec) { s.By = "rival" })) },
			text: `was at version 1 when this began, and is at version 2 now, by rival`},
		"one deletes it": {deployed: true, rival: func(b *bench) { b.ok(b.runtime.catalog.Delete(b.t.Context(), "d", time.Time{}, nil)) },
			text: "somebody else has deleted"},
		"one pauses it": {deployed: true, rival: func(b *bench) {
			_, err := b.runtime.Pause(b.t.Context(), "d")
			b.ok(err)
		}},
		"the other makes a circle": {rival: func(b *bench) {
			s := b.spec("back", "out", "in")
			_, err := b.runtime.Deploy(b.t.Context(), s, DeployOptions{CreateTopics: true})
			b.ok(err)
		}, text: "d → out → back → in → d"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newBench(t)
				b := a.another()
				if c.deployed {
					a.mustDeploy(a.version("1"))
					synctest.Wait()
				}
				s := a.version("mine")
				compiled := 0
				a.onCompile(func(wasm string) error {
					// The first compilation is for the manifest; the second one proves what was decided on.
					if compiled++; wasm == "wasm mine" && compiled == 2 {
						c.rival(b)
					}
					return nil
				})
				got, err := a.runtime.Deploy(t.Context(), s, DeployOptions{CreateTopics: true})
				a.onCompile(nil)
				switch {
				case c.text == "" && (err != nil || got.Phase != PhasePaused || got.Spec.Version != 2):
					t.Errorf("status is %+v, %v", got, err)
				case c.text != "" && (err == nil || !strings.Contains(err.Error(), c.text)):
					t.Errorf("error is %v, want %q", err, c.text)
				case c.text != "" && !errors.Is(err, deploy.ErrConflict) && !errors.Is(err, deploy.ErrCycle):
					t.Errorf("error is %v, want a conflict", err)
				}
				synctest.Wait()
				if one, other := fmt.Sprint(specs(a)), fmt.Sprint(specs(b)); one != other {
					t.Errorf("the processes differ:\n%s\n%s", one, other)
				}
				a.close()
				b.close()
			})
		})
	}
}

func specs(b *bench) []string {
	list, err := b.runtime.List(b.t.Context())
	b.ok(err)
	var out []string
	for _, s := range list {
		out = append(out, fmt.Sprint(s.Spec.Name, s.Spec.Version, s.Spec.Module, s.Phase))
	}
	return out
}

// TestAProcessThatCannotRunAVersion says so, and leaves the partitions to those that can.
func TestAProcessThatCannotRunAVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newBench(t)
		b := a.another()
		a.mustDeploy(a.version("1"))
		synctest.Wait()
		b.onCompile(func(wasm string) error {
			if wasm == "wasm 2" {
				return &module.Refusal{Reason: "not here"}
			}
			return nil
		})
		a.mustDeploy(a.version("2"))
		wantPhases(t, phases("d", a, b), worker.PhaseRunning, worker.PhaseFailed)
		a.feed("x")
		a.wantValues("out", "x2")
		// The next version is for all.
		a.mustDeploy(a.version("3"))
		wantPhases(t, phases("d", a, b), worker.PhaseRunning, worker.PhaseRunning)
		a.close()
		b.close()
	})
}

// TestModulesThatComeLater: a deployment whose module is damaged or missing starts by itself when the bytes are there.
func TestModulesThatComeLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newBench(t)
		a.mustDeploy(a.version("1"))
		a.close()
		digest := module.DigestOf([]byte("wasm 1"))
		a.ok(a.log.Append(t.Context(), CatalogTopic, []engine.Record{{Key: []byte("module/" + digest.String() + "/0"), Value: []byte("damage")}}))
		a.open()
		b := a.another()
		wantPhases(t, phases("d", a, b), worker.PhaseFailed, worker.PhaseFailed)
		b.put("wasm 1")
		wantPhases(t, phases("d", a, b), worker.PhaseRunning, worker.PhaseRunning)
		a.close()
		b.close()
	})
}

// TestARecordThatCannotBeRead ends that deployment where it is followed, and no other.
func TestARecordThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newBench(t)
		a.deploy("d", "in", "out")
		a.deploy("e", "in", "out")
		a.ok(a.log.Append(t.Context(), CatalogTopic, []engine.Record{{Key: []byte("deployment/d"), Value: []byte(`{"format":9}`)}}))
		wantPhases(t, append(phases("d", a), phases("e", a)...), worker.PhaseFailed, worker.PhaseRunning)
		for what, try := range map[string]func() error{
			"deploy": func() error {
				_, err := a.runtime.Deploy(t.Context(), a.spec("d", "in", "out"), DeployOptions{})
				return err
			},
			"resume":   func() error { _, err := a.runtime.Resume(t.Context(), "d"); return err },
			"rollback": func() error { _, err := a.runtime.Rollback(t.Context(), "d", 0, ""); return err },
		} {
			if err := try(); !errors.Is(err, catalog.ErrFormat) || !strings.Contains(err.Error(), "delete it and deploy it again") {
				t.Errorf("%s: %v", what, err)
			}
		}
		a.ok(a.runtime.Undeploy(t.Context(), "d"))
		a.deploy("d", "in", "out")
		a.close()
	})
}

// followless is an engine whose Follow fails now and then, having lost what was in between.
type followless struct {
	engine.Engine
	mu   sync.Mutex
	stop context.CancelFunc
}

func (f *followless) Follow(ctx context.Context, topic string, from engine.Positions, do func(int32, engine.Record) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f.mu.Lock()
	f.stop = cancel
	f.mu.Unlock()
	return f.Engine.Follow(ctx, topic, from, do)
}

// TestALogThatIsAwayForAWhile: afterwards everything is read again.
func TestALogThatIsAwayForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newBench(t)
		a.deploy("d", "in", "out")
		away := &followless{Engine: a.log}
		b := &bench{t: t, log: a.log, compiler: &toyCompiler{}, registry: prometheus.NewRegistry()}
		r, err := open(t.Context(), Options{Engine: away, Logger: slog.New(slog.DiscardHandler)}, b.compiler)
		a.ok(err)
		b.runtime = r
		wantPhases(t, phases("d", a, b), worker.PhaseRunning, worker.PhaseRunning)
		away.stop()
		a.ok(a.runtime.Undeploy(t.Context(), "d"))
		a.deploy("e", "in", "out")
		time.Sleep(time.Minute)
		wantPhases(t, append(phases("d", b), phases("e", b)...), "", worker.PhaseRunning)
		a.close()
		b.close()
	})
}

// TestDeploymentsThatWaitToStart are listed: nobody shall think that they are gone.
func TestDeploymentsThatWaitToStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newBench(t)
		a.deploy("d", "in", "out")
		a.deploy("e", "in", "out")
		a.close()
		compile := make(chan struct{})
		a.onCompile(func(string) error { <-compile; return nil })
		a.open()
		for range 2 {
			list, err := a.runtime.List(t.Context())
			a.ok(err)
			if len(list) != 2 || list[0].Phase != worker.PhaseStarting || list[1].Spec.Version != 1 {
				t.Errorf("list is %+v", list)
			}
			synctest.Wait()
		}
		close(compile)
		wantPhases(t, append(phases("d", a), phases("e", a)...), worker.PhaseRunning, worker.PhaseRunning)
		a.close()
	})
}

// TestOnlyOneDeployment: a process for a single deployment knows of no other.
func TestOnlyOneDeployment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newBench(t)
		a.deploy("d", "in", "out")
		a.deploy("e", "in", "out")
		b := &bench{t: t, log: a.log, compiler: &toyCompiler{}}
		r, err := open(t.Context(), Options{Engine: a.log, Logger: slog.New(slog.DiscardHandler), Only: "d"}, b.compiler)
		a.ok(err)
		b.runtime = r
		a.deploy("f", "in", "out")
		wantPhases(t, append(phases("d", b), append(phases("e", b), phases("f", b)...)...), worker.PhaseRunning, "", "")
		list, err := r.List(t.Context())
		a.ok(err)
		if len(list) != 1 {
			t.Errorf("list is %+v", list)
		}
		if _, err := r.Deploy(t.Context(), b.spec("g", "in", "out"), DeployOptions{}); !errors.Is(err, deploy.ErrInvalid) {
			t.Errorf("another deployment here: %v", err)
		}
		a.ok(a.runtime.Undeploy(t.Context(), "d"))
		wantPhases(t, phases("d", b), "")
		a.close()
		b.close()
	})
}
