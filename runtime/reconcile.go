package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/millstream-io/millstream/runtime/catalog"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/runtime/module"
	"github.com/millstream-io/millstream/runtime/worker"
)

const (
	// retryInterval is between tries to start what did not start for a reason that may go by itself.
	retryInterval = 5 * time.Second
	// followPause is how long the catalog is left alone after its log failed.
	followPause = time.Second
)

// reconciler makes this process do what the catalog says.
type reconciler struct {
	preparer
	registry
	only   string
	starts chan struct{} // places for deployments that are brought to what is stored at the same time
}

// follow reads what any process stores in the catalog. After a failure everything is read
// again: a deletion may have been compacted away while nobody looked.
func (r *reconciler) follow() {
	for {
		err := r.catalog.Follow(r.ctx)
		for err != nil && r.ctx.Err() == nil {
			r.logger.Warn("the catalog cannot be followed, trying again", "error", err)
			if !r.sleep(followPause) {
				return
			}
			err = r.catalog.Reload(r.ctx)
		}
		if r.ctx.Err() != nil {
			return
		}
	}
}

// reconcile brings the deployments of this process to what is stored, again after every change.
func (r *reconciler) reconcile() {
	ticker := time.NewTicker(retryInterval)
	defer ticker.Stop()
	retry := false
	for {
		changed := r.catalog.Changed()
		r.compare(retry)
		select {
		case <-changed:
			retry = false
		case now := <-ticker.C:
			retry = true
			for _, d := range r.all() {
				if _, _, w, _ := d.snapshot(); w != nil {
					d.rates.note(w.Snapshot().Partitions, now)
				}
			}
		case <-r.ctx.Done():
			return
		}
	}
}

// compare sends somebody to each deployment that is not as it is stored.
func (r *reconciler) compare(retry bool) {
	for _, stored := range r.catalog.Deployments() {
		name := stored.Spec.Name
		if !r.concerns(name) {
			continue
		}
		r.mu.Lock()
		d, ok := r.deployments[name]
		if !ok && !r.closed {
			d = r.newDeployment(stored.Spec)
			r.deployments[name] = d
		}
		r.mu.Unlock()
		if d != nil && r.behind(d, stored, retry) {
			r.settleLater(d)
		}
	}
	for _, d := range r.all() {
		if _, ok := r.catalog.Deployment(d.name); !ok {
			r.settleLater(d)
		}
	}
}

// concerns tells whether a deployment is one of this process.
func (r *reconciler) concerns(name string) bool { return r.only == "" || r.only == name }

// behind tells whether something has to be done about a deployment: it was stored anew, or what kept it from starting may be over.
func (r *reconciler) behind(d *deployment, stored catalog.Deployment, retry bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.offset != stored.Offset || retry && stored.Spec.State == deploy.Deleting {
		return true
	}
	if d.failure == nil || stored.Err != nil || d.spec.State != deploy.Running {
		return false
	}
	if errors.Is(d.failure, catalog.ErrNotFound) || errors.Is(d.failure, catalog.ErrDamaged) {
		return r.catalog.Has(d.spec) == nil
	}
	return retry && !faulty(d.failure)
}

// settleLater brings a deployment to what is stored, in the background, when its turn has come.
func (r *reconciler) settleLater(d *deployment) {
	if d.pending.Swap(true) {
		return
	}
	r.inBackground(func() {
		if d.lock(r.ctx) != nil {
			return
		}
		defer d.unlock()
		select {
		case r.starts <- struct{}{}:
			defer func() { <-r.starts }()
		case <-r.ctx.Done():
			return
		}
		d.pending.Store(false)
		r.settle(d)
	})
}

// settle brings a deployment to what is stored. The caller has its turn.
func (r *reconciler) settle(d *deployment) {
	if current, err := r.lookup(d.name); err != nil || current != d {
		r.compare(false) // it was deleted while this one waited, and may be there again
		return
	}
	stored, ok := r.catalog.Deployment(d.name)
	switch {
	case ok && !r.behind(d, stored, true):
	case ok && stored.Spec.State == deploy.Deleting:
		r.settleDeletion(d, stored)
	case ok:
		if err := r.apply(r.ctx, d, stored, nil); err != nil && r.ctx.Err() == nil {
			r.logger.Error("deployment is not as it should be", "deployment", d.name, "version", stored.Spec.Version, "error", err)
		}
	default:
		if err := r.stop(r.ctx, d); err != nil && r.ctx.Err() == nil {
			r.logger.Warn("stopping a deployment that was deleted", "deployment", d.name, "error", err)
		}
		r.remove(d)
	}
}

// settleDeletion stops a deployment that is being deleted. Should who deletes it have ended in the middle of that, somebody else
// brings it to its end when the group is empty.
func (r *reconciler) settleDeletion(d *deployment, stored catalog.Deployment) {
	again := d.adopt(stored).State == deploy.Deleting
	if err := r.stop(r.ctx, d); err != nil && r.ctx.Err() == nil {
		r.logger.Warn("stopping a deployment that is deleted", "deployment", d.name, "error", err)
	}
	if !again || r.only != "" {
		return
	}
	if err := r.finishDeletion(r.ctx, d); err != nil {
		d.setFailure(err)
		r.logger.Debug("deployment cannot be deleted yet", "deployment", d.name, "error", err)
	}
}

// apply makes this process do what is stored: start, swap, restart, stop, or nothing. p is what was
// prepared for that, or nil. The error is also the deployment's failure. The caller has the deployment's turn.
func (r *reconciler) apply(ctx context.Context, d *deployment, stored catalog.Deployment, p *prepared) error {
	before := d.adopt(stored)
	err := r.act(ctx, d, before, stored, p)
	if err != nil && ctx.Err() == nil {
		d.setFailure(err)
	}
	return err
}

func (r *reconciler) act(ctx context.Context, d *deployment, before deploy.Spec, stored catalog.Deployment, p *prepared) error {
	s := stored.Spec
	if p != nil && (p.spec.Version != s.Version || !p.spec.Created.Equal(s.Created)) {
		if err := p.discard(ctx); err != nil {
			return err
		}
		p = nil // somebody was faster
	}
	if p == nil && (r.launcher != nil || s.State != deploy.Running) {
		r.describe(d, s)
	}
	same := before.Version == s.Version && before.Created.Equal(s.Created)
	works := d.works() && d.atRun(s)
	switch {
	case stored.Err != nil:
		return errors.Join(fmt.Errorf("%w; delete it and deploy it again", stored.Err), r.stop(ctx, d), p.discard(ctx))
	case s.State != deploy.Running:
		if p != nil {
			d.setReport(p.report)
		}
		return errors.Join(r.stop(ctx, d), p.discard(ctx))
	case r.launcher != nil:
		// The process follows the catalog, too: it is enough that there is one.
		r.launcher.Start(d.name)
		if p != nil {
			d.setReport(p.report)
		}
		d.setFailure(nil)
		return nil
	case works && same:
		d.setFailure(nil)
		return p.discard(ctx)
	case works && before.Created.Equal(s.Created) && s.Swaps(before):
		return r.upgrade(ctx, d, s, p)
	}
	return r.restart(ctx, d, s, p)
}

// upgrade swaps, and if that does not go, restarts.
func (r *reconciler) upgrade(ctx context.Context, d *deployment, s deploy.Spec, p *prepared) error {
	var err error
	if p == nil {
		if p, err = r.prepare(ctx, s, d.stats); err != nil {
			// The process that stored it has proved it. What runs here is not what is stored: it ends.
			return errors.Join(err, r.stop(ctx, d))
		}
	}
	if err := r.swap(ctx, d, p); err != nil {
		if r.ctx.Err() != nil { // this process stops
			r.logger.Debug("deployment is stopped before it was swapped", "deployment", d.name, "version", s.Version, "error", err)
			return err
		}
		r.logger.Warn("deployment cannot be swapped, it is restarted", "deployment", d.name, "version", s.Version, "error", err)
		return r.restart(ctx, d, s, nil)
	}
	r.event(d.name, slog.LevelInfo, fmt.Sprintf("version %d runs in %s", s.Version, processName()))
	return nil
}

// restart ends what runs and starts s from the committed offsets.
func (r *reconciler) restart(ctx context.Context, d *deployment, s deploy.Spec, p *prepared) error {
	if err := r.stop(ctx, d); err != nil {
		return errors.Join(err, p.discard(ctx))
	}
	if s.OnError == deploy.OnErrorDeadLetter {
		if err := r.ensureDeadLetters(ctx, s); err != nil {
			return errors.Join(err, p.discard(ctx))
		}
	}
	if p == nil {
		var err error
		if p, err = r.prepare(ctx, s, d.stats); err != nil {
			return err
		}
	}
	r.launch(d, p)
	return nil
}

// awaitCompletion stores that a bounded run is through.
func (r *reconciler) awaitCompletion(d *deployment, w *worker.Worker) {
	select {
	case <-w.Done():
	case <-r.ctx.Done():
		return
	}
	for w.Completed() {
		run, _, current, _ := d.snapshot()
		if current != w {
			return
		}
		_, err := r.catalog.Change(r.ctx, d.name, func(before catalog.Deployment, exists bool, _ []deploy.Spec) (*deploy.Spec, error) {
			now := before.Spec
			// A run that was begun anew meanwhile is another one.
			if !exists || before.Err != nil || now.State != deploy.Running || !now.Changed.Equal(run.Changed) || !isAtRun(w, now) {
				return nil, nil
			}
			now.State, now.Changed = deploy.Completed, time.Now().UTC()
			return &now, nil
		})
		if err == nil || r.ctx.Err() != nil {
			return
		}
		r.logger.Warn("a completed run could not be noted, trying again", "deployment", d.name, "error", err)
		if !r.sleep(retryInterval) {
			return
		}
	}
}

// faulty tells errors that the same module, bytes and configuration will give again, from those of the log and of the moment.
func faulty(err error) bool {
	_, trap := errors.AsType[*host.Trap](err)
	_, setup := errors.AsType[*host.SetupError](err)
	return trap || setup || errors.Is(err, module.ErrRefused) || errors.Is(err, catalog.ErrFormat) || errors.Is(err, deploy.ErrInvalid)
}
