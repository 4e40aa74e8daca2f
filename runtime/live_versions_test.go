package runtime_test

import (
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker/vfs"
	"github.com/millstream-io/millstream/runtime"
	"github.com/millstream-io/millstream/runtime/catalog"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/engine/embedded"
	"github.com/millstream-io/millstream/runtime/worker"
)

// await asks a runtime for the status of a deployment until it is as expected.
func (l *live) await(r *runtime.Runtime, name string, expected func(runtime.Status) bool) {
	l.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		status, err := r.Status(l.t.Context(), name)
		l.ok(err)
		if expected(status) {
			return
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("status is %+v", status)
		}
	}
}

// TestLiveUpgradesInMidStream: two runtimes share a deployment that gets new versions, rollbacks and
// restarts while records come: each of them has one output, in order.
func TestLiveUpgradesInMidStream(t *testing.T) {
	l := openLive(t, vfs.NewMem())
	l.deploy("d", "identity", []string{"in"}, "out", nil)
	second, err := runtime.Open(t.Context(), runtime.Options{Engine: l.engine, Host: l.host, Logger: slog.New(slog.DiscardHandler)})
	l.ok(err)
	total, enough := 0, make(chan struct{})
	var producing sync.WaitGroup
	producing.Go(func() {
		for {
			values := make([]string, 10)
			for j := range values {
				values[j] = fmt.Sprint("r", total+j)
			}
			l.produce("in", values...)
			total += len(values)
			select {
			case <-enough:
				return
			default:
			}
		}
	})
	deploys := []func(){
		func() { l.deploy("d", "words", []string{"in"}, "out", nil) },
		func() {
			_, err := second.Rollback(t.Context(), "d", 0, "")
			l.ok(err)
		},
		func() {
			l.deploy("d", "words", []string{"in"}, "out", func(s *deploy.Spec) { s.Limits.FuelPerRecord = 1_000_000 })
		},
		func() {
			_, err := second.Pause(t.Context(), "d")
			l.ok(err)
			_, err = l.runtime.Resume(t.Context(), "d")
			l.ok(err)
		},
		func() { l.deploy("d", "identity", []string{"in", "in2"}, "out", nil) },
		func() { l.deploy("d", "identity", []string{"in"}, "out", nil) },
	}
	for _, change := range deploys {
		change()
	}
	close(enough)
	producing.Wait()
	for i, r := range l.consume("out", total) {
		if want := fmt.Sprint("r", i); string(r.Value) != want {
			t.Fatalf("output %d is %s, want %s", i, r.Value, want)
		}
	}
	l.produce("in", "last")
	if got := l.consume("out", total+1); string(got[total].Value) != "last" {
		t.Errorf("behind them comes %s", got[total].Value)
	}
	l.await(second, "d", func(s runtime.Status) bool {
		return s.Spec.Version == 6 && s.Phase == worker.PhaseRunning && len(s.Members) == 2
	})
	l.ok(second.Close(t.Context()))
	l.close()
}

// TestLiveBoundedRun: it ends by itself at the end of what was there, and what is deployed over it goes on there.
func TestLiveBoundedRun(t *testing.T) {
	l := openLive(t, vfs.NewMem())
	l.ok(l.engine.EnsureTopic(t.Context(), "in", 2, nil))
	l.produce("in", "a", "b")
	l.deploy("d", "identity", []string{"in"}, "out", func(s *deploy.Spec) { s.Until = "end" })
	l.await(l.runtime, "d", func(s runtime.Status) bool {
		return s.Spec.State == deploy.Completed && s.Phase == worker.PhaseCompleted
	})
	l.produce("in", "c")
	l.wantValues("out", "a", "b")
	l.deploy("d", "identity", []string{"in"}, "out", nil)
	l.wantValues("out", "a", "b", "c")
	l.close()
}

// TestLiveWritersOfOneCatalog: two engines over one broker are two processes to it, whose updates fence
// each other. No change is lost: of each deployment there are as many versions as changes were taken.
func TestLiveWritersOfOneCatalog(t *testing.T) {
	l := openLive(t, vfs.NewMem())
	logger := slog.New(slog.DiscardHandler)
	engines := []engine.Engine{l.engine, embedded.New(l.broker.Topics(), l.broker.Groups(), l.broker.Transactions(), embedded.Options{Logger: logger})}
	var writers sync.WaitGroup
	for w := range 4 {
		c, err := catalog.Open(t.Context(), engines[w%2], runtime.CatalogTopic)
		l.ok(err)
		m, err := c.PutBlob(t.Context(), catalog.Module, []byte("m"))
		l.ok(err)
		writers.Go(func() {
			for i := range 20 {
				name := fmt.Sprint("shared", i%2)
				if i >= 10 {
					name = fmt.Sprint("own", w)
				}
				_, err := c.Change(t.Context(), name, func(before catalog.Deployment, _ bool, _ []deploy.Spec) (*deploy.Spec, error) {
					next := before.Spec
					next.Name, next.Module, next.State, next.Inputs = name, m.String(), deploy.Paused, []string{"in"}
					next.OnError, next.Start = deploy.OnErrorSkip, "latest"
					next.Version++
					return &next, nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	fresh, err := catalog.Open(t.Context(), l.engine, runtime.CatalogTopic)
	l.ok(err)
	got := map[string]int{}
	for _, d := range fresh.Deployments() {
		got[d.Spec.Name] = d.Spec.Version
	}
	want := map[string]int{"shared0": 20, "shared1": 20, "own0": 10, "own1": 10, "own2": 10, "own3": 10}
	if !maps.Equal(got, want) {
		t.Errorf("versions are %v, want %v", got, want)
	}
	if n := len(fresh.Versions("shared0")); n != catalog.KeptVersions {
		t.Errorf("%d replaced versions are kept, want %d", n, catalog.KeptVersions)
	}
	l.close()
}
