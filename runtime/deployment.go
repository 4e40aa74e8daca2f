package runtime

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/millstream-io/millstream/runtime/catalog"
	"github.com/millstream-io/millstream/runtime/deadletter"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/runtime/module"
	"github.com/millstream-io/millstream/runtime/worker"
)

// deployment is one deployment in this process. Whoever changes it has its turn.
type deployment struct {
	name  string
	stats *worker.Stats
	turn  chan struct{} // holds a token while somebody changes the deployment

	mu      sync.Mutex
	spec    deploy.Spec
	report  *module.Report // nil: never compiled in this process
	program program        // nil: not running
	worker  *worker.Worker // nil: not running
	failure error          // why it could not start
}

func (r *Runtime) newDeployment(s deploy.Spec) *deployment {
	return &deployment{name: s.Name, spec: s, stats: r.metrics.NewStats(s.Name), turn: make(chan struct{}, 1)}
}

func (d *deployment) lock(ctx context.Context) error {
	select {
	case d.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *deployment) unlock() { <-d.turn }

func (d *deployment) snapshot() (deploy.Spec, *module.Report, *worker.Worker, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.spec, d.report, d.worker, d.failure
}

func (d *deployment) setFailure(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failure = err
}

func (d *deployment) setReport(report *module.Report) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.report = report
}

func (d *deployment) setSpec(s deploy.Spec) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spec = s
}

// prepared is a deployment whose module is compiled and has proved that it starts.
type prepared struct {
	program program
	worker  *worker.Worker
}

func (p *prepared) discard(ctx context.Context) error {
	return errors.Join(p.worker.Stop(ctx), p.program.Close(ctx))
}

// prepare compiles the module of s and makes a worker for it.
func (r *Runtime) prepare(ctx context.Context, s deploy.Spec, stats *worker.Stats) (*prepared, error) {
	digest, err := deploy.ParseDigest(s.Module)
	if err != nil {
		return nil, err
	}
	wasm, err := r.catalog.Blob(catalog.Module, digest)
	if err != nil {
		return nil, err
	}
	limits := limitsOf(s.Limits)
	p, err := r.compiler.Compile(ctx, wasm, limits)
	if err != nil {
		return nil, err
	}
	w, err := r.newWorker(ctx, s, p, limits, stats)
	if err != nil {
		return nil, errors.Join(err, p.Close(ctx))
	}
	return &prepared{program: p, worker: w}, nil
}

func (r *Runtime) newWorker(ctx context.Context, s deploy.Spec, p program, limits host.Limits, stats *worker.Stats) (*worker.Worker, error) {
	start, err := startOf(s)
	if err != nil {
		return nil, err
	}
	setup := host.Setup{Deployment: s.Name, Inputs: s.Inputs, Config: s.EffectiveConfig(p.Report().Manifest)}
	if setup.Assets, err = r.assetsOf(s); err != nil {
		return nil, err
	}
	group := engine.Group{Name: deploy.GroupName(s.Name), Client: "millstream-" + s.Name, Inputs: s.Inputs, Start: start}
	var outputs []string
	retries := deploy.DefaultRetries
	if s.Retries != nil {
		retries = *s.Retries
	}
	for _, o := range s.Outputs {
		setup.Outputs = append(setup.Outputs, o.Name)
		outputs = append(outputs, o.Topic)
	}
	return worker.New(ctx, worker.Config{
		Engine: r.engine, Group: group,
		Release: worker.Release{
			Program: p, Setup: setup, Outputs: outputs,
			OnError: s.OnError, DeadLetters: deploy.DeadLetterTopic(s.Name),
			Source: deadletter.Source{Deployment: s.Name, Module: s.Module}, Limits: limits,
			Retries: retries, FailureLimit: s.FailureLimit,
		},
		Stats: stats, Logs: r.logs, Logger: r.logger,
	})
}

func (r *Runtime) assetsOf(s deploy.Spec) (map[string][]byte, error) {
	assets := make(map[string][]byte, len(s.Assets))
	for name, text := range s.Assets {
		digest, err := deploy.ParseDigest(text)
		if err != nil {
			return nil, err
		}
		if assets[name], err = r.catalog.Blob(catalog.Asset, digest); err != nil {
			return nil, fmt.Errorf("asset %q: %w", name, err)
		}
	}
	return assets, nil
}

// limitsOf puts the user's limits over the host's defaults.
func limitsOf(l deploy.Limits) host.Limits {
	limits := host.DefaultLimits()
	set := func(field *int64, value int64) {
		if value != 0 {
			*field = value
		}
	}
	set(&limits.MemoryBytes, l.MemoryBytes)
	set(&limits.FuelPerCall, l.FuelPerRecord)
	set(&limits.OutputBytes, l.OutputBytes)
	if l.WallTime != 0 {
		limits.WallTime = l.WallTime
	}
	if l.LogLines != 0 {
		limits.LogLines = l.LogLines
	}
	return limits
}

func startOf(s deploy.Spec) (engine.Start, error) {
	start, err := deploy.ParseStart(s.Start, s.Created)
	if err != nil {
		return engine.Start{}, err
	}
	kinds := map[deploy.StartKind]engine.StartKind{
		deploy.StartLatest: engine.StartLatest, deploy.StartEarliest: engine.StartEarliest,
		deploy.StartOffset: engine.StartOffset, deploy.StartTimestamp: engine.StartTimestamp,
	}
	return engine.Start{Kind: kinds[start.Kind], Offset: start.Offset, Timestamp: start.Time}, nil
}

// start makes the deployment run. The caller has its turn.
func (r *Runtime) start(ctx context.Context, d *deployment) error {
	spec, _, _, _ := d.snapshot()
	if spec.OnError == deploy.OnErrorDeadLetter {
		if err := r.ensureDeadLetters(ctx, spec); err != nil {
			return err
		}
	}
	p, err := r.prepare(ctx, spec, d.stats)
	if err != nil {
		return err
	}
	d.launch(p)
	return nil
}

// launch starts the worker of a prepared deployment.
func (d *deployment) launch(p *prepared) {
	d.mu.Lock()
	d.program, d.worker, d.report, d.failure = p.program, p.worker, p.program.Report(), nil
	d.mu.Unlock()
	p.worker.Start()
}

// assignmentWait is how long Deploy and Resume wait for the group to hand out its partitions.
const assignmentWait = 2 * time.Second

// awaitAssignment waits a little until the deployment has its partitions; either context ends that.
func (d *deployment) awaitAssignment(request, runtime context.Context) {
	_, _, w, _ := d.snapshot()
	if w == nil {
		return
	}
	timer := time.NewTimer(assignmentWait)
	defer timer.Stop()
	select {
	case <-w.Assigned():
	case <-w.Done():
	case <-timer.C:
	case <-request.Done():
	case <-runtime.Done():
	}
}

// stop ends the worker, if there is one. The caller has the deployment's turn.
func (d *deployment) stop(ctx context.Context) error {
	d.mu.Lock()
	p := prepared{program: d.program, worker: d.worker}
	d.program, d.worker, d.failure = nil, nil, nil
	d.mu.Unlock()
	if p.worker == nil {
		return nil
	}
	return p.discard(ctx)
}

// ensureDeadLetters creates the dead letter topic with as many partitions as the first input.
func (r *Runtime) ensureDeadLetters(ctx context.Context, s deploy.Spec) error {
	existing, err := r.engine.Topics(ctx, s.Inputs[:1])
	if err != nil {
		return fmt.Errorf("look up the topic %s: %w", s.Inputs[0], err)
	}
	return worker.EnsureDeadLetters(ctx, r.engine, deploy.DeadLetterTopic(s.Name), existing[s.Inputs[0]])
}
