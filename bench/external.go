package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millstream-io/millstream/runtime"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/engine/kafka"
	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/sdk/abi"
)

// transactionBytes is how much of the outputs one transaction holds, in every program that is compared: what a worker does under load.
const transactionBytes = 16 << 20

// external: consume, upper-case, produce in transactions, over the network: the client's CPU.
func (b *bench) external(ctx context.Context) error {
	title("External cluster (kfake, in a process of its own), exactly once: the client's CPU against a bare franz-go transactional loop")
	programs := []struct {
		name string
		run  func(context.Context, string, int) (time.Duration, error)
	}{
		{"franz-go, native transform", transactBare},
		{"our engine, native transform", transactEngine},
		{"our worker, guest with fuel", b.transactWorker},
	}
	for _, size := range sizes {
		n := min(500_000, b.bytes/size)
		vals := values(n, size)
		cpus := make([][]float64, len(programs))
		for round := range 3 {
			for i := range programs {
				which := (round + i) % len(programs)
				cpu, err := externalPass(ctx, vals, programs[which].run)
				if err != nil {
					return fmt.Errorf("%s: %w", programs[which].name, err)
				}
				cpus[which] = append(cpus[which], float64(cpu)/float64(n))
			}
		}
		for i, p := range programs {
			s := summarize(cpus[i])
			fmt.Printf("  %4d B: %-34s %8.1f ns a record   (%.1f–%.1f)\n", size, p.name, s.median, s.min, s.max)
		}
		bare := summarize(cpus[0]).median
		ratio(fmt.Sprintf("engine / franz-go, client CPU, %d B", size), summarize(cpus[1]).median/bare, "–")
		ratio(fmt.Sprintf("worker with its guest / franz-go, client CPU, %d B", size), summarize(cpus[2]).median/bare, "≤ 1.3")
	}
	return nil
}

// externalPass runs one program over a fresh cluster that holds the values in topic "in".
func externalPass(ctx context.Context, vals [][]byte, run func(context.Context, string, int) (time.Duration, error)) (time.Duration, error) {
	s, err := startKfake()
	if err != nil {
		return 0, err
	}
	defer s.stop()
	if _, _, err := produce(ctx, s.address, "in", vals[:len(vals)-1], kgo.AllISRAcks()); err != nil { // it writes the first one twice
		return 0, err
	}
	cpu, err := run(ctx, s.address, len(vals))
	if err != nil {
		return 0, err
	}
	return cpu, wantCommitted(ctx, s.address, len(vals))
}

// wantCommitted checks how many committed records topic "out" holds.
func wantCommitted(ctx context.Context, address string, want int) error {
	k, leave, err := kafka.New(ctx, kafka.Options{Brokers: []string{address}})
	if err != nil {
		return err
	}
	defer leave(ctx)
	return wantRecords(ctx, k, want)
}

// transactBare is a bareLoop of which only the CPU time counts.
func transactBare(ctx context.Context, address string, n int) (time.Duration, error) {
	_, cpu, err := bareLoop(ctx, address, n)
	return cpu, err
}

// bareLoop is what a Go program without Millstream would be: group member, upper-case, produce, commit, in
// transactions. The clocks begin with the first records.
func bareLoop(ctx context.Context, address string, n int) (wall, cpu time.Duration, err error) {
	s, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(address), kgo.ConsumerGroup("bench"), kgo.ConsumeTopics("in"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RequireStableFetchOffsets(),
		kgo.FetchMaxBytes(16<<20), kgo.FetchMaxPartitionBytes(1<<20),
		kgo.TransactionalID("bench"), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(1_000_000),
		kgo.MaxBufferedRecords(200_000), kgo.DefaultProduceTopic("out"))
	if err != nil {
		return 0, 0, err
	}
	defer s.Close()
	var began time.Time
	for got := 0; got < n; {
		if err := s.Begin(); err != nil {
			return 0, 0, err
		}
		var failed error
		for written := 0; written < transactionBytes && got < n; {
			fetches := s.PollFetches(ctx)
			if err := fetches.Err(); err != nil {
				return 0, 0, err
			}
			if began.IsZero() {
				began, cpu = time.Now(), processCPU()
			}
			fetches.EachRecord(func(r *kgo.Record) {
				got++
				written += len(r.Value)
				s.Produce(ctx, &kgo.Record{Key: r.Key, Value: bytes.ToUpper(r.Value), Timestamp: r.Timestamp}, func(_ *kgo.Record, err error) {
					if err != nil {
						failed = err
					}
				})
			})
		}
		committed, err := s.End(ctx, kgo.TryCommit)
		if err == nil {
			err = failed
		}
		if err != nil || !committed {
			return 0, 0, fmt.Errorf("the transaction was not committed: %w", err)
		}
	}
	return time.Since(began), processCPU() - cpu, nil
}

// openExternal opens our engine over a cluster.
func openExternal(ctx context.Context, address string) (engine.Engine, func(context.Context) error, error) {
	return kafka.New(ctx, kafka.Options{Brokers: []string{address}, Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
}

// upperOutputs are the records of a fetch, upper-cased.
type upperOutputs struct {
	f     engine.Fetch
	i     int
	value []byte
}

// Next implements abi.Outputs.
func (u *upperOutputs) Next(o *abi.Output) bool {
	if u.i == u.f.Len() {
		return false
	}
	r := u.f.Record(u.i)
	u.value = append(u.value[:0], r.Value...)
	for i, c := range u.value {
		if c >= 'a' && c <= 'z' {
			u.value[i] = c - 'a' + 'A'
		}
	}
	*o = abi.Output{Input: u.i, Timestamp: r.Timestamp, Key: r.Key, Value: u.value}
	u.i++
	return true
}

// transactEngine is the loop of a worker without its guest.
func transactEngine(ctx context.Context, address string, n int) (time.Duration, error) {
	k, leave, err := openExternal(ctx, address)
	if err != nil {
		return 0, err
	}
	defer leave(ctx)
	began := processCPU()
	m, err := k.Join(ctx, engine.Group{Name: "bench", Inputs: []string{"in"}, Start: engine.Start{Kind: engine.StartEarliest}})
	if err != nil {
		return 0, err
	}
	var sessions []engine.Session
	for len(sessions) == 0 {
		if sessions, err = m.Next(ctx); err != nil {
			return 0, err
		}
	}
	s := sessions[0]
	outputs := upperOutputs{}
	for got := 0; got < n; {
		if err := s.Begin([]string{"out"}); err != nil {
			return 0, err
		}
		for written := 0; written < transactionBytes && got < n; {
			if outputs.f, err = s.Poll(ctx, 256<<10); err != nil {
				return 0, err
			}
			outputs.i = 0
			if err := s.Produce(ctx, &outputs); err != nil {
				return 0, err
			}
			got += outputs.f.Len()
			written += outputs.f.Len() * len(outputs.value)
		}
		if err := s.Commit(ctx, s.Position()); err != nil {
			return 0, err
		}
	}
	return processCPU() - began, nil
}

// transactWorker is a deployment.
func (b *bench) transactWorker(ctx context.Context, address string, n int) (time.Duration, error) {
	k, leave, err := openExternal(ctx, address)
	if err != nil {
		return 0, err
	}
	defer leave(ctx)
	h, err := host.New(ctx, host.Options{})
	if err != nil {
		return 0, err
	}
	defer h.Close(ctx)
	r, err := runtime.Open(ctx, runtime.Options{Engine: k, Host: h})
	if err != nil {
		return 0, err
	}
	defer r.Close(ctx)
	report, err := r.PutModule(ctx, b.guest)
	if err != nil {
		return 0, err
	}
	began := processCPU()
	_, err = r.Deploy(ctx, deploy.Spec{Name: "bench", Module: report.Digest.String(), Inputs: []string{"in"}, Start: "earliest",
		Outputs: []deploy.Output{{Name: "out", Topic: "out"}}, Config: map[string]string{"mode": "upper"}}, runtime.DeployOptions{})
	if err != nil {
		return 0, err
	}
	w := &node{engine: k, runtime: r}
	err = w.await(ctx, "bench", func(s runtime.Status) bool { return s.Outputs >= int64(n) })
	return processCPU() - began, err
}
