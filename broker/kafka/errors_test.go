package kafka

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestTroubleThatLasts: an error is told every half minute, and another one that it covers can be found by who debugs.
func TestTroubleThatLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := &Service{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
		for range 10 {
			s.trouble("produce", errors.New("no space left"))
			s.trouble("fetch", errors.New("input/output error"))
			time.Sleep(10 * time.Second)
		}
		told, debug := strings.Count(log.String(), "level=ERROR"), strings.Count(log.String(), `level=DEBUG msg="fetch failed"`)
		if told < 2 || told > 4 || debug == 0 {
			t.Errorf("in 100 s %d errors are told, %d are only there for who debugs:\n%s", told, debug, log.String())
		}
	})
}
