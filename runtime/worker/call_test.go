package worker

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/sdk/abi"
)

// still is a session with the same fetch again and again, whose outputs are only walked.
type still struct {
	fetch   stillFetch
	commits int
	walked  int
	output  abi.Output
	ready   bool // what Ready says
	polls   int  // how many are answered; 0 = all
}

func (s *still) Partition() engine.TopicPartition                       { return engine.TopicPartition{Topic: "in"} }
func (s *still) Input() int                                             { return 0 }
func (s *still) Done() <-chan struct{}                                  { return nil }
func (s *still) Ready() bool                                            { return s.ready }
func (s *still) Position() int64                                        { return 0 }
func (s *still) Begin([]string) error                                   { return nil }
func (s *still) Abort(context.Context) error                            { return nil }
func (s *still) SeekTo(int64)                                           {}
func (s *still) Close(context.Context) error                            { return nil }
func (s *still) ProduceTo(context.Context, string, engine.Record) error { return nil }

func (s *still) Poll(ctx context.Context, _ int) (engine.Fetch, error) {
	if s.polls > 0 {
		if s.polls--; s.polls == 0 {
			s.polls = -1
		}
	} else if s.polls < 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &s.fetch, nil
}

func (s *still) Produce(_ context.Context, o abi.Outputs) error {
	for o.Next(&s.output) {
		s.walked++
	}
	return nil
}

func (s *still) Commit(context.Context, int64) error {
	s.commits++
	return nil
}

// stillFetch is n records that are encoded already.
type stillFetch struct {
	encoded    []byte
	n          int
	timestamps []int64
}

func (f *stillFetch) Len() int                 { return f.n }
func (f *stillFetch) NextOffset(i int) int64   { return int64(i) + 1 }
func (f *stillFetch) Timestamps() []int64      { return f.timestamps }
func (f *stillFetch) Record(int) engine.Record { return engine.Record{} }
func (f *stillFetch) MaxTimestamp() int64      { return time.Now().UnixMilli() }
func (f *stillFetch) Encode(dst []byte, _, _ int) (size, n, need int) {
	return copy(dst, f.encoded), f.n, 0
}

// echo is a guest that puts out what it gets.
type echo struct {
	area  []byte
	batch host.Batch
	next  int
	rest  []byte
}

func (e *echo) Instantiate(context.Context, host.Setup, host.LogFunc) (Guest, error) { return e, nil }
func (e *echo) Input(context.Context, int) ([]byte, error)                           { return e.area, nil }
func (e *echo) DroppedLines() int                                                    { return 0 }
func (e *echo) Close(context.Context) error                                          { return nil }

func (e *echo) Process(_ context.Context, b host.Batch) (host.Result, error) {
	e.batch, e.next, e.rest = b, 0, e.area[:b.SizeBytes]
	return host.Result{Outputs: e, OutputCount: b.Count, OutputBytes: b.SizeBytes, Fuel: 1}, nil
}

func (e *echo) Next(o *abi.Output) bool {
	if e.next == e.batch.Count {
		return false
	}
	size := binary.LittleEndian.Uint32(e.rest)
	*o = abi.Output{Input: e.next, Timestamp: e.batch.Timestamps[e.next], Value: e.rest[abi.RecordHeaderBytes:size]}
	e.rest = e.rest[size:]
	e.next++
	return true
}

func newStill(t testing.TB, records int) (*partition, *still) {
	t.Helper()
	s := &still{}
	for i := range records {
		s.fetch.encoded = abi.AppendRecord(s.fetch.encoded, &abi.Record{Offset: int64(i), Value: make([]byte, 100)})
		s.fetch.timestamps = append(s.fetch.timestamps, int64(i))
		s.fetch.n++
	}
	logs := &Logs{wake: make(chan struct{}, 1), dropped: map[string]int{}}
	w, err := New(t.Context(), Config{
		Group:   engine.Group{Name: "d"},
		Release: Release{Program: &echo{area: make([]byte, callBytes)}, OnError: deploy.OnErrorSkip, Limits: host.DefaultLimits()},
		Stats:   &Stats{}, Logs: logs, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	p := newPartition(w.soft, w, s)
	t.Cleanup(func() {
		p.close()
		if err := w.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return p, s
}

// TestNoAllocationPerRecord takes batches of different sizes through the whole way of a record,
// each in a transaction of its own or many in one.
func TestNoAllocationPerRecord(t *testing.T) {
	for i, records := range []int{1, 1000, 1, 1000} {
		p, s := newStill(t, records)
		s.ready = i > 1
		allocations := testing.AllocsPerRun(100, func() {
			if err := p.once(); err != nil {
				t.Fatal(err)
			}
		})
		if allocations > 0 {
			t.Errorf("%v allocations for a batch of %d records", allocations, records)
		}
		if s.walked < 100*records || !s.ready && s.commits < 100 {
			t.Errorf("%d outputs in %d commits", s.walked, s.commits)
		}
	}
}

// A member that lost its place and got it back has, for a moment, two sessions of a partition.
func TestTheEndOfAnOldSessionDoesNotHideTheNewOne(t *testing.T) {
	p, old := newStill(t, 1)
	w, again := p.w, newPartition(p.w.soft, p.w, &still{})
	defer again.close()
	w.remember(p)
	w.remember(again)
	w.setTrouble(old, errors.New("full"))
	w.forget(p)
	if !w.Owns(again.tp) {
		t.Error("the new session is not known")
	}
	if len(w.trouble) > 0 {
		t.Errorf("trouble of the old session stays: %v", w.trouble)
	}
	if w.forget(again); w.Owns(again.tp) {
		t.Error("the partition is still owned")
	}
}

func BenchmarkLoop(b *testing.B) {
	const records = 1900
	p, s := newStill(b, records)
	s.ready = true
	for b.Loop() {
		if err := p.once(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/records, "ns/record")
}

func TestSizing(t *testing.T) {
	limits := host.Limits{FuelPerCall: 1_000_000, WallTime: time.Second}
	s := newSizing(limits)
	s.exceeded(1000)
	if s.records != 500 {
		t.Errorf("after a call of 1,000 was too much, %d are tried", s.records)
	}
	s.succeeded(500, 500*100_000, 0)
	if s.records != 5 {
		t.Errorf("%d records of a tenth of the fuel each in a call, want half of the budget, 5", s.records)
	}
	for range 100 {
		s.succeeded(s.records, int64(s.records), 0)
	}
	if s.records != maxCallRecords {
		t.Errorf("cheap records: %d in a call, want %d", s.records, maxCallRecords)
	}
	s.succeeded(100, 0, 100*time.Second)
	if s.records > 3 {
		t.Errorf("slow records: %d in a call of a second", s.records)
	}
	tries := 1
	for s.refused() {
		tries++
	}
	if s.bytes != minCallBytes || tries > 8 {
		t.Errorf("an area of %d bytes after %d refusals", s.bytes, tries)
	}
}
