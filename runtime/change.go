package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/millstream-io/millstream/runtime/catalog"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
)

// DeployOptions go with Deploy, Plan and Rollback.
type DeployOptions struct {
	// CreateTopics creates inputs and outputs that do not exist.
	CreateTopics bool
	// Partitions of created topics; 0 = as many as the first input has, else the engine's default.
	Partitions int
	// New refuses a name that is taken, instead of making a new version of that deployment.
	New bool
}

// Deploy makes a deployment, or the next version of the one that has the name. What is
// new is compiled and proved to start before anything changes; what runs goes on until then, and if it
// fails, for good. When nothing differs from what is stored, there is no new version.
//
// It returns when this process runs the version: when a new group has handed out its
// partitions or a little later if that takes long (see the phase), or when all partitions of a running one have changed over. Other processes
// follow. Errors: those of package deploy, catalog.ErrNotFound and ErrDamaged, *host.Trap and *host.SetupError, the engine's.
func (r *Runtime) Deploy(ctx context.Context, s deploy.Spec, o DeployOptions) (Status, error) {
	s.Rollback = 0
	p, err := r.propose(ctx, s, o)
	if err != nil {
		return Status{}, err
	}
	return r.enact(ctx, p)
}

// enact stores and runs what was proposed.
func (r *Runtime) enact(ctx context.Context, p *proposal) (Status, error) {
	d, err := r.claim(ctx, p.next)
	if err != nil {
		return Status{}, err
	}
	defer d.unlock()
	if p.action() == ActionNothing {
		s, err := r.status(ctx, d)
		s.Unchanged = true
		return s, err
	}
	if err := r.install(ctx, d, p); err != nil {
		if !d.stored() {
			r.remove(d)
			r.compare(false) // somebody else may have stored one
		}
		return Status{}, err
	}
	r.awaitAssignment(ctx, d)
	return r.status(ctx, d)
}

// install proves the module, makes topics, stores the version and runs it, in
// this order: what is stored can start, and what is refused leaves nothing behind.
func (r *Runtime) install(ctx context.Context, d *deployment, p *proposal) error {
	prepared, err := r.prepare(ctx, p.next, d.stats)
	if err != nil {
		return p.explain(err)
	}
	if err := r.ensureTopics(ctx, p); err != nil {
		return errors.Join(err, prepared.discard(ctx))
	}
	stored, err := r.store(ctx, p)
	if err != nil {
		return errors.Join(err, prepared.discard(ctx))
	}
	// From here on it is stored: a caller who goes away does not keep it from running.
	if err := r.apply(context.WithoutCancel(ctx), d, stored, prepared); err != nil {
		return fmt.Errorf("version %d of deployment %q is stored, but does not run here: %w", p.next.Version, d.name, err)
	}
	if p.exists {
		r.event(d.name, slog.LevelInfo, p.event())
	}
	return nil
}

// store puts a proposal into the catalog.
func (r *reconciler) store(ctx context.Context, p *proposal) (catalog.Deployment, error) {
	return r.catalog.Change(ctx, p.next.Name, func(before catalog.Deployment, exists bool, others []deploy.Spec) (*deploy.Spec, error) {
		next, err := p.decide(before, exists, others)
		if err != nil || next == nil {
			return nil, err
		}
		if !exists {
			if err := r.checkGroup(ctx, *next); err != nil { // somebody may have come meanwhile
				return nil, err
			}
		}
		return next, r.findStarts(ctx, before.Spec, next)
	})
}

// findStarts finds where a deployment begins in inputs that the version before does not have, to be stored with
// it: what is produced from now on comes behind "latest", however long the group takes to hand out its partitions,
// and nothing is committed for a deployment that may never be stored.
func (r *reconciler) findStarts(ctx context.Context, before deploy.Spec, next *deploy.Spec) error {
	next.Starts = map[string]deploy.TopicStart{}
	var added []string
	for _, input := range next.Inputs {
		if found, ok := before.Starts[input]; ok {
			next.Starts[input] = found
		} else if !slices.Contains(before.Inputs, input) {
			added = append(added, input)
		}
	}
	if len(added) == 0 {
		return nil
	}
	start, err := startOf(*next)
	if err != nil {
		return err
	}
	found, err := r.engine.Starts(ctx, added, start)
	if err != nil {
		return fmt.Errorf("find where deployment %q begins: %w", next.Name, err)
	}
	for input, at := range found {
		next.Starts[input] = deploy.TopicStart(at)
	}
	return nil
}

// ensureTopics creates the topics of a proposal that do not exist, and its dead letter topic.
func (r *Runtime) ensureTopics(ctx context.Context, p *proposal) error {
	for _, name := range p.missing {
		if err := r.engine.EnsureTopic(ctx, name, p.partitions, nil); err != nil {
			return fmt.Errorf("create the topic %s: %w", name, err)
		}
	}
	if p.next.OnError != deploy.OnErrorDeadLetter {
		return nil
	}
	return r.ensureDeadLetters(ctx, p.next)
}

// leaveTimeout bounds how long a deletion or a reset waits for other processes to leave the group.
const leaveTimeout = 10 * time.Second

// Undeploy stops and forgets a deployment with its versions; its consumer group's offsets are
// forgotten too. Its dead letter topic stays. First the deployment is stored as one that is being deleted, so that who comes
// after a process that ended meanwhile knows what is left to do. While somebody else is in
// the group (a worker that died is, until its session times out) it stays so; it goes when they have left, or Undeploy is called again.
// Errors: deploy.ErrNotFound, engine.ErrGroupActive, the engine's.
func (r *Runtime) Undeploy(ctx context.Context, name string) error {
	d, err := r.take(ctx, name)
	if err != nil {
		return err
	}
	defer d.unlock()
	stored, err := r.catalog.Change(ctx, name, func(before catalog.Deployment, exists bool, _ []deploy.Spec) (*deploy.Spec, error) {
		if !exists || before.Err != nil || before.Spec.State == deploy.Deleting {
			return nil, nil
		}
		return inState(before.Spec, deploy.Deleting), nil
	})
	if err != nil {
		return err
	}
	// Now it is decided: a caller who goes away does not keep it from happening. Close leaves it to whoever runs next.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(r.ctx, cancel)()
	d.adopt(stored)
	if err := r.stop(ctx, d); err != nil {
		r.logger.Warn("stopping a deployment that is deleted", "deployment", name, "error", err)
	}
	if err := r.awaitEmpty(ctx, name); err != nil {
		return err
	}
	return r.finishDeletion(ctx, d)
}

// finishDeletion forgets the group of a deployment that is being deleted, and then the deployment, which until then keeps
// its name: who takes that at once must not lose his own offsets. The caller has the deployment's turn.
func (r *reconciler) finishDeletion(ctx context.Context, d *deployment) error {
	spec, _, _, _ := d.snapshot()
	err := r.catalog.Delete(ctx, d.name, spec.Created, func(ctx context.Context) error {
		return r.engine.ForgetGroup(ctx, deploy.GroupName(d.name))
	})
	switch {
	case errors.Is(err, engine.ErrGroupActive):
		return fmt.Errorf("deployment %q is stopped, and deleted as soon as nobody is in its consumer group: a worker that died keeps its place until its session times out, "+
			"another program until it ends (`millstream group describe %s` shows them): %w", d.name, deploy.GroupName(d.name), err)
	case err != nil:
		return fmt.Errorf("deployment %q is stopped, but not deleted yet, that is tried again: %w", d.name, err)
	}
	r.remove(d)
	r.inBackground(r.collectGarbage)
	return nil
}

// awaitEmpty waits a while for other processes to do what is stored by now: to leave the group of a deployment that shall not run.
func (r *reconciler) awaitEmpty(ctx context.Context, name string) error {
	deadline := time.Now().Add(leaveTimeout)
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		members, err := r.engine.Members(ctx, deploy.GroupName(name))
		if err != nil {
			return fmt.Errorf("members of deployment %q: %w", name, err)
		}
		if len(members) == 0 || ctx.Err() != nil || time.Now().After(deadline) {
			return ctx.Err()
		}
		if !r.sleep(pause) {
			return ErrClosed
		}
	}
}

// Pause stops a deployment in every process and keeps its offsets; pausing one that does not run does nothing. Errors: deploy.ErrNotFound, the engine's.
func (r *Runtime) Pause(ctx context.Context, name string) (Status, error) {
	d, err := r.take(ctx, name)
	if err != nil {
		return Status{}, err
	}
	defer d.unlock()
	stored, err := r.catalog.Change(ctx, name, func(before catalog.Deployment, exists bool, _ []deploy.Spec) (*deploy.Spec, error) {
		if err := changeable(name, before, exists); err != nil || before.Spec.State != deploy.Running {
			return nil, err
		}
		return inState(before.Spec, deploy.Paused), nil
	})
	if err != nil {
		return Status{}, err
	}
	if err := r.apply(context.WithoutCancel(ctx), d, stored, nil); err != nil {
		return Status{}, fmt.Errorf("pause deployment %q: %w", name, err)
	}
	return r.status(ctx, d)
}

// Resume starts a deployment that is paused, has completed its run or has failed, from its committed
// offsets, in every process; one that runs goes on. A bounded run that has completed begins anew, to a new end.
// Errors: deploy.ErrNotFound, what keeps it from starting, the engine's.
func (r *Runtime) Resume(ctx context.Context, name string) (Status, error) {
	d, err := r.take(ctx, name)
	if err != nil {
		return Status{}, err
	}
	defer d.unlock()
	if err := r.catalog.Refresh(ctx); err != nil {
		return Status{}, err
	}
	stored, exists := r.catalog.Deployment(name)
	if err := changeable(name, stored, exists); err != nil {
		return Status{}, err
	}
	var p *prepared
	if !d.works() {
		if p, err = r.prepare(ctx, stored.Spec, d.stats); err != nil {
			if stored.Spec.State == deploy.Running {
				d.setFailure(err)
			}
			return Status{}, fmt.Errorf("resume deployment %q: %w", name, err)
		}
	}
	stored, err = r.catalog.Change(ctx, name, func(before catalog.Deployment, exists bool, _ []deploy.Spec) (*deploy.Spec, error) {
		if err := changeable(name, before, exists); err != nil {
			return nil, err
		}
		// Also if it runs: it may have failed in another process, which then starts it.
		next := inState(before.Spec, deploy.Running)
		if !next.SameRun(before.Spec) {
			next.Ends = nil
		}
		return next, nil
	})
	if err != nil {
		return Status{}, errors.Join(err, p.discard(ctx))
	}
	if err := r.apply(context.WithoutCancel(ctx), d, stored, p); err != nil {
		return Status{}, fmt.Errorf("resume deployment %q: %w", name, err)
	}
	r.awaitAssignment(ctx, d)
	return r.status(ctx, d)
}

// inState is s in another desired state, since now.
func inState(s deploy.Spec, state string) *deploy.Spec {
	s.State, s.Changed = state, time.Now().UTC()
	return &s
}

// changeable tells that a deployment can be changed other than by deleting it.
func changeable(name string, d catalog.Deployment, exists bool) error {
	switch {
	case !exists:
		return notFound(name)
	case d.Err != nil:
		return fmt.Errorf("%w: deployment %q cannot be read from the catalog: delete it and deploy it again: %w", deploy.ErrInvalid, name, d.Err)
	case d.Spec.State == deploy.Deleting:
		return beingDeleted(name)
	}
	return nil
}

func beingDeleted(name string) error {
	return fmt.Errorf("%w: %q is being deleted, try again when it is gone: `millstream status %s` tells what that waits for", deploy.ErrConflict, name, name)
}

func notFound(name string) error {
	return fmt.Errorf("%w: %q: `millstream list` shows what there is", deploy.ErrNotFound, name)
}

// groupInUse explains an engine.ErrGroupActive of a deployment that is not there yet.
func groupInUse(name string, err error) error {
	group := deploy.GroupName(name)
	return fmt.Errorf("another program reads with the consumer group %q: choose another --name, or stop that program (`millstream group describe %s` shows it): %w", group, group, err)
}

// checkGroup refuses a name whose consumer group has members, or offsets of its inputs: they are somebody else's, and would overrule the start position.
func (r *reconciler) checkGroup(ctx context.Context, s deploy.Spec) error {
	group := deploy.GroupName(s.Name)
	members, err := r.engine.Members(ctx, group)
	if err != nil {
		return fmt.Errorf("look up the consumer group %q: %w", group, err)
	}
	if len(members) > 0 {
		return groupInUse(s.Name, fmt.Errorf("%w, among them %q", engine.ErrGroupActive, members[0].Client))
	}
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
