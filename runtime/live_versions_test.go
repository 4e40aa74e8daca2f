package runtime_test

import (
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker/vfs"
	"github.com/millstream-io/millstream/runtime"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/worker"
)

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
	status, err := second.Status(t.Context(), "d")
	l.ok(err)
	if status.Spec.Version != 6 || status.Phase != worker.PhaseRunning || len(status.Members) != 2 {
		t.Errorf("status is %+v", status)
	}
	l.ok(second.Close(t.Context()))
	l.close()
}

// TestLiveBoundedRun: it ends by itself at the end of what was there, and what is deployed over it goes on there.
func TestLiveBoundedRun(t *testing.T) {
	l := openLive(t, vfs.NewMem())
	l.ok(l.engine.EnsureTopic(t.Context(), "in", 2, nil))
	l.produce("in", "a", "b")
	l.deploy("d", "identity", []string{"in"}, "out", func(s *deploy.Spec) { s.Until = "end" })
	for deadline := time.Now().Add(20 * time.Second); ; {
		status, err := l.runtime.Status(t.Context(), "d")
		l.ok(err)
		if status.Spec.State == deploy.Completed && status.Phase == worker.PhaseCompleted {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("status is %+v", status)
		}
	}
	l.produce("in", "c")
	l.wantValues("out", "a", "b")
	l.deploy("d", "identity", []string{"in"}, "out", nil)
	l.wantValues("out", "a", "b", "c")
	l.close()
}
