package runtime

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/worker"
)

// registry is the deployments of this process, and what runs in its background. It is safe for concurrent use.
type registry struct {
	ctx        context.Context // of what runs in the background; ends with Close
	cancel     context.CancelFunc
	hurry      context.Context // ends when Close may wait no longer for guests
	stopHurry  context.CancelFunc
	background sync.WaitGroup
	metrics    *worker.Metrics

	mu          sync.Mutex
	closed      bool
	deployments map[string]*deployment
}

// inBackground runs f until Close, which waits for it; after Close it does nothing.
func (r *registry) inBackground(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.background.Go(f)
	}
}

func (r *registry) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.ctx.Done():
		return false
	}
}

func (r *registry) newDeployment(s deploy.Spec) *deployment {
	return &deployment{name: s.Name, spec: s, offset: -1, stats: r.metrics.NewStats(s.Name), turn: make(chan struct{}, 1)}
}

// claim takes the turn of a deployment, which need not exist yet.
func (r *registry) claim(ctx context.Context, s deploy.Spec) (*deployment, error) {
	for {
		r.mu.Lock()
		if r.closed {
			r.mu.Unlock()
			return nil, ErrClosed
		}
		d, ok := r.deployments[s.Name]
		if !ok {
			d = r.newDeployment(deploy.Spec{Name: s.Name})
			d.turn <- struct{}{}
			r.deployments[s.Name] = d
		}
		r.mu.Unlock()
		if !ok {
			return d, nil
		}
		if err := d.lock(ctx); err != nil {
			return nil, err
		}
		if again, err := r.lookup(s.Name); err == nil && again == d {
			return d, nil
		}
		d.unlock() // it was deleted while this one waited
	}
}

// remove gives the name of a deployment free.
func (r *registry) remove(d *deployment) {
	r.mu.Lock()
	delete(r.deployments, d.name)
	r.mu.Unlock()
	r.metrics.Forget(d.name)
}

func (r *registry) lookup(name string) (*deployment, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrClosed
	}
	d, ok := r.deployments[name]
	if !ok {
		return nil, notFound(name)
	}
	return d, nil
}

// all returns the deployments by name.
func (r *registry) all() []*deployment {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*deployment, 0, len(r.deployments))
	for _, d := range r.deployments {
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b *deployment) int { return cmp.Compare(a.name, b.name) })
	return all
}

// take returns a deployment with its turn.
func (r *reconciler) take(ctx context.Context, name string) (*deployment, error) {
	d, err := r.find(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := d.lock(ctx); err != nil {
		return nil, err
	}
	// It may have been deleted, or its Deploy have failed, while this one waited.
	if again, err := r.lookup(name); err != nil || again != d {
		d.unlock()
		return nil, notFound(name)
	}
	return d, nil
}

// find returns a deployment, also one that another process has stored just now.
func (r *reconciler) find(ctx context.Context, name string) (*deployment, error) {
	d, err := r.lookup(name)
	if !errors.Is(err, deploy.ErrNotFound) {
		return d, err
	}
	if err := r.catalog.Refresh(ctx); err != nil {
		return nil, err
	}
	if _, ok := r.catalog.Deployment(name); ok {
		r.compare(false)
	}
	return r.lookup(name)
}
