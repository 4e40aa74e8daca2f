package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/millstream-io/millstream/runtime"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine/embedded"
	"github.com/millstream-io/millstream/runtime/host"
)

// node is a broker and a runtime in this process, without a socket.
type node struct {
	dir     string
	broker  *broker.Broker
	host    *host.Host
	runtime *runtime.Runtime
}

func openNode(ctx context.Context) (*node, error) {
	dir, err := os.MkdirTemp("", "millstream-bench-")
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	n := &node{dir: dir}
	if n.broker, err = broker.Open(ctx, broker.Options{Dir: filepath.Join(dir, "data"), Logger: log}); err != nil {
		return nil, err
	}
	if n.host, err = host.New(ctx, host.Options{CacheDir: filepath.Join(dir, "cache"), Logger: log}); err != nil {
		return nil, err
	}
	n.runtime, err = runtime.Open(ctx, runtime.Options{Engine: embedded.New(n.broker.Topics(), n.broker.Groups(), n.broker.Transactions(), embedded.Options{Logger: log}), Host: n.host, Logger: log})
	return n, err
}

func (n *node) close(ctx context.Context) {
	_ = n.runtime.Close(ctx)
	_ = n.host.Close(ctx)
	_ = n.broker.Close(ctx)
	_ = os.RemoveAll(n.dir)
}

// deploy starts a deployment from topic "in" to topic "out" and waits until it runs.
func (n *node) deploy(ctx context.Context, name string, wasm []byte, config map[string]string, out string) error {
	report, err := n.runtime.PutModule(ctx, wasm)
	if err != nil {
		return err
	}
	_, err = n.runtime.Deploy(ctx, deploy.Spec{Name: name, Module: report.Digest.String(), Inputs: []string{"in"},
		Outputs: []deploy.Output{{Name: "out", Topic: out}}, Config: config, Start: "earliest"}, runtime.DeployOptions{CreateTopics: true, Partitions: 1})
	if err != nil {
		return err
	}
	return n.await(ctx, name, func(s runtime.Status) bool { return s.Phase == "running" && len(s.Partitions) > 0 })
}

// await polls the status of a deployment; a benchmark may.
func (n *node) await(ctx context.Context, name string, done func(runtime.Status) bool) error {
	for {
		s, err := n.runtime.Status(ctx, name)
		if err != nil {
			return err
		}
		if s.Phase == "failed" {
			return fmt.Errorf("deployment %s failed: %s", name, s.Reason)
		}
		if done(s) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("deployment %s is %s: %w", name, s.Phase, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// fill appends total records of size bytes to topic "in", in batches of about 105 KiB, and returns how many there are.
func (n *node) fill(ctx context.Context, size, total int) (int, error) {
	p, err := n.broker.Topics().Partition("in", 0)
	if err != nil {
		return 0, err
	}
	vals := values(stepBatchBytes/(size+11), size)
	batch := encodeBatch(nil, vals)
	if _, err := record.ParseHeader(batch); err != nil {
		return 0, err
	}
	done := 0
	for done < total {
		if _, err := p.Append(ctx, batch, topic.FromBroker); err != nil {
			return done, err
		}
		done += len(vals)
	}
	return done, p.WaitDurable(ctx, p.Offsets().LogEnd)
}

// pathRun is one pass of records through a deployment.
type pathRun struct {
	records   int
	cpu, wall time.Duration
}

func (r pathRun) nsPerRecord() float64 { return float64(r.cpu) / float64(r.records) }

// path measures log → guest → log: the deployment is paused while the input is filled, then resumed, until everything is committed.
func path(ctx context.Context, wasm []byte, config map[string]string, size, total int) (pathRun, error) {
	n, err := openNode(ctx)
	if err != nil {
		return pathRun{}, err
	}
	defer n.close(ctx)
	if err := n.deploy(ctx, "bench", wasm, config, "out"); err != nil {
		return pathRun{}, err
	}
	if _, err := n.runtime.Pause(ctx, "bench"); err != nil {
		return pathRun{}, err
	}
	records, err := n.fill(ctx, size, total)
	if err != nil {
		return pathRun{}, err
	}
	t0, c0 := time.Now(), processCPU()
	if _, err := n.runtime.Resume(ctx, "bench"); err != nil {
		return pathRun{}, err
	}
	err = n.await(ctx, "bench", func(s runtime.Status) bool { return s.Outputs >= int64(records) })
	if err != nil {
		return pathRun{}, err
	}
	run := pathRun{records: records, cpu: processCPU() - c0, wall: time.Since(t0)}
	out, err := n.broker.Topics().Partition("out", 0)
	if err != nil {
		return run, err
	}
	if end := out.Offsets().LogEnd; end != int64(records) {
		return run, fmt.Errorf("%d records in, %d out", records, end)
	}
	return run, nil
}
