package runtime

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millstream-io/millstream/runtime/catalog"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/runtime/module"
)

// DeployOptions go with Deploy.
type DeployOptions struct {
	// CreateTopics creates inputs and outputs that do not exist.
	CreateTopics bool
	// Partitions of created topics; 0 = as many as the first input has, else the engine's default.
	Partitions int
}

// Deploy validates and stores a new deployment, proves that its module starts
// with this configuration, and starts it. It returns when the group has handed out its
// partitions, or a little later if that takes long: see the phase. Errors: those of package deploy,
// catalog.ErrNotFound and ErrDamaged, *host.Trap and *host.SetupError, the engine's.
func (r *Runtime) Deploy(ctx context.Context, s deploy.Spec, o DeployOptions) (Status, error) {
	now := time.Now().UTC()
	s.Version, s.Created, s.Changed = 1, now, now
	manifest, err := r.manifestOf(ctx, s)
	if err != nil {
		return Status{}, err
	}
	s = s.WithDefaults(manifest)
	if err := s.Validate(manifest); err != nil {
		return Status{}, err
	}
	d, err := r.reserve(s)
	if err != nil {
		return Status{}, err
	}
	defer d.unlock()
	if err := r.install(ctx, d, s, o); err != nil {
		r.remove(d)
		return Status{}, err
	}
	d.awaitAssignment(ctx, r.ctx)
	return r.status(ctx, d)
}

// manifestOf compiles the module of s, which is quick when it was put just now.
func (r *Runtime) manifestOf(ctx context.Context, s deploy.Spec) (*module.Manifest, error) {
	if err := deploy.CheckName(s.Name); err != nil {
		return nil, err
	}
	digest, err := deploy.ParseDigest(s.Module)
	if err != nil {
		return nil, err
	}
	wasm, err := r.catalog.Blob(catalog.Module, digest)
	if err != nil {
		return nil, err
	}
	p, err := r.compiler.Compile(ctx, wasm, host.Limits{})
	if err != nil {
		return nil, err
	}
	return p.Report().Manifest, p.Close(ctx)
}

// reserve takes the name of s, with the deployment's turn, unless it is taken or s would close a circle.
func (r *Runtime) reserve(s deploy.Spec) (*deployment, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrClosed
	}
	others := make([]deploy.Spec, 0, len(r.deployments))
	for _, d := range r.deployments {
		spec, _, _, _ := d.snapshot()
		others = append(others, spec)
	}
	if err := s.CheckTaken(others); err != nil {
		return nil, err
	}
	if err := s.CheckCycle(others); err != nil {
		return nil, err
	}
	d := r.newDeployment(s)
	d.turn <- struct{}{}
	r.deployments[s.Name] = d
	return d, nil
}

// remove gives the name of a deployment free.
func (r *Runtime) remove(d *deployment) {
	r.mu.Lock()
	delete(r.deployments, d.name)
	r.mu.Unlock()
	r.metrics.Forget(d.name)
}

// install proves the module, makes topics, stores the deployment and starts it, in
// this order: what is stored can start, and what is refused leaves nothing behind.
func (r *Runtime) install(ctx context.Context, d *deployment, s deploy.Spec, o DeployOptions) error {
	existing, err := r.engine.Topics(ctx, s.Topics())
	if err != nil {
		return fmt.Errorf("look up topics: %w", err)
	}
	if !o.CreateTopics {
		if err := s.CheckTopics(existing); err != nil {
			return err
		}
	}
	if err := r.checkGroup(ctx, s); err != nil {
		return err
	}
	p, err := r.prepare(ctx, s, d.stats)
	if err != nil {
		return err
	}
	if err := r.ensureTopics(ctx, s, existing, o.Partitions); err != nil {
		return errors.Join(err, p.discard(ctx))
	}
	if err := r.catalog.PutDeployment(ctx, s); err != nil {
		return errors.Join(err, p.discard(ctx))
	}
	d.setSpec(s)
	if s.State != deploy.Running {
		d.setReport(p.program.Report())
		return p.discard(ctx)
	}
	d.launch(p)
	return nil
}

// checkGroup refuses a name whose consumer group has offsets of its inputs: they are somebody else's, and would overrule the start position.
func (r *Runtime) checkGroup(ctx context.Context, s deploy.Spec) error {
	group := deploy.GroupName(s.Name)
	positions, err := r.engine.Lag(ctx, group, s.Inputs)
	if err != nil {
		return fmt.Errorf("look up the consumer group %q: %w", group, err)
	}
	for tp, p := range positions {
		if p.Committed >= 0 {
			return fmt.Errorf("%w: consumer group %q has committed offset %d of %s partition %d, so another consumer uses it or did: choose another --name, or delete the group (kafka-consumer-groups --delete --group %s)",
				deploy.ErrExists, group, p.Committed, tp.Topic, tp.Partition, group)
		}
	}
	return nil
}

// ensureTopics creates the topics of s that are not among the existing ones, and its dead letter topic.
func (r *Runtime) ensureTopics(ctx context.Context, s deploy.Spec, existing map[string]int, partitions int) error {
	if partitions <= 0 {
		partitions = existing[s.Inputs[0]]
	}
	for _, name := range s.Topics() {
		if _, ok := existing[name]; ok {
			continue
		}
		if err := r.engine.EnsureTopic(ctx, name, partitions, nil); err != nil {
			return fmt.Errorf("create the topic %s: %w", name, err)
		}
	}
	if s.OnError != deploy.OnErrorDeadLetter {
		return nil
	}
	return r.ensureDeadLetters(ctx, s)
}

// Undeploy stops and forgets a deployment; its consumer group's offsets are
// forgotten too. Its dead letter topic stays. Errors: deploy.ErrNotFound, the engine's.
func (r *Runtime) Undeploy(ctx context.Context, name string) error {
	d, err := r.take(ctx, name)
	if err != nil {
		return err
	}
	defer d.unlock()
	if err := d.stop(ctx); err != nil {
		r.logger.Warn("stopping a deployment that is deleted", "deployment", name, "error", err)
	}
	if err := r.catalog.DeleteDeployment(ctx, name); err != nil {
		d.setFailure(fmt.Errorf("half deleted: %w: delete it again", err))
		return err
	}
	// The name is free only afterwards: a deployment that takes it at once must not lose its own offsets.
	err = r.engine.ForgetGroup(ctx, deploy.GroupName(name))
	r.remove(d)
	r.inBackground(r.collectGarbage)
	if err != nil {
		return fmt.Errorf("deployment %q is deleted, but the offsets of its group are still there: %w", name, err)
	}
	return nil
}

// Pause stops a deployment and keeps its offsets; pausing a paused one does nothing. Errors: deploy.ErrNotFound, the engine's.
func (r *Runtime) Pause(ctx context.Context, name string) (Status, error) {
	d, err := r.take(ctx, name)
	if err != nil {
		return Status{}, err
	}
	defer d.unlock()
	if err := r.setState(ctx, d, deploy.Paused); err != nil {
		return Status{}, err
	}
	if err := d.stop(ctx); err != nil {
		return Status{}, fmt.Errorf("pause deployment %q: %w", name, err)
	}
	return r.status(ctx, d)
}

// Resume starts a deployment that is paused or has failed, from its committed
// offsets; resuming one that runs does nothing. Errors: deploy.ErrNotFound, what keeps it from starting, the engine's.
func (r *Runtime) Resume(ctx context.Context, name string) (Status, error) {
	d, err := r.take(ctx, name)
	if err != nil {
		return Status{}, err
	}
	defer d.unlock()
	_, _, w, _ := d.snapshot()
	if w != nil && w.Failure() == nil {
		return r.status(ctx, d)
	}
	if err := d.stop(ctx); err != nil {
		return Status{}, fmt.Errorf("resume deployment %q: %w", name, err)
	}
	if err := r.start(ctx, d); err != nil {
		d.setFailure(err)
		return Status{}, fmt.Errorf("resume deployment %q: %w", name, err)
	}
	if err := r.setState(ctx, d, deploy.Running); err != nil {
		return Status{}, err
	}
	d.awaitAssignment(ctx, r.ctx)
	return r.status(ctx, d)
}

// setState stores the desired state of a deployment as a new version.
func (r *Runtime) setState(ctx context.Context, d *deployment, state string) error {
	spec, _, _, _ := d.snapshot()
	if spec.State == state {
		return nil
	}
	if spec.Module == "" {
		return fmt.Errorf("%w: deployment %q cannot be read from the catalog: delete it and deploy it again", deploy.ErrInvalid, d.name)
	}
	spec.State = state
	spec.Version++
	spec.Changed = time.Now().UTC()
	if err := r.catalog.PutDeployment(ctx, spec); err != nil {
		return err
	}
	d.setSpec(spec)
	return nil
}

// take returns a deployment with its turn.
func (r *Runtime) take(ctx context.Context, name string) (*deployment, error) {
	d, err := r.lookup(name)
	if err != nil {
		return nil, err
	}
	if err := d.lock(ctx); err != nil {
		return nil, err
	}
	// It may have been deleted, or its Deploy have failed, while this one waited.
	if again, err := r.lookup(name); err != nil || again != d {
		d.unlock()
		return nil, fmt.Errorf("%w: %q", deploy.ErrNotFound, name)
	}
	return d, nil
}

func (r *Runtime) lookup(name string) (*deployment, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrClosed
	}
	d, ok := r.deployments[name]
	if !ok {
		return nil, fmt.Errorf("%w: %q: `millstream list` shows what there is", deploy.ErrNotFound, name)
	}
	return d, nil
}
