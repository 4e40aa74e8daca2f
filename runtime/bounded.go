package runtime

import (
	"context"
	"fmt"
	"maps"

	"github.com/millstream-io/millstream/runtime/catalog"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/worker"
)

// endsOf is where the bounded run of s ends: the first worker of the run, in whatever process, finds and stores that, and
// all others, also those that go on with it after a restart, end there.
func (r *preparer) endsOf(ctx context.Context, s deploy.Spec, find func(context.Context) (worker.Ends, error)) (worker.Ends, error) {
	if err := r.catalog.Refresh(ctx); err != nil {
		return nil, err
	}
	stored, exists := r.catalog.Deployment(s.Name)
	if exists && runs(stored, s) && stored.Spec.Ends != nil {
		return fromSpec(stored.Spec.Ends), nil
	}
	found, err := find(ctx)
	if err != nil {
		return nil, err
	}
	stored, err = r.catalog.Change(ctx, s.Name, func(before catalog.Deployment, exists bool, _ []deploy.Spec) (*deploy.Spec, error) {
		if !exists || !runs(before, s) || before.Spec.Ends != nil {
			return nil, nil
		}
		next := before.Spec
		next.Ends = toSpec(found)
		return &next, nil
	})
	switch {
	case err != nil:
		return nil, err
	case !runs(stored, s) || stored.Spec.Ends == nil:
		return nil, fmt.Errorf("%w: the run of deployment %q is over", deploy.ErrConflict, s.Name)
	}
	return fromSpec(stored.Spec.Ends), nil
}

// runs tells whether what is stored runs, and to the end that s has.
func runs(stored catalog.Deployment, s deploy.Spec) bool {
	return stored.Err == nil && stored.Spec.State == deploy.Running && stored.Spec.Created.Equal(s.Created) && s.SameRun(stored.Spec)
}

// isAtRun tells whether the bounded run that a worker is at is that of s: it may have missed that one ended and another began.
// Any worker that knows an end has it from what is stored.
func isAtRun(w *worker.Worker, s deploy.Spec) bool {
	ends := w.Ends()
	return ends == nil || s.Ends != nil && maps.EqualFunc(ends, fromSpec(s.Ends), worker.End.Equal)
}

func toSpec(ends worker.Ends) map[string]deploy.TopicEnd {
	stored := make(map[string]deploy.TopicEnd, len(ends))
	for input, end := range ends {
		stored[input] = deploy.TopicEnd(end)
	}
	return stored
}

func fromSpec(stored map[string]deploy.TopicEnd) worker.Ends {
	ends := make(worker.Ends, len(stored))
	for input, end := range stored {
		ends[input] = worker.End(end)
	}
	return ends
}
