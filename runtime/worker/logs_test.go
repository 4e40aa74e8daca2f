package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/worker"
	"github.com/millstream-io/millstream/runtime/worker/workertest"
)

func newLogs(t *testing.T) (*workertest.Log, *worker.Logs) {
	t.Helper()
	log := workertest.NewLog()
	if err := log.EnsureTopic(t.Context(), "logs", 1, worker.LogsConfigs()); err != nil {
		t.Fatal(err)
	}
	return log, worker.NewLogs(log, "logs", slog.New(slog.DiscardHandler))
}

func lines(t *testing.T, log *workertest.Log) []worker.LogLine {
	t.Helper()
	var list []worker.LogLine
	for _, r := range log.Records("logs") {
		var line worker.LogLine
		if err := json.Unmarshal(r.Value, &line); err != nil {
			t.Fatalf("line %q: %v", r.Value, err)
		}
		if string(r.Key) != line.Deployment || r.Timestamp != line.Time.UnixMilli() {
			t.Errorf("record %q at %d holds the line %+v", r.Key, r.Timestamp, line)
		}
		list = append(list, line)
	}
	return list
}

func TestLogLinesArriveInOrderInBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, logs := newLogs(t)
		batches := 0
		log.SetFault(func(string, string) error { batches++; return nil })
		s := logs.Source("d", engine.TopicPartition{Topic: "in", Partition: 3}, 0)
		s.Line(slog.LevelInfo, "one")
		s.Line(slog.LevelWarn, "two\n")
		logs.Source("d", engine.TopicPartition{Partition: -1}, 0).Event(slog.LevelInfo, "started")
		time.Sleep(time.Second)
		got := lines(t, log)
		if len(got) != 3 || batches != 1 {
			t.Fatalf("%d lines in %d batches: %+v", len(got), batches, got)
		}
		want := worker.LogLine{Time: got[1].Time, Deployment: "d", Topic: "in", Partition: 3, Level: "WARN", Message: "two"}
		if got[1] != want {
			t.Errorf("line is %+v, want %+v", got[1], want)
		}
		if !got[2].Event || got[2].Partition != -1 {
			t.Errorf("event is %+v", got[2])
		}
		if err := logs.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestFloodsAreCutAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, logs := newLogs(t)
		s := logs.Source("d", engine.TopicPartition{Topic: "in"}, 10)
		for range 1000 {
			s.Line(slog.LevelInfo, "flood")
		}
		time.Sleep(10 * time.Second)
		s.Line(slog.LevelInfo, "after")
		if err := logs.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		got := lines(t, log)
		if len(got) != 12 {
			t.Fatalf("%d lines, want ten, one that tells of the rest, and one after", len(got))
		}
		if m := got[10].Message; !strings.HasPrefix(m, "990 log lines") {
			t.Errorf("the report is %q", m)
		}
	})
}

func TestLinesDroppedInTheGuestAreReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, workertest.Upper)
		b.program.DroppedLines.Store(36)
		b.log.AppendTo("in", 0, "the last record for a long time")
		b.start()
		time.Sleep(2 * time.Second)
		got := lines(t, b.log)
		if last := got[len(got)-1]; last.Message != "36 log lines were dropped" || last.Deployment != "d" {
			t.Errorf("lines are %+v", got)
		}
		b.finish()
	})
}

func TestABufferThatIsFullDropsAndNeverBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, logs := newLogs(t)
		s := logs.Source("d", engine.TopicPartition{Topic: "in"}, 1_000_000)
		for range 100 {
			s.Line(slog.LevelInfo, strings.Repeat("x", 64<<10))
		}
		if err := logs.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		got := lines(t, log)
		if last := got[len(got)-1].Message; len(got) != 16 || last != "85 log lines were dropped" {
			t.Errorf("%d lines, the last %.40q", len(got), last)
		}
	})
}

func TestLinesThatTheLogRefusesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, logs := newLogs(t)
		s := logs.Source("d", engine.TopicPartition{Topic: "in"}, 0)
		log.SetFault(func(string, string) error { return errors.New("disk full") })
		for range 7 {
			s.Line(slog.LevelInfo, "lost")
		}
		time.Sleep(time.Minute)
		log.SetFault(nil)
		time.Sleep(time.Minute)
		got := lines(t, log)
		if len(got) != 1 || got[0].Message != "7 log lines were dropped" {
			t.Errorf("lines are %+v", got)
		}
		if err := logs.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	})
}
