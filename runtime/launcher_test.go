package runtime

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/runtime/module"
	"github.com/millstream-io/millstream/runtime/worker"
	"github.com/millstream-io/millstream/runtime/worker/workertest"
)

// openWith opens the runtime with a launcher, or without one.
func (b *bench) openWith(l Launcher) {
	b.t.Helper()
	r, err := open(b.t.Context(), Options{Engine: b.log, Launcher: l}, b.compiler)
	b.ok(err)
	b.runtime = r
}

// fakeLauncher notes what it is asked.
type fakeLauncher struct {
	calls   []string
	running map[string]bool
	refuse  error
	version int
	tell    func(name, event string)
}

// Watch implements Launcher.
func (l *fakeLauncher) Watch(f func(name, event string)) { l.tell = f }

// Prove implements Launcher.
func (l *fakeLauncher) Prove(_ context.Context, p Proof) error {
	l.calls = append(l.calls, "prove "+string(p.Wasm))
	return l.refuse
}

// Start implements Launcher.
func (l *fakeLauncher) Start(name string) {
	l.calls = append(l.calls, "start "+name)
	l.running[name] = true
}

// Stop implements Launcher.
func (l *fakeLauncher) Stop(_ context.Context, name string) error {
	if l.running[name] {
		l.calls = append(l.calls, "stop "+name)
	}
	delete(l.running, name)
	return nil
}

// Status implements Launcher.
func (l *fakeLauncher) Status(string) Launched {
	in := engine.TopicPartition{Topic: "in"}
	return Launched{Phase: worker.PhaseRunning, Version: l.version, Replacing: 1, Owned: map[engine.TopicPartition]PartitionStatus{
		in: {Running: true, Rate: 2.5, Worker: &worker.PartitionSnapshot{TopicPartition: in, Latency: time.Second}},
	}}
}

// TestALauncherRunsTheDeployments: this process proves through it, stores, and starts and stops, and runs no guest.
func TestALauncherRunsTheDeployments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t, log: workertest.NewLog(), compiler: &toyCompiler{}}
		l := &fakeLauncher{running: map[string]bool{}, version: 1}
		b.openWith(l)
		r := b.runtime
		called := func(want ...string) {
			t.Helper()
			synctest.Wait()
			if !slices.Equal(l.calls, want) {
				t.Errorf("calls are %q, want %q", l.calls, want)
			}
			l.calls = nil
		}
		s := b.mustDeploy(b.version("1"))
		if p := s.Partitions[engine.TopicPartition{Topic: "in"}]; s.Phase != worker.PhaseRunning || s.Replacing != 1 || !p.Running || p.Rate != 2.5 || p.Worker.Latency != time.Second || p.Begins != 0 {
			t.Errorf("status is %+v", s)
		}
		called("prove wasm 1", "start d")
		l.version = 2
		b.mustDeploy(b.version("2"))
		called("prove wasm 2", "start d")
		l.refuse = &host.SetupError{Message: "no"}
		if _, err := r.Deploy(t.Context(), b.version("3"), DeployOptions{}); err == nil || !strings.Contains(err.Error(), "version 2 keeps running") {
			t.Errorf("error is %v", err)
		}
		called("prove wasm 3")
		_, err := r.Pause(t.Context(), "d")
		b.ok(err)
		called("stop d")
		l.refuse = nil
		_, err = r.Resume(t.Context(), "d")
		b.ok(err)
		called("prove wasm 2", "start d")
		b.ok(r.Undeploy(t.Context(), "d"))
		called("stop d")
		b.close()
	})
}

// TestALauncherTellsOfProcesses: what becomes of them is in the log of the deployment.
func TestALauncherTellsOfProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t, log: workertest.NewLog(), compiler: &toyCompiler{}}
		l := &fakeLauncher{running: map[string]bool{}, version: 1}
		b.openWith(l)
		b.mustDeploy(b.version("1"))
		l.tell("d", "its process ended and is started again: signal: killed")
		b.close()
		found := false
		for _, r := range b.log.Records(LogsTopic) {
			var line worker.LogLine
			b.ok(json.Unmarshal(r.Value, &line))
			found = found || line.Deployment == "d" && line.Event && line.Level == "ERROR" && strings.Contains(line.Message, "signal: killed")
		}
		if !found {
			t.Error("the log does not tell")
		}
	})
}

// TestModulesAreKnownByTheirBytes: after a restart the module's manifest is told, although this process compiles nothing:
// it has a launcher, or the deployment rests.
func TestModulesAreKnownByTheirBytes(t *testing.T) {
	for name, c := range map[string]struct {
		launcher Launcher
		rests    bool
	}{
		"with a launcher": {&fakeLauncher{running: map[string]bool{}, version: 1}, false},
		"paused":          {nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				wasm, err := module.WithManifest([]byte("\x00asm\x01\x00\x00\x00"), &module.Manifest{Name: "shouter"})
				b := &bench{t: t, log: workertest.NewLog(), compiler: &toyCompiler{}}
				b.ok(err)
				b.openWith(c.launcher)
				s := b.spec("d", "in", "out")
				s.Module = b.put(string(wasm))
				b.mustDeploy(s)
				if c.rests {
					_, err := b.runtime.Pause(t.Context(), "d")
					b.ok(err)
				}
				b.close()
				none := func(string) error { t.Error("a module was compiled"); return nil }
				b.onCompile(none)
				b.openWith(c.launcher)
				synctest.Wait()
				if m := b.status("d").Module; m == nil || m.Manifest == nil || m.Manifest.Name != "shouter" || m.SizeBytes != len(wasm) || m.Digest != module.DigestOf(wasm) {
					t.Errorf("module is %+v", m)
				}
				b.close()
			})
		})
	}
}
