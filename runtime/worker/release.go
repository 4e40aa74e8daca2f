package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/millstream-io/millstream/runtime/deadletter"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/host"
)

// ErrEnded: the worker was stopped or has failed; its release cannot be replaced any more.
var ErrEnded = errors.New("the worker has ended")

// Release is one version of a deployment.
type Release struct {
	Program Program
	Setup   host.Setup
	// Outputs are the topics by output index.
	Outputs []string
	// OnError is one of deploy's error policies.
	OnError string
	// DeadLetters is the topic of failed records under the dead-letter policy.
	DeadLetters string
	Source      deadletter.Source
	// Limits are the guest's; the sizes of batches stay within FuelPerCall and WallTime.
	Limits host.Limits
	// Retries is how often a record on which the guest trapped is tried again, each time with a fresh guest.
	Retries int
	// FailureLimit stops the worker when too many records fail.
	FailureLimit deploy.FailureLimit
	// Retired is called once, when the last guest of the release is closed and no other will be made: after it
	// was replaced everywhere in this worker, or after the worker has ended. The program may be closed then. Nil: nobody asks.
	Retired func()
}

// policyStops tells whether the first failed record ends the deployment.
func (r *Release) policyStops() bool { return r.OnError == deploy.OnErrorStop }

// release is a Release in use.
type release struct {
	Release
	number   int             // grows with every release of the worker
	failures *failureWindow  // of all partitions
	ctx      context.Context // ends when the release is replaced
	replace  context.CancelFunc
	users    int // the worker, as long as it is the current one, and partitions; Worker.mu
}

func (w *Worker) newRelease(r Release) *release {
	n := &release{Release: r, failures: newFailureWindow(r.FailureLimit), users: 1}
	n.ctx, n.replace = context.WithCancel(w.hard)
	return n
}

// Replace makes r the release of this worker. First it proves that the module
// starts: it makes one guest; errors are the host's (*host.Trap, *host.SetupError), and then
// nothing has changed. From there on each partition changes over at the end of the transaction
// in hand, without leaving the group, those that are idle at once: every record is
// handled by one of the two releases, and its outputs are those of one. Statistics go on;
// the count of failures begins anew.
//
// Replace returns when every partition of this worker has changed over. When ctx ends
// before, its error is returned and the change goes on in the background: Release.Retired of the
// old one tells when it is through. Inputs and delivery are the worker's and stay. A worker that
// ends meanwhile is ErrEnded, with its failure if it has one.
func (w *Worker) Replace(ctx context.Context, r Release) error {
	next := w.newRelease(r)
	spare, err := w.instantiate(ctx, next, w.events)
	if err != nil {
		next.replace()
		return fmt.Errorf("start the module of deployment %q: %w", r.Setup.Deployment, err)
	}
	w.mu.Lock()
	if w.soft.Err() != nil || w.current == nil {
		w.mu.Unlock()
		next.replace()
		w.closeGuest(spare)
		return w.endedError()
	}
	old, oldSpare := w.current, w.spare
	next.number = old.number + 1
	w.current, w.spare = next, spare
	w.mu.Unlock()
	if oldSpare != nil {
		w.closeGuest(oldSpare)
	}
	w.events.Event(slog.LevelInfo, "replaced by a new release")
	old.replace()
	w.drop(old)
	return w.awaitChange(ctx, next)
}

// awaitChange waits until no partition has a release older than next.
func (w *Worker) awaitChange(ctx context.Context, next *release) error {
	for {
		behind, changed := w.behind(next)
		if behind == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-w.done:
			return w.endedError()
		case <-ctx.Done():
			return fmt.Errorf("%d partitions have not changed over to the new release yet, they will at their next commit: %w", behind, ctx.Err())
		}
	}
}

// behind counts the partitions with an older release; changed is closed at the next change of that.
func (w *Worker) behind(next *release) (n int, changed <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p := range w.partitions {
		if p.uses.number < next.number {
			n++
		}
	}
	return n, w.changed
}

func (w *Worker) endedError() error {
	if err := w.Failure(); err != nil {
		return fmt.Errorf("%w: %w", ErrEnded, err)
	}
	return ErrEnded
}

// adopt notes that p uses the current release from now on, instead of the one before.
func (w *Worker) adopt(p *partition) (now *release) {
	w.mu.Lock()
	before := p.uses
	now = w.current
	now.users++
	p.uses = now
	w.partitions[p] = true
	w.signal()
	w.mu.Unlock()
	if before != nil {
		w.drop(before)
	}
	return now
}

// abandon notes that p uses no release any more.
func (w *Worker) abandon(p *partition) {
	w.mu.Lock()
	delete(w.partitions, p)
	w.signal()
	w.mu.Unlock()
	w.drop(p.uses)
}

// signal tells those who wait in Replace; w.mu is held.
func (w *Worker) signal() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// drop takes one user away from a release.
func (w *Worker) drop(r *release) {
	w.mu.Lock()
	r.users--
	last := r.users == 0
	w.mu.Unlock()
	if !last {
		return
	}
	r.replace()
	if r.Retired != nil {
		r.Retired()
	}
}

// takeGuest returns the guest made in advance if it is of the release, or a new one.
func (w *Worker) takeGuest(ctx context.Context, r *release, source *LogSource) (*lodger, error) {
	w.mu.Lock()
	g := w.spare
	if g != nil && w.current == r {
		w.spare = nil
	} else {
		g = nil
	}
	w.mu.Unlock()
	if g == nil {
		return w.instantiate(ctx, r, source)
	}
	g.source.Store(source)
	return g, nil
}

// retire ends the current release with the worker, and closes the guest that nobody took.
func (w *Worker) retire() {
	w.mu.Lock()
	g, r := w.spare, w.current
	w.spare, w.current = nil, nil
	w.mu.Unlock()
	if g != nil {
		w.closeGuest(g)
	}
	if r != nil {
		w.drop(r)
	}
}

func (w *Worker) closeGuest(g *lodger) {
	if err := g.Close(context.WithoutCancel(w.hard)); err != nil {
		w.logger.Warn("closing a guest", "error", err)
	}
}
