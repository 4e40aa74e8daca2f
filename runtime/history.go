package runtime

import (
	"context"
	"fmt"
	"slices"

	"github.com/millstream-io/millstream/runtime/catalog"
	"github.com/millstream-io/millstream/runtime/deploy"
)

// Version is one version of a deployment.
type Version struct {
	Spec    deploy.Spec
	Current bool
	// Changes from the version before; nil for the oldest that is kept.
	Changes []deploy.Change
	// Err: the version cannot be read from the catalog; of Spec only name and version are known.
	Err error
}

// History returns the versions of a deployment that are kept, the newest first. Errors: deploy.ErrNotFound, the engine's.
func (r *Runtime) History(ctx context.Context, name string) ([]Version, error) {
	if err := r.catalog.Refresh(ctx); err != nil {
		return nil, err
	}
	current, ok := r.catalog.Deployment(name)
	if !ok || !r.concerns(name) {
		return nil, notFound(name)
	}
	var history []Version
	for _, stored := range append(r.catalog.Versions(name), current) {
		v := Version{Spec: stored.Spec, Err: stored.Err}
		if n := len(history); n > 0 && v.Err == nil && history[n-1].Err == nil {
			v.Changes = deploy.Diff(history[n-1].Spec, v.Spec)
		}
		history = append(history, v)
	}
	history[len(history)-1].Current = true
	slices.Reverse(history)
	return history, nil
}

// Rollback deploys an older version again, as the next one; version 0 is the one before the
// present one. by is who wants it. Errors: deploy.ErrNotFound and ErrNoVersion, and those of Deploy.
func (r *Runtime) Rollback(ctx context.Context, name string, version int, by string) (Status, error) {
	p, err := r.proposeRollback(ctx, name, version, by)
	if err != nil {
		return Status{}, err
	}
	return r.enact(ctx, p)
}

func (r *Runtime) proposeRollback(ctx context.Context, name string, version int, by string) (*proposal, error) {
	if err := r.catalog.Refresh(ctx); err != nil {
		return nil, err
	}
	current, exists := r.catalog.Deployment(name)
	if err := changeable(name, current, exists); err != nil {
		return nil, err
	}
	versions := r.catalog.Versions(name)
	if len(versions) == 0 {
		return nil, fmt.Errorf("%w: deployment %q has only the version %d", deploy.ErrNoVersion, name, current.Spec.Version)
	}
	if version == 0 {
		version = versions[len(versions)-1].Spec.Version
	}
	i := slices.IndexFunc(versions, func(d catalog.Deployment) bool { return d.Spec.Version == version })
	switch {
	case version == current.Spec.Version:
		return nil, fmt.Errorf("%w: deployment %q is at version %d: name an older one, `millstream history %s` shows them", deploy.ErrConflict, name, version, name)
	case i < 0:
		return nil, fmt.Errorf("%w: deployment %q has no version %d, the oldest that is kept is %d: `millstream history %s` shows them",
			deploy.ErrNoVersion, name, version, versions[0].Spec.Version, name)
	case versions[i].Err != nil:
		return nil, fmt.Errorf("%w: version %d of deployment %q cannot be read: %w", deploy.ErrNoVersion, version, name, versions[i].Err)
	}
	s := versions[i].Spec
	s.State, s.By, s.Rollback = "", by, version
	return r.propose(ctx, s, DeployOptions{})
}
