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
	"github.com/millstream-io/millstream/broker/vfs"
	"github.com/millstream-io/millstream/runtime"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/engine/embedded"
	"github.com/millstream-io/millstream/runtime/host"
)

// node is a broker and a runtime in this process, without a socket.
type node struct {
	dir     string
	engine  engine.Engine
	broker  *broker.Broker
	host    *host.Host
	runtime *runtime.Runtime
}

func openNode(ctx context.Context, flush bool) (*node, error) {
	dir, err := os.MkdirTemp("", "millstream-bench-")
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	n := &node{dir: dir}
	if n.broker, err = broker.Open(ctx, broker.Options{Dir: filepath.Join(dir, "data"), FS: disk(flush), Logger: log}); err != nil {
		return nil, err
	}
	if n.host, err = host.New(ctx, host.Options{CacheDir: filepath.Join(dir, "cache"), Logger: log}); err != nil {
		return nil, err
	}
	n.engine = embedded.New(n.broker.Topics(), n.broker.Groups(), n.broker.Transactions(), embedded.Options{Logger: log})
	n.runtime, err = runtime.Open(ctx, runtime.Options{Engine: n.engine, Host: n.host, Logger: log})
	return n, err
}

// disk is the file system, on which without flush nothing is waited for.
func disk(flush bool) vfs.FS {
	if flush {
		return vfs.OS{}
	}
	return &vfs.Fault{FS: vfs.OS{}, Decide: func(op vfs.Op) error {
		if op.Kind == vfs.OpSync {
			return vfs.Ignore
		}
		return nil
	}}
}

func (n *node) close(ctx context.Context) {
	_ = n.runtime.Close(ctx)
	_ = n.host.Close(ctx)
	_ = n.broker.Close(ctx)
	_ = os.RemoveAll(n.dir)
}

// deploy starts a deployment from topic "in" to topic out and waits until it runs.
func (n *node) deploy(ctx context.Context, name string, wasm []byte, config map[string]string, out string) error {
	return n.deployAs(ctx, name, wasm, pass{config: config, partitions: 1}, out)
}

func (n *node) deployAs(ctx context.Context, name string, wasm []byte, p pass, out string) error {
	report, err := n.runtime.PutModule(ctx, wasm)
	if err != nil {
		return err
	}
	_, err = n.runtime.Deploy(ctx, deploy.Spec{Name: name, Module: report.Digest.String(), Inputs: []string{"in"},
		Outputs: []deploy.Output{{Name: "out", Topic: out}}, Config: p.config, Start: "earliest", Delivery: p.delivery}, runtime.DeployOptions{CreateTopics: true, Partitions: p.partitions})
	if err != nil {
		return err
	}
	return n.await(ctx, name, func(s runtime.Status) bool { return s.Phase == "running" && len(s.Partitions) == p.partitions })
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

// fill appends records of size bytes, total in all, to the partitions of topic "in", in batches of about 105 KiB, and returns how many there are.
func fill(ctx context.Context, topics *topic.Topics, partitions, size, total int) (int, error) {
	vals := values(stepBatchBytes/(size+11), size)
	batch := encodeBatch(nil, vals)
	if _, err := record.ParseHeader(batch); err != nil {
		return 0, err
	}
	all := 0
	for i := range partitions {
		p, err := topics.Partition("in", int32(i))
		if err != nil {
			return all, err
		}
		for done := 0; done < total/partitions; done += len(vals) {
			if _, err := p.Append(ctx, batch, topic.FromBroker); err != nil {
				return all, err
			}
			all += len(vals)
		}
		if err := p.WaitDurable(ctx, p.Offsets().LogEnd); err != nil {
			return all, err
		}
	}
	return all, nil
}

// pathRun is one pass of records through a deployment.
type pathRun struct {
	records   int
	cpu, wall time.Duration
}

func (r pathRun) nsPerRecord() float64 { return float64(r.cpu) / float64(r.records) }

func (r pathRun) rate() float64 { return float64(r.records) / r.wall.Seconds() }

// pass says how records go through a deployment.
type pass struct {
	config     map[string]string // of the guest
	delivery   string
	flush      bool // the disk is waited for
	partitions int
	size       int
	total      int
}

// path measures log → guest → log: the deployment is paused while the input is filled, then resumed, until everything is committed.
func path(ctx context.Context, wasm []byte, p pass) (pathRun, error) {
	n, err := openNode(ctx, p.flush)
	if err != nil {
		return pathRun{}, err
	}
	defer n.close(ctx)
	if err := n.deployAs(ctx, "bench", wasm, p, "out"); err != nil {
		return pathRun{}, err
	}
	if _, err := n.runtime.Pause(ctx, "bench"); err != nil {
		return pathRun{}, err
	}
	records, err := fill(ctx, n.broker.Topics(), p.partitions, p.size, p.total)
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
	return run, wantRecords(ctx, n.engine, records)
}

// wantRecords checks how many records topic "out" shows.
func wantRecords(ctx context.Context, e engine.Engine, want int) error {
	got := 0
	_, err := e.ReadAll(ctx, "out", nil, func(int32, engine.Record) error { got++; return nil })
	if err == nil && got != want {
		err = fmt.Errorf("%d records in, %d out", want, got)
	}
	return err
}
