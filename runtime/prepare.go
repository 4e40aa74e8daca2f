package runtime

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/millstream-io/millstream/runtime/catalog"
	"github.com/millstream-io/millstream/runtime/deadletter"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/runtime/module"
	"github.com/millstream-io/millstream/runtime/worker"
)

// preparer makes what a deployment runs of its specification.
type preparer struct {
	engine   engine.Engine
	compiler compiler
	catalog  *catalog.Catalog
	tried    tried
	launcher Launcher // nil: workers of this process
	logs     *worker.Logs
	logger   *slog.Logger
}

// prepared is a version of a deployment whose module is compiled and has proved that it
// starts. It is launched, replaces another one, or is discarded.
type prepared struct {
	spec    deploy.Spec
	report  *module.Report
	release worker.Release
	worker  *worker.Worker // not started, it is the proof; nil with a launcher
	users   atomic.Int32   // of the program; the last one closes it
	close   func()
}

// use returns what a user of the program calls, once or more, when it needs it no longer.
func (p *prepared) use() (done func()) {
	p.users.Add(1)
	return sync.OnceFunc(func() {
		if p.users.Add(-1) == 0 {
			p.close()
		}
	})
}

// discard ends the worker that never ran.
func (p *prepared) discard(ctx context.Context) error {
	if p == nil || p.worker == nil {
		return nil
	}
	return p.worker.Stop(ctx)
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
	start, err := deploy.ParseStart(s.Start, s.DeployedAt())
	if err != nil {
		return engine.Start{}, err
	}
	return engineStart(start), nil
}

func engineStart(start deploy.Start) engine.Start {
	kinds := map[deploy.StartKind]engine.StartKind{
		deploy.StartLatest: engine.StartLatest, deploy.StartEarliest: engine.StartEarliest,
		deploy.StartOffset: engine.StartOffset, deploy.StartTimestamp: engine.StartTimestamp,
	}
	return engine.Start{Kind: kinds[start.Kind], Offset: start.Offset, Timestamp: start.Time}
}

// prepare compiles the module of s and proves that it starts.
func (r *preparer) prepare(ctx context.Context, s deploy.Spec, stats *worker.Stats) (*prepared, error) {
	digest, err := deploy.ParseDigest(s.Module)
	if err != nil {
		return nil, err
	}
	wasm, err := r.blob(catalog.Module, digest)
	if err != nil {
		return nil, err
	}
	assets, err := r.assetsOf(s)
	if err != nil {
		return nil, err
	}
	limits := limitsOf(s.Limits)
	program, err := r.compiler.Compile(ctx, wasm, limits)
	if err != nil {
		return nil, err
	}
	p := &prepared{spec: s, report: program.Report()}
	p.close = func() {
		if err := program.Close(context.WithoutCancel(ctx)); err != nil {
			r.logger.Warn("closing a module", "deployment", s.Name, "error", err)
		}
	}
	done := p.use()
	if r.launcher != nil {
		defer done()
		return p, r.launcher.Prove(ctx, Proof{Wasm: wasm, Setup: setupOf(p, assets), Limits: limits})
	}
	p.release.Retired = done
	if err := r.newWorker(ctx, p, program, limits, assets, stats); err != nil {
		done()
		return nil, err
	}
	return p, nil
}

// newWorker makes the worker of p, which proves its module.
func (r *preparer) newWorker(ctx context.Context, p *prepared, program program, limits host.Limits, assets map[string][]byte, stats *worker.Stats) error {
	s := p.spec
	start, err := startOf(s)
	if err != nil {
		return err
	}
	until, err := deploy.ParseUntil(s.Until)
	if err != nil {
		return err
	}
	var outputs []string
	for _, o := range s.Outputs {
		outputs = append(outputs, o.Topic)
	}
	p.release = worker.Release{
		Program: program, Setup: setupOf(p, assets), Outputs: outputs,
		OnError: s.OnError, DeadLetters: deploy.DeadLetterTopic(s.Name),
		Source: deadletter.Source{Deployment: s.Name, Module: s.Module}, Limits: limits,
		Retries: s.EffectiveRetries(), FailureLimit: s.FailureLimit, Retired: p.release.Retired,
	}
	group := engine.Group{Name: deploy.GroupName(s.Name), Client: clientPrefix(s.Name) + processName(), Inputs: s.Inputs, Start: start}
	if s.Delivery == deploy.DeliveryAtLeastOnce {
		group.Delivery = engine.AtLeastOnce
	}
	p.worker, err = worker.New(ctx, worker.Config{
		Engine: r.engine, Group: group, Starts: func() map[string]engine.TopicStart { return r.startsOf(s.Name) }, Release: p.release,
		Until: worker.Until(until), Ends: func(ctx context.Context, find func(context.Context) (worker.Ends, error)) (worker.Ends, error) {
			return r.endsOf(ctx, s, find)
		},
		Stats: stats, Logs: r.logs, Logger: r.logger,
	})
	return err
}

// startsOf is where a deployment begins in its inputs, as it is stored: what is prepared may be older.
func (r *preparer) startsOf(name string) map[string]engine.TopicStart {
	starts := map[string]engine.TopicStart{}
	stored, _ := r.catalog.Deployment(name)
	for input, found := range stored.Spec.Starts {
		starts[input] = engine.TopicStart(found)
	}
	return starts
}

// clientPrefix begins the client ids of a deployment's members; the name of the process follows.
func clientPrefix(name string) string { return "millstream-" + name + "-" }

// processName tells this process from others in group tools: host-pid, with the characters of a topic name only.
func processName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	host = strings.Map(func(r rune) rune {
		if r < 0x80 && (r == '.' || r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r)) {
			return r
		}
		return '_'
	}, host)
	return fmt.Sprintf("%s-%d", host, os.Getpid())
}

// setupOf is what an instance of p is told once.
func setupOf(p *prepared, assets map[string][]byte) host.Setup {
	setup := host.Setup{Deployment: p.spec.Name, Inputs: p.spec.Inputs, Config: p.spec.EffectiveConfig(p.report.Manifest), Assets: assets}
	for _, o := range p.spec.Outputs {
		setup.Outputs = append(setup.Outputs, o.Name)
	}
	return setup
}

func (r *preparer) assetsOf(s deploy.Spec) (map[string][]byte, error) {
	assets := make(map[string][]byte, len(s.Assets))
	for name, text := range s.Assets {
		digest, err := deploy.ParseDigest(text)
		if err != nil {
			return nil, err
		}
		if assets[name], err = r.blob(catalog.Asset, digest); err != nil {
			return nil, fmt.Errorf("asset %q: %w", name, err)
		}
	}
	return assets, nil
}

// blob returns a module or asset that is stored, else one that was tried.
func (r *preparer) blob(kind catalog.Kind, digest module.Digest) ([]byte, error) {
	b, err := r.catalog.Blob(kind, digest)
	if err != nil {
		if t, ok := r.tried.get(digest); ok {
			return t, nil
		}
	}
	return b, err
}

// reportOf compiles the module of s, which is quick when it was put just now.
func (r *preparer) reportOf(ctx context.Context, s deploy.Spec) (*module.Report, error) {
	digest, err := deploy.ParseDigest(s.Module)
	if err != nil {
		return nil, err
	}
	wasm, err := r.blob(catalog.Module, digest)
	if err != nil {
		return nil, err
	}
	p, err := r.compiler.Compile(ctx, wasm, host.Limits{})
	if err != nil {
		return nil, err
	}
	return p.Report(), p.Close(ctx)
}

// describe tells of a deployment's module what its bytes say without being compiled. One that cannot be
// read is left to who runs it, and complains.
func (r *preparer) describe(d *deployment, s deploy.Spec) {
	digest, err := deploy.ParseDigest(s.Module)
	if err != nil {
		return
	}
	if _, report, _, _ := d.snapshot(); report != nil && report.Digest == digest {
		return
	}
	wasm, err := r.blob(catalog.Module, digest)
	if err != nil {
		return
	}
	if manifest, err := module.ReadManifest(wasm); err == nil {
		d.setReport(&module.Report{Digest: digest, SizeBytes: len(wasm), Manifest: manifest})
	}
}

// ensureDeadLetters creates the dead letter topic with as many partitions as the first input.
func (r *preparer) ensureDeadLetters(ctx context.Context, s deploy.Spec) error {
	existing, err := r.engine.Topics(ctx, s.Inputs[:1])
	if err != nil {
		return fmt.Errorf("look up the topic %s: %w", s.Inputs[0], err)
	}
	return worker.EnsureDeadLetters(ctx, r.engine, deploy.DeadLetterTopic(s.Name), existing[s.Inputs[0]])
}

// event tells the deployment's log what happened to it.
func (r *preparer) event(name string, level slog.Level, message string) {
	r.logs.Source(name, engine.TopicPartition{Partition: -1}, 0).Event(level, message)
}

// maxTriedBytes bounds modules and assets that were only tried.
const maxTriedBytes = 64 << 20

// tried keeps modules and assets that were brought for a plan, the last ones. It is safe for concurrent use.
type tried struct {
	mu    sync.Mutex
	blobs []triedBlob
}

type triedBlob struct {
	digest module.Digest
	bytes  []byte
	at     time.Time
}

func (t *tried) put(b []byte) module.Digest {
	digest := module.DigestOf(b)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.blobs = append(slices.DeleteFunc(t.blobs, func(o triedBlob) bool { return o.digest == digest }), triedBlob{digest, b, time.Now()})
	size := 0
	for i := len(t.blobs) - 1; i >= 0; i-- {
		if size += len(t.blobs[i].bytes); size > maxTriedBytes {
			t.blobs = slices.Delete(t.blobs, 0, i+1)
			break
		}
	}
	return digest
}

// forget drops what was put before the given time.
func (t *tried) forget(before time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.blobs = slices.DeleteFunc(t.blobs, func(b triedBlob) bool { return b.at.Before(before) })
}

func (t *tried) get(digest module.Digest) ([]byte, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range t.blobs {
		if b.digest == digest {
			return b.bytes, true
		}
	}
	return nil, false
}
