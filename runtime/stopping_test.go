package runtime

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
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
