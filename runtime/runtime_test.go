package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/runtime/catalog"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/runtime/module"
	"github.com/millstream-io/millstream/runtime/worker"
	"github.com/millstream-io/millstream/runtime/worker/workertest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// toyCompiler compiles modules whose text begins with "wasm"; guests of "wasm refuse"
// do not take their configuration, those of "wasm slow" take slowCall for a record, those of "wasm TEXT" put TEXT behind each value, those of "wasm" put it in upper case.
type toyCompiler struct {
	manifest *module.Manifest
	open     atomic.Int64
	misused  atomic.Int64                            // programs closed while guests of theirs were at work
	compiled atomic.Pointer[func(wasm string) error] // called before each compilation, if set
	started  atomic.Pointer[func(wasm string) error] // called at the start of each guest, if set
}

const slowCall = time.Minute

type toyProgram struct {
	*workertest.Program
	compiler *toyCompiler
	report   module.Report
}

func (c *toyCompiler) Compile(_ context.Context, wasm []byte, _ host.Limits) (program, error) {
	if !bytes.HasPrefix(wasm, []byte("wasm")) && !bytes.HasPrefix(wasm, []byte("\x00asm")) {
		return nil, &module.Refusal{Reason: "not a Wasm module", Position: 0, Fix: "build it with millstream build"}
	}
	if f := c.compiled.Load(); f != nil {
		if err := (*f)(string(wasm)); err != nil {
			return nil, err
		}
	}
	p := &toyProgram{Program: &workertest.Program{Func: workertest.Upper}, compiler: c}
	if tag, ok := bytes.CutPrefix(wasm, []byte("wasm ")); ok {
		p.Func = func(c *workertest.Call) error {
			c.Emit(0, slices.Concat(c.Record.Value, tag))
			return nil
		}
	}
	if string(wasm) == "wasm slow" {
		p.Func = func(*workertest.Call) error { time.Sleep(slowCall); return nil }
	}
	if string(wasm) == "wasm refuse" {
		p.Start = func(host.Setup) error { return &host.SetupError{Message: "no"} }
	}
	if f := c.started.Load(); f != nil {
		p.Start = func(host.Setup) error { return (*f)(string(wasm)) }
	}
	p.report = module.Report{Digest: module.DigestOf(wasm), SizeBytes: len(wasm), Manifest: c.manifest}
	c.open.Add(1)
	return p, nil
}

func (p *toyProgram) Report() *module.Report { return &p.report }

func (p *toyProgram) Close(context.Context) error {
	if p.Open.Load() != 0 {
		p.compiler.misused.Add(1)
	}
	p.compiler.open.Add(-1)
	return nil
}

// bench is a runtime over a log in memory.
type bench struct {
	t        *testing.T
	log      *workertest.Log
	compiler *toyCompiler
	registry *prometheus.Registry
	runtime  *Runtime
	logger   *slog.Logger // nil: nobody reads it
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, log: workertest.NewLog(), compiler: &toyCompiler{}}
	b.open()
	return b
}

func (b *bench) open() {
	b.t.Helper()
	b.registry = prometheus.NewRegistry()
	r, err := open(b.t.Context(), Options{Engine: b.log, Logger: b.logger, Metrics: b.registry}, b.compiler)
	b.ok(err)
	b.runtime = r
}

func (b *bench) close() {
	b.t.Helper()
	b.ok(b.runtime.Close(context.Background()))
	b.checkPrograms()
}

// onCompile calls f before each compilation; nil ends that.
func (b *bench) onCompile(f func(wasm string) error) {
	if f == nil {
		b.compiler.compiled.Store(nil)
		return
	}
	b.compiler.compiled.Store(&f)
}

func (b *bench) checkPrograms() {
	b.t.Helper()
	if n := b.compiler.open.Load(); n != 0 {
		b.t.Errorf("%d programs are not closed", n)
	}
	if n := b.compiler.misused.Load(); n != 0 {
		b.t.Errorf("%d programs were closed too early", n)
	}
}

func (b *bench) ok(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) put(wasm string) string {
	b.t.Helper()
	report, err := b.runtime.PutModule(b.t.Context(), []byte(wasm))
	b.ok(err)
	return report.Digest.String()
}

func (b *bench) spec(name, from, to string) deploy.Spec {
	return deploy.Spec{Name: name, Module: b.put("wasm"), Inputs: []string{from}, Outputs: []deploy.Output{{Topic: to}}, Start: "earliest"}
}

func (b *bench) deploy(name, from, to string) Status {
	b.t.Helper()
	s, err := b.runtime.Deploy(b.t.Context(), b.spec(name, from, to), DeployOptions{CreateTopics: true, Partitions: 2})
	b.ok(err)
	return s
}

func (b *bench) status(name string) Status {
	b.t.Helper()
	s, err := b.runtime.Status(b.t.Context(), name)
	b.ok(err)
	return s
}

func (b *bench) values(topic string) []string {
	var list []string
	for _, r := range b.log.Records(topic) {
		list = append(list, string(r.Value))
	}
	return list
}

func (b *bench) wantValues(topic string, want ...string) {
	b.t.Helper()
	if got := b.values(topic); !slices.Equal(got, want) {
		b.t.Errorf("%s has %q, want %q", topic, got, want)
	}
}

func TestADeploymentRunsAndSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		s := b.deploy("up", "in", "out")
		if s.Phase != worker.PhaseRunning || s.Spec.Version != 1 || len(s.Partitions) != 2 {
			t.Errorf("status is %+v", s)
		}
		b.log.AppendTo("in", 0, "one")
		synctest.Wait()
		b.close()
		b.log.AppendTo("in", 0, "two")
		b.open()
		synctest.Wait()
		b.wantValues("out", "ONE", "TWO")
		if s := b.status("up"); s.Phase != worker.PhaseRunning || s.Records != 1 || s.Spec.Created.IsZero() {
			t.Errorf("status after the restart is %+v", s)
		}
		if b.log.Configs("up.dlq") == nil {
			t.Error("the dead letter topic was not created")
		}
		b.close()
	})
}

// TestPausedDeploymentsKeepTheirPlace: brokers forget the offsets of groups without members.
func TestPausedDeploymentsKeepTheirPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.deploy("up", "in", "out")
		synctest.Wait()
		before := b.log.Kept("up")
		time.Sleep(25 * time.Hour)
		if kept := b.log.Kept("up") - before; kept != 4 {
			t.Errorf("kept %d times in a day, want 4", kept)
		}
		b.close()
		before = b.log.Kept("up")
		b.open()
		synctest.Wait()
		if b.log.Kept("up") == before {
			t.Error("not kept at the start: the process may have been away for long")
		}
		b.close()
	})
}

func TestPauseAndResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.deploy("up", "in", "out")
		s, err := b.runtime.Pause(t.Context(), "up")
		b.ok(err)
		if s.Phase != PhasePaused || s.Spec.State != deploy.Paused || s.Spec.Version != 1 || b.log.MemberCount("up") != 0 {
			t.Errorf("paused: %+v", s)
		}
		b.log.AppendTo("in", 0, "one", "two")
		synctest.Wait()
		b.wantValues("out")
		if s := b.status("up"); s.Partitions[engine.TopicPartition{Topic: "in"}].Lag(s.Spec) != 2 {
			t.Errorf("partitions while paused: %+v", s.Partitions)
		}
		b.close()
		b.open() // a paused deployment stays so
		synctest.Wait()
		if s := b.status("up"); s.Phase != PhasePaused {
			t.Errorf("after a restart: %+v", s)
		}
		s, err = b.runtime.Resume(t.Context(), "up")
		b.ok(err)
		if s.Phase != worker.PhaseRunning || s.Spec.Version != 1 {
			t.Errorf("resumed: %+v", s)
		}
		if again, err := b.runtime.Resume(t.Context(), "up"); err != nil || again.Spec.Version != 1 {
			t.Errorf("resumed twice: %+v, %v", again.Spec, err)
		}
		synctest.Wait()
		b.wantValues("out", "ONE", "TWO")
		b.close()
	})
}

func TestUndeployForgetsEverythingButTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.deploy("up", "in", "out")
		b.log.AppendTo("in", 0, "one")
		synctest.Wait()
		b.ok(b.runtime.Undeploy(t.Context(), "up"))
		if _, err := b.runtime.Status(t.Context(), "up"); !errors.Is(err, deploy.ErrNotFound) {
			t.Errorf("status: %v", err)
		}
		if at := b.log.Committed("up", "in", 0); at != -1 {
			t.Errorf("the group still has the offset %d", at)
		}
		if err := b.runtime.Undeploy(t.Context(), "up"); !errors.Is(err, deploy.ErrNotFound) {
			t.Errorf("deleted twice: %v", err)
		}
		b.deploy("up", "in", "out") // the name is free, and earliest means from the start again
		synctest.Wait()
		b.wantValues("out", "ONE", "ONE")
		b.close()
	})
}

func TestWhatDeployRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.deploy("up", "in", "out")
		refuse := b.put("wasm refuse")
		for name, c := range map[string]struct {
			change func(*deploy.Spec)
			is     error
			text   string
		}{
			"bad name":          {func(s *deploy.Spec) { s.Name = "a b" }, deploy.ErrInvalid, "position 1"},
			"unknown module":    {func(s *deploy.Spec) { s.Module = module.DigestOf([]byte("other")).String() }, catalog.ErrNotFound, "upload it"},
			"unknown asset":     {func(s *deploy.Spec) { s.Assets = map[string]string{"a": module.DigestOf([]byte("other")).String()} }, catalog.ErrNotFound, `asset "a"`},
			"missing topics":    {func(s *deploy.Spec) { s.Outputs[0].Topic = "nowhere" }, deploy.ErrMissingTopics, "nowhere; deploy with --create-topics"},
			"cycle":             {func(s *deploy.Spec) { s.Inputs, s.Outputs[0].Topic = []string{"out"}, "in" }, deploy.ErrCycle, "new → in → up → out → new"},
			"module that fails": {func(s *deploy.Spec) { s.Module = refuse }, nil, "the module refuses its configuration: no"},
		} {
			s := b.spec("new", "in", "out")
			s.Outputs[0].Topic = "out"
			c.change(&s)
			_, err := b.runtime.Deploy(t.Context(), s, DeployOptions{})
			if err == nil || (c.is != nil && !errors.Is(err, c.is)) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%s: error is %v", name, err)
			}
		}
		list, err := b.runtime.List(t.Context())
		b.ok(err)
		if len(list) != 1 || list[0].Spec.Name != "up" {
			t.Errorf("what is refused is still there: %+v", list)
		}
		s := b.spec("new", "in", "made.for.nothing")
		s.Module = refuse
		if _, err := b.runtime.Deploy(t.Context(), s, DeployOptions{CreateTopics: true}); err == nil {
			t.Error("a module that refuses its configuration was deployed")
		}
		left, err := b.log.Topics(t.Context(), []string{"new.dlq", "made.for.nothing"})
		b.ok(err)
		if len(left) > 0 {
			t.Errorf("what is refused left topics behind: %v", left)
		}
		if _, err := b.runtime.PutModule(t.Context(), []byte("text")); !errors.Is(err, module.ErrRefused) {
			t.Errorf("a module that is none: %v", err)
		}
		b.close()
	})
}

func TestAFailedDeploymentKeepsNobodyFromRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.deploy("good", "in", "out")
		b.deploy("bad", "in", "out2")
		b.close()
		// The module of one deployment is replaced by one that is not in the catalog, another cannot be read.
		record := func(name, value string) engine.Record {
			return engine.Record{Key: []byte("deployment/" + name), Value: []byte(value)}
		}
		b.ok(b.log.Append(t.Context(), CatalogTopic, []engine.Record{
			record("bad", fmt.Sprintf(`{"format":1,"spec":{"name":"bad","module":%q,"inputs":["in"],"outputs":[{"name":"out","topic":"out2"}],"on_error":"skip","start":"earliest","state":"running"}}`, module.DigestOf([]byte("gone")))),
			record("ugly", "{"),
		}))
		b.log.AppendTo("in", 0, "one")
		b.open()
		synctest.Wait()
		b.wantValues("out", "ONE")
		list, err := b.runtime.List(t.Context())
		b.ok(err)
		for i, want := range []struct{ name, phase, reason string }{
			{"bad", worker.PhaseFailed, "upload it"},
			{"good", worker.PhaseRunning, ""},
			{"ugly", worker.PhaseFailed, "delete it and deploy it again"},
		} {
			if s := list[i]; s.Spec.Name != want.name || s.Phase != want.phase || !strings.Contains(s.Reason, want.reason) {
				t.Errorf("status %d is %s %s: %s; want %+v", i, s.Spec.Name, s.Phase, s.Reason, want)
			}
		}
		if _, err := b.runtime.Resume(t.Context(), "ugly"); err == nil {
			t.Error("a deployment that cannot be read was resumed")
		}
		b.ok(b.runtime.Undeploy(t.Context(), "ugly"))
		b.close()
	})
}

func TestAGroupOfSomebodyElseIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.ok(b.log.EnsureTopic(t.Context(), "in", 1, nil))
		other, err := b.log.Join(t.Context(), engine.Group{Name: "up", Inputs: []string{"in"}})
		b.ok(err)
		b.ok(other.Leave(t.Context()))
		_, err = b.runtime.Deploy(t.Context(), b.spec("up", "in", "out"), DeployOptions{CreateTopics: true})
		if !errors.Is(err, deploy.ErrExists) || !strings.Contains(err.Error(), `consumer group "up"`) {
			t.Errorf("error is %v", err)
		}
		b.close()
	})
}

func TestADeletedInputTopicIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.deploy("up", "in", "out")
		b.log.DeleteTopic("in")
		synctest.Wait()
		if s := b.status("up"); s.Phase != worker.PhaseRetrying || !strings.Contains(s.Reason, `"in"`) {
			t.Errorf("status is %s: %s", s.Phase, s.Reason)
		}
		b.close()
	})
}

func TestAFullDiskRefusesADeploymentWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		s := b.spec("up", "in", "out")
		b.log.SetFault(func(op, topic string) error {
			if topic == CatalogTopic {
				return engine.ErrStorage
			}
			return nil
		})
		if _, err := b.runtime.Deploy(t.Context(), s, DeployOptions{CreateTopics: true}); !errors.Is(err, engine.ErrStorage) {
			t.Errorf("error is %v", err)
		}
		b.log.SetFault(nil)
		b.deploy("up", "in", "out")
		b.close()
	})
}

func TestDeploymentsOfOneNameAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.ok(b.log.EnsureTopic(t.Context(), "in", 1, nil))
		b.ok(b.log.EnsureTopic(t.Context(), "out", 1, nil))
		s := b.spec("up", "in", "out")
		results := make(chan error)
		for range 10 {
			go func() {
				_, err := b.runtime.Deploy(t.Context(), s, DeployOptions{New: true})
				results <- err
			}()
		}
		done := 0
		for range 10 {
			if err := <-results; err == nil {
				done++
			} else if !errors.Is(err, deploy.ErrExists) && !errors.Is(err, deploy.ErrConflict) {
				t.Error(err)
			}
		}
		if done != 1 {
			t.Errorf("%d of ten deployments of one name were taken", done)
		}
		b.close()
	})
}

func TestACloseEndsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.deploy("up", "in", "out")
		b.close()
		b.ok(b.runtime.Close(t.Context()))
		if _, err := b.runtime.Deploy(t.Context(), deploy.Spec{Name: "x", Module: b.put("wasm")}, DeployOptions{}); !errors.Is(err, deploy.ErrInvalid) && !errors.Is(err, ErrClosed) {
			t.Errorf("deploy: %v", err)
		}
		if _, err := b.runtime.Pause(t.Context(), "up"); !errors.Is(err, ErrClosed) {
			t.Errorf("pause: %v", err)
		}
	})
}

func TestLifecycleEventsAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.deploy("up", "in", "out")
		b.ok(b.runtime.Undeploy(t.Context(), "up"))
		time.Sleep(time.Second)
		got := strings.Join(b.values(LogsTopic), "\n")
		if !strings.Contains(got, `"message":"started"`) || !strings.Contains(got, `"message":"stopped"`) {
			t.Errorf("log lines are %s", got)
		}
		b.close()
	})
}

// TestMetricNames is the list of what dashboards are built on: names change with a line in the changelog.
func TestMetricNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.deploy("up", "in", "out")
		b.log.AppendTo("in", 0, "one")
		synctest.Wait()
		families, err := b.registry.Gather()
		b.ok(err)
		var names []string
		for _, f := range families {
			names = append(names, f.GetName())
		}
		want := []string{
			"millstream_deployment_bytes_in_total",
			"millstream_deployment_bytes_out_total",
			"millstream_deployment_call_duration_seconds",
			"millstream_deployment_commit_duration_seconds",
			"millstream_deployment_dead_letters_total",
			"millstream_deployment_event_latency_seconds",
			"millstream_deployment_failed_records_total",
			"millstream_deployment_fuel_total",
			"millstream_deployment_instance_restarts_total",
			"millstream_deployment_lag_records",
			"millstream_deployment_partition_lag_records",
			"millstream_deployment_partition_last_commit_timestamp_seconds",
			"millstream_deployment_partition_latency_seconds",
			"millstream_deployment_partition_records_in_total",
			"millstream_deployment_partition_records_out_total",
			"millstream_deployment_partitions",
			"millstream_deployment_phase",
			"millstream_deployment_processing_latency_seconds",
			"millstream_deployment_record_retries_total",
			"millstream_deployment_records_in_total",
			"millstream_deployment_records_out_total",
			"millstream_deployment_replacing_partitions",
			"millstream_deployment_retries_total",
			"millstream_deployment_skipped_records_total",
			"millstream_deployment_transactions_total",
			"millstream_deployment_traps_total",
		}
		if !slices.Equal(names, want) {
			t.Errorf("metrics are\n%s\nwant\n%s", strings.Join(names, "\n"), strings.Join(want, "\n"))
		}
		problems, err := testutil.GatherAndLint(b.registry)
		b.ok(err)
		for _, p := range problems {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
		b.ok(b.runtime.Undeploy(t.Context(), "up"))
		if n, err := testutil.GatherAndCount(b.registry); n != 0 || err != nil {
			t.Errorf("%d series are left of a deleted deployment (%v)", n, err)
		}
		b.close()
	})
}

func TestAModuleWithAManifest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.compiler.manifest = &module.Manifest{Name: "translate", Config: []module.ConfigKey{{Name: "to", Required: true}}, Outputs: []module.OutputPort{{Name: "es"}}}
		s := b.spec("up", "in", "out")
		if _, err := b.runtime.Deploy(t.Context(), s, DeployOptions{CreateTopics: true}); !errors.Is(err, deploy.ErrInvalid) || !strings.Contains(err.Error(), "--config to=VALUE") {
			t.Errorf("without its config: %v", err)
		}
		s.Config = map[string]string{"to": "es"}
		got, err := b.runtime.Deploy(t.Context(), s, DeployOptions{CreateTopics: true})
		b.ok(err)
		if got.Spec.Outputs[0].Name != "es" || got.Module.Manifest.Name != "translate" {
			t.Errorf("status is %+v", got)
		}
		b.close()
	})
}
