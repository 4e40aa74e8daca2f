package runtime

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestAStopDuringASwap: that a swap ends with the process is no news; that it fails otherwise is.
func TestAStopDuringASwap(t *testing.T) {
	for name, c := range map[string]struct {
		stop bool
		want int // warnings
	}{"stopped": {true, 0}, "refused": {false, 1}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newBench(t)
				a.mustDeploy(a.version("1"))
				var log strings.Builder
				b := &bench{t: t, log: a.log, compiler: &toyCompiler{}, logger: slog.New(slog.NewTextHandler(&log, nil))}
				starts := 0
				hook := func(wasm string) error {
					if starts++; wasm != "wasm 2" || starts%2 == 1 {
						return nil // the proof
					}
					if c.stop {
						b.runtime.cancel()
					}
					return context.Canceled
				}
				b.open()
				synctest.Wait()
				b.compiler.started.Store(&hook)
				a.mustDeploy(a.version("2"))
				synctest.Wait()
				b.close()
				a.close()
				if starts < 2 {
					t.Errorf("%d guests were started", starts)
				}
				if got := strings.Count(log.String(), "level=WARN") + strings.Count(log.String(), "level=ERROR"); got != c.want {
					t.Errorf("warnings: %d, want %d\n%s", got, c.want, log.String())
				}
			})
		})
	}
}

// TestCloseWithGuestsThatDoNotEnd: what they have in hand is dropped when the time is over, which is told and no
// error; the last events are written all the same.
func TestCloseWithGuestsThatDoNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		b := newBench(t)
		b.close()
		b.logger = slog.New(slog.NewTextHandler(&log, nil))
		b.open()
		b.mustDeploy(b.version("slow"))
		b.feed("a")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		b.ok(b.runtime.Close(ctx))
		if got := log.String(); strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, "will be read again") {
			t.Errorf("log is %s", got)
		}
		events := b.log.Records(LogsTopic)
		if n := len(events); n == 0 || !strings.Contains(string(events[n-1].Value), "stopped") {
			t.Errorf("events are %+v", events)
		}
		b.checkPrograms()
	})
}

// TestCloseDuringASwap: a swap waits for the transaction in hand, but not when the process stops.
func TestCloseDuringASwap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.mustDeploy(b.version("slow"))
		b.feed("a")
		next := b.version("2")
		deployed := make(chan time.Time, 1)
		go func() {
			_, _ = b.runtime.Deploy(t.Context(), next, DeployOptions{})
			deployed <- time.Now()
		}()
		synctest.Wait()
		began := time.Now()
		select {
		case <-deployed:
			t.Fatal("the swap did not wait")
		default:
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		b.ok(b.runtime.Close(ctx))
		if took := (<-deployed).Sub(began); took > time.Second {
			t.Errorf("the swap went on for %v", took)
		}
		b.checkPrograms()
	})
}
