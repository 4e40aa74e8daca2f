package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/millstream-io/millstream/runtime/deadletter"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/host"
)

// Errors of Replace.
var (
	// ErrEnded: the worker was stopped or has failed; its release cannot be replaced any more.
	ErrEnded = errors.New("the worker has ended")
	// ErrReplacing: the new release is in place, but not every partition has changed over to it yet.
	ErrReplacing = errors.New("the change to the new release goes on")
)

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
	users    int // the worker, as long as it is the current one, and partitions; releases.mu
}

func (w *Worker) newRelease(r Release) *release {
	n := &release{Release: r, failures: newFailureWindow(r.FailureLimit), users: 1}
	n.ctx, n.replace = context.WithCancel(w.hard)
	return n
}

// releases knows which partition uses which release. It is safe for concurrent use.
type releases struct {
	mu         sync.Mutex
	current    *release // nil: the worker has ended
	spare      *lodger  // of the current release, for the first partition that needs a guest
	partitions map[*partition]bool
	changed    chan struct{} // closed and replaced when a partition comes, goes or changes its release
}

// install makes next the current release; false means that the worker has ended.
func (r *releases) install(next *release, spare *lodger) (old *release, oldSpare *lodger, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current == nil {
		return nil, nil, false
	}
	old, oldSpare = r.current, r.spare
	next.number = old.number + 1
	r.current, r.spare = next, spare
	return old, oldSpare, true
}

// Replace makes r the release of this worker. First it proves that the module
// starts: it makes one guest; errors are the host's (*host.Trap, *host.SetupError), and then
// nothing has changed. From there on each partition changes over at the end of the transaction
// in hand, without leaving the group, those that are idle at once: every record is
// handled by one of the two releases, and its outputs are those of one. Statistics go on;
// the count of failures begins anew.
//
// Replace returns when every partition of this worker has changed over. When ctx or the worker ends
// before, that is ErrReplacing with its reason: the change goes on in the background, and Release.Retired of
// the old release tells when it is through. After any other error r is not in use, and its Retired is not
// called. Inputs and delivery are the worker's and stay. A worker that has ended is ErrEnded, with its failure if it has one.
func (w *Worker) Replace(ctx context.Context, r Release) error {
	if w.soft.Err() != nil {
		return w.endedError()
	}
	next := w.newRelease(r)
	spare, err := next.instantiate(ctx, w.events)
	if err != nil {
		next.replace()
		return fmt.Errorf("start the module of deployment %q: %w", r.Setup.Deployment, err)
	}
	old, oldSpare, ok := w.releases.install(next, spare)
	if !ok {
		next.replace()
		w.closeGuest(spare)
		return w.endedError()
	}
	w.closeGuest(oldSpare)
	w.events.Event(slog.LevelInfo, "replaced by a new release")
	old.replace()
	w.releases.drop(old)
	return w.awaitChange(ctx, next)
}

// awaitChange waits until no partition has a release older than next.
func (w *Worker) awaitChange(ctx context.Context, next *release) error {
	for {
		behind, changed := w.releases.behind(next)
		if behind == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-w.done:
			return fmt.Errorf("%w: %w", ErrReplacing, w.endedError())
		case <-ctx.Done():
			return fmt.Errorf("%w: %d partitions will follow with their next commit: %w", ErrReplacing, behind, ctx.Err())
		}
	}
}

func (w *Worker) endedError() error {
	if err := w.Failure(); err != nil {
		return fmt.Errorf("%w: %w", ErrEnded, err)
	}
	return ErrEnded
}

// behind counts the partitions with an older release; changed is closed at the next change of that.
func (r *releases) behind(next *release) (n int, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.partitions {
		if p.uses.number < next.number {
			n++
		}
	}
	return n, r.changed
}

// adopt notes that p uses the current release from now on, and no guest of the one before any more.
func (r *releases) adopt(p *partition) (now *release) {
	r.mu.Lock()
	before := p.uses
	now = r.current
	now.users++
	r.mu.Unlock()
	if before != nil {
		r.drop(before) // ahead of the news, so that Replace returns behind Retired
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p.uses = now
	r.partitions[p] = true
	r.signal()
	return now
}

// abandon notes that p uses no release any more.
func (r *releases) abandon(p *partition) {
	r.drop(p.uses)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.partitions, p)
	r.signal()
}

// signal tells those who wait in Replace; r.mu is held.
func (r *releases) signal() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// drop takes one user away from a release.
func (r *releases) drop(one *release) {
	r.mu.Lock()
	one.users--
	last := one.users == 0
	r.mu.Unlock()
	if !last {
		return
	}
	one.replace()
	if one.Retired != nil {
		one.Retired()
	}
}

// takeGuest returns the guest made in advance if it is of the release, or a new one.
func (r *releases) takeGuest(ctx context.Context, of *release, source *LogSource) (*lodger, error) {
	r.mu.Lock()
	g := r.spare
	if g != nil && r.current == of {
		r.spare = nil
	} else {
		g = nil
	}
	r.mu.Unlock()
	if g == nil {
		return of.instantiate(ctx, source)
	}
	g.source.Store(source)
	return g, nil
}

// outdated counts the partitions that do not use the current release.
func (r *releases) outdated() int {
	r.mu.Lock()
	current := r.current
	r.mu.Unlock()
	if current == nil {
		return 0
	}
	n, _ := r.behind(current)
	return n
}

// notice is about the failures of the current release.
func (r *releases) notice() string {
	r.mu.Lock()
	current := r.current
	r.mu.Unlock()
	if current == nil {
		return ""
	}
	return current.failures.notice()
}

// end takes the current release away, and the guest of it that nobody took; there will be no other.
func (r *releases) end() (last *release, spare *lodger) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, spare = r.current, r.spare
	r.current, r.spare = nil, nil
	return last, spare
}

// retire ends the releases with the worker.
func (w *Worker) retire() {
	last, spare := w.releases.end()
	w.closeGuest(spare)
	if last != nil {
		w.releases.drop(last)
	}
}

// closeGuest closes a guest; nil is none.
func (w *Worker) closeGuest(g *lodger) {
	if g == nil {
		return
	}
	if err := g.Close(context.WithoutCancel(w.hard)); err != nil {
		w.logger.Warn("closing a guest", "error", err)
	}
}
