// Package runtime runs deployments: it keeps modules and deployment
// specifications in the catalog (an internal compacted topic), starts the
// workers of every running deployment over an engine, and tells how they do.
//
// What Deploy has acknowledged survives any end of the process: a new Runtime
// over the same log brings every deployment back. All methods are safe for
// concurrent use; changes of one deployment take turns, and those of
// different ones do not wait for each other.
//
// Any number of runtimes share one log, in any number of processes. Each follows the catalog and does what it says, whoever
// has stored it: starts, swaps, pauses and deletes. What runs in several processes shares the deployment's
// consumer group, which deals out the partitions. A change rests on what was stored when it
// began; when somebody else was faster, it is refused with deploy.ErrConflict, and nothing is lost.
package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/millstream-io/millstream/runtime/catalog"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/runtime/module"
	"github.com/millstream-io/millstream/runtime/worker"
	"github.com/prometheus/client_golang/prometheus"
)

// CatalogTopic holds modules, assets and deployments; LogsTopic what guests
// log and what happens to deployments, as worker.LogLine.
const (
	CatalogTopic = "__millstream_catalog"
	LogsTopic    = "__millstream_logs"
)

// ErrClosed: the runtime is closed.
var ErrClosed = errors.New("runtime is closed")

// Options open a runtime.
type Options struct {
	Engine  engine.Engine
	Host    *host.Host
	Logger  *slog.Logger
	Metrics prometheus.Registerer // nil: no metrics
	// Only is the one deployment that this runtime runs and knows of; "" = all.
	Only string
	// Launcher runs the deployments; nil: workers in this process do.
	Launcher Launcher
}

// Runtime runs deployments.
type Runtime struct {
	reconciler
	prometheus prometheus.Registerer
	lag        prometheus.Collector
	latest     program // the module put last, so that its deployment need not compile it again; mu
}

// compiler is what the runtime needs of a host; hosted adapts it.
type compiler interface {
	Compile(ctx context.Context, wasm []byte, l host.Limits) (program, error)
}

// program is a compiled module.
type program interface {
	worker.Program
	Report() *module.Report
	Close(ctx context.Context) error
}

type hosted struct{ host *host.Host }

// Compile implements compiler.
func (h hosted) Compile(ctx context.Context, wasm []byte, l host.Limits) (program, error) {
	p, err := h.host.Compile(ctx, wasm, l)
	if err != nil {
		return nil, err
	}
	return worker.Hosted{Program: p}, nil
}

// Open reads the catalog and starts every deployment that should run, in the
// background: a deployment that cannot start shows the phase failed with the
// reason and does not keep the others. Close ends the runtime; the engine and the host stay the caller's.
func Open(ctx context.Context, o Options) (*Runtime, error) {
	return open(ctx, o, hosted{o.Host})
}

func open(ctx context.Context, o Options, c compiler) (*Runtime, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	stored, err := catalog.Open(ctx, o.Engine, CatalogTopic)
	if err != nil {
		return nil, err
	}
	if err := o.Engine.EnsureTopic(ctx, LogsTopic, 1, worker.LogsConfigs()); err != nil {
		return nil, fmt.Errorf("create the topic %s: %w", LogsTopic, err)
	}
	r := &Runtime{prometheus: o.Metrics, reconciler: reconciler{
		preparer: preparer{engine: o.Engine, compiler: c, catalog: stored, launcher: o.Launcher, logger: o.Logger},
		registry: registry{deployments: map[string]*deployment{}},
		only:     o.Only, starts: make(chan struct{}, max(1, runtime.GOMAXPROCS(0))),
	}}
	if o.Metrics != nil {
		if err := r.register(o.Metrics); err != nil {
			return nil, fmt.Errorf("register the metrics of deployments: %w", err)
		}
	}
	r.ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	r.hurry, r.stopHurry = context.WithCancel(context.Background())
	r.logs = worker.NewLogs(o.Engine, LogsTopic, o.Logger)
	if o.Launcher != nil {
		o.Launcher.Watch(func(name, event string) { r.event(name, slog.LevelError, event) })
	}
	r.compare(false)
	r.inBackground(r.follow)
	r.inBackground(r.reconcile)
	if r.only == "" {
		r.inBackground(func() { keepHouse(r) })
	}
	return r, nil
}

// collectGarbage forgets modules and assets that no deployment and no kept version needs, and those that were only tried.
func (r *reconciler) collectGarbage() {
	r.tried.forget(time.Now().Add(-catalog.GracePeriod))
	n, err := r.catalog.Collect(r.ctx)
	if err != nil && r.ctx.Err() == nil {
		r.logger.Warn("collecting unused modules", "error", err)
	}
	if n > 0 {
		r.logger.Info("forgot unused modules and assets", "count", n)
	}
}

// PutModule checks, compiles and stores a module. Errors: *module.Refusal and compile errors; catalog.ErrFull; the engine's.
func (r *Runtime) PutModule(ctx context.Context, wasm []byte) (*module.Report, error) {
	p, err := r.compiler.Compile(ctx, wasm, host.Limits{})
	if err != nil {
		return nil, err
	}
	if _, err := r.catalog.PutBlob(ctx, catalog.Module, wasm); err != nil {
		return nil, errors.Join(err, p.Close(ctx))
	}
	r.mu.Lock()
	before := r.latest
	r.latest = p
	if r.closed {
		before, r.latest = p, nil
	}
	r.mu.Unlock()
	if before != nil {
		if err := before.Close(ctx); err != nil {
			r.logger.Warn("closing a module", "error", err)
		}
	}
	return p.Report(), nil
}

// PutAsset stores a file for deployments and returns its digest.
func (r *Runtime) PutAsset(ctx context.Context, b []byte) (module.Digest, error) {
	return r.catalog.PutBlob(ctx, catalog.Asset, b)
}

// logsTimeout is how long Close may take to write the last lines, whatever guests have left of its time.
const logsTimeout = 2 * time.Second

// Close stops all workers: batches in flight are finished, or dropped when
// ctx ends, which is logged and no error: they are read again. Offsets are committed. It returns once nothing of the
// runtime runs any more, at most a few seconds behind ctx.
func (r *Runtime) Close(ctx context.Context) error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	latest := r.latest
	r.latest = nil
	deployments := make([]*deployment, 0, len(r.deployments))
	for _, d := range r.deployments {
		deployments = append(deployments, d)
	}
	r.mu.Unlock()
	defer r.stopHurry()
	defer context.AfterFunc(ctx, r.stopHurry)()
	r.cancel()
	r.background.Wait()
	errs := make([]error, len(deployments))
	var stopping sync.WaitGroup
	for i, d := range deployments {
		stopping.Go(func() {
			d.lock(context.WithoutCancel(ctx)) //nolint:errcheck // that context does not end
			defer d.unlock()
			errs[i] = r.stop(ctx, d)
		})
	}
	stopping.Wait()
	if latest != nil {
		errs = append(errs, latest.Close(ctx))
	}
	if r.prometheus != nil {
		r.prometheus.Unregister(r.lag)
		r.metrics.Unregister(r.prometheus)
	}
	writing, cancel := context.WithTimeout(context.WithoutCancel(ctx), logsTimeout)
	defer cancel()
	errs = append(errs, r.logs.Close(writing))
	return errors.Join(errs...)
}
