package runtime

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/millstream-io/millstream/runtime/catalog"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/module"
	"github.com/millstream-io/millstream/runtime/worker"
)

// deployment is one deployment in this process. Whoever changes it has its turn.
type deployment struct {
	name    string
	stats   *worker.Stats
	turn    chan struct{} // holds a token while somebody changes the deployment
	pending atomic.Bool   // somebody is on the way to bring it to what is stored
	rates   rates

	mu      sync.Mutex
	spec    deploy.Spec
	offset  int64          // of the catalog's record that spec is from, -1: not stored yet
	report  *module.Report // nil: not known yet
	worker  *worker.Worker // nil: does not run in this process
	failure error          // why it could not start
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

// adopt takes over what is stored and returns what was before.
func (d *deployment) adopt(stored catalog.Deployment) (before deploy.Spec) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before = d.spec
	d.spec, d.offset = stored.Spec, stored.Offset
	return before
}

// stored tells whether the deployment is one that the catalog has or had.
func (d *deployment) stored() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.offset >= 0
}

// works tells whether a worker of this process is at it.
func (d *deployment) works() bool {
	_, _, w, _ := d.snapshot()
	if w == nil {
		return false
	}
	select {
	case <-w.Done():
		return false
	default:
		return true
	}
}

// atRun tells whether the worker of this process, if there is one, is at the bounded run of s.
func (d *deployment) atRun(s deploy.Spec) bool {
	_, _, w, _ := d.snapshot()
	return w == nil || isAtRun(w, s)
}
