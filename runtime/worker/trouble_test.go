package worker_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/worker"
	"github.com/millstream-io/millstream/runtime/worker/workertest"
)

// A disk that is full for hours must not fill the log of the server as well.
func TestTroubleThatGoesOnIsToldOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, workertest.Upper)
		full := time.Now().Add(10*time.Minute - time.Second)
		b.log.SetFault(func(op, _ string) error {
			if op == "commit" && time.Now().Before(full) {
				return fmt.Errorf("%w: no space left on device", engine.ErrStorage)
			}
			return nil
		})
		b.log.AppendTo("in", 0, "a")
		var told bytes.Buffer
		c := b.config()
		c.Logger = slog.New(slog.NewTextHandler(&told, &slog.HandlerOptions{Level: slog.LevelInfo}))
		w, err := worker.New(t.Context(), c)
		b.ok(err)
		w.Start()
		b.workers = append(b.workers, w)
		b.ok(b.log.Wait(t.Context(), func() bool { return b.log.Committed("d", "in", 0) == 1 }))
		b.finish()
		warnings, over := strings.Count(told.String(), "level=WARN"), strings.Count(told.String(), "outputs are written again")
		if warnings < 8 || warnings > 10 || over != 1 {
			t.Errorf("%d warnings in ten minutes, %d times it was over:\n%s", warnings, over, told.String())
		}
		if b.stats.Retries.Load() < 30 {
			t.Errorf("only %d retries", b.stats.Retries.Load())
		}
	})
}
