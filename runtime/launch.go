package runtime

import (
	"context"
	"errors"
	"time"

	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/worker"
)

// launch starts what was prepared. The caller has the deployment's turn.
func (r *reconciler) launch(d *deployment, p *prepared) {
	d.mu.Lock()
	d.worker, d.report, d.failure = p.worker, p.report, nil
	d.mu.Unlock()
	if r.launcher != nil {
		r.launcher.Start(d.name)
		return
	}
	p.worker.Start()
	r.inBackground(func() { r.awaitCompletion(d, p.worker) })
}

// swapWait is how long an upgrade is waited for until all partitions of this process have changed over; it goes on behind that.
const swapWait = 30 * time.Second

// swap lets the worker go on with what was prepared, at the next end of a transaction. Errors leave what runs as it is.
func (r *reconciler) swap(ctx context.Context, d *deployment, p *prepared) error {
	_, _, w, _ := d.snapshot()
	release := p.release
	done := p.use()
	release.Retired = done
	if err := p.discard(ctx); err != nil {
		done()
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, swapWait)
	defer cancel()
	defer context.AfterFunc(r.ctx, cancel)()
	if err := w.Replace(ctx, release); err != nil && !errors.Is(err, worker.ErrReplacing) {
		done()
		return err
	}
	d.mu.Lock()
	d.report, d.failure = p.report, nil
	d.mu.Unlock()
	return nil
}

// assignmentWait is how long Deploy and Resume wait for the group to hand out its partitions.
const assignmentWait = 2 * time.Second

// awaitAssignment waits a little until the deployment has its partitions; the request's context and Close end that.
func (r *reconciler) awaitAssignment(ctx context.Context, d *deployment) {
	if r.launcher != nil {
		r.awaitLaunch(ctx, d)
		return
	}
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
	case <-ctx.Done():
	case <-r.ctx.Done():
	}
}

// launchWait is how long Deploy and Resume wait for a process to run the version, launchPause how long between two looks.
const (
	launchWait  = 5 * time.Second
	launchPause = 50 * time.Millisecond
)

func (r *reconciler) awaitLaunch(ctx context.Context, d *deployment) {
	spec, _, _, _ := d.snapshot()
	if spec.State != deploy.Running {
		return
	}
	for deadline := time.Now().Add(launchWait); time.Now().Before(deadline) && ctx.Err() == nil; {
		if l := r.launcher.Status(d.name); l.Version == spec.Version && l.Phase != worker.PhaseStarting {
			return
		}
		if !r.sleep(launchPause) {
			return
		}
	}
}

// stopTimeout is how long what is in hand may take when a deployment is stopped; then it is dropped, and read again by who comes next.
const stopTimeout = 30 * time.Second

// stop ends what runs, if something does. What is in hand gets its time, also when the caller goes away; when the
// runtime is closed, the time that there is for that. The caller has the deployment's turn.
func (r *reconciler) stop(ctx context.Context, d *deployment) error {
	d.mu.Lock()
	w := d.worker
	d.worker, d.failure = nil, nil
	d.mu.Unlock()
	began := time.Now()
	patient, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	defer context.AfterFunc(r.hurry, cancel)()
	var err error
	switch {
	case r.launcher != nil:
		err = r.launcher.Stop(patient, d.name)
	case w != nil:
		err = w.Stop(patient)
	}
	if err != nil && patient.Err() != nil {
		r.logger.Warn("what a deployment had in hand was dropped, and will be read again: it did not end in time", "deployment", d.name, "waited", time.Since(began).Round(time.Millisecond).String())
		return nil
	}
	return err
}
