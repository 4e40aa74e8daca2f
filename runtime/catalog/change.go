package catalog

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
)

// Change stores a deployment, by a decision that rests on what every process has stored.
//
// decide gets the deployment as it is (exists false: there is none) and all others, and returns
// what it should be; nil changes nothing. It runs again when another process was faster, so it has no effects. When
// the version differs, the replaced one is kept for its history. Module and assets must be there, unless it is to be deleted: ErrNotFound or ErrDamaged if
// not. An error of decide is returned as it is. Change returns what is stored then.
func (c *Catalog) Change(ctx context.Context, name string, decide func(before Deployment, exists bool, others []deploy.Spec) (*deploy.Spec, error)) (Deployment, error) {
	if err := c.lock(ctx); err != nil {
		return Deployment{}, err
	}
	defer c.unlock()
	var refused error
	var next *deploy.Spec
	err := c.log.Update(ctx, c.topic, func(ctx context.Context) ([]engine.Record, error) {
		if err := c.Refresh(ctx); err != nil {
			return nil, err
		}
		before, exists := c.Deployment(name)
		if next, refused = decide(before, exists, c.Others(name)); refused == nil && next != nil && next.State != deploy.Deleting {
			refused = c.Has(*next)
		}
		if refused != nil || next == nil {
			return nil, refused
		}
		return c.changeRecords(before, exists, *next)
	})
	if refused != nil {
		return Deployment{}, refused
	}
	if err != nil {
		return Deployment{}, fmt.Errorf("store deployment %q: %w", name, err)
	}
	if err := c.learn(ctx); err != nil {
		return Deployment{}, err
	}
	after, exists := c.Deployment(name)
	if next != nil && !exists {
		return after, fmt.Errorf("%w: somebody else has deleted %q just now", deploy.ErrConflict, name)
	}
	return after, nil
}

// Others returns the deployments that can be read, but one.
func (c *Catalog) Others(name string) []deploy.Spec {
	var others []deploy.Spec
	for _, d := range c.Deployments() {
		if d.Spec.Name != name && d.Err == nil {
			others = append(others, d.Spec)
		}
	}
	return others
}

// Has tells that everything a deployment refers to is stored and sound. Errors wrap ErrNotFound or ErrDamaged.
func (c *Catalog) Has(s deploy.Spec) error {
	digest, err := deploy.ParseDigest(s.Module)
	if err != nil {
		return err
	}
	if _, err := c.Blob(Module, digest); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(s.Assets)) {
		digest, err := deploy.ParseDigest(s.Assets[name])
		if err != nil {
			return err
		}
		if _, err := c.Blob(Asset, digest); err != nil {
			return fmt.Errorf("asset %q: %w", name, err)
		}
	}
	return nil
}

// changeRecords stores next, keeps what it replaces and forgets versions that are too old.
func (c *Catalog) changeRecords(before Deployment, exists bool, next deploy.Spec) ([]engine.Record, error) {
	record, err := specRecord(deploymentRecordKey(next.Name), next)
	if err != nil {
		return nil, err
	}
	records := []engine.Record{record}
	if !exists || before.Err != nil || before.Spec.Version == next.Version {
		return records, nil
	}
	kept, err := specRecord(versionRecordKey(next.Name, before.Spec.Version), before.Spec)
	if err != nil {
		return nil, err
	}
	records = append(records, kept)
	versions := c.Versions(next.Name)
	for _, v := range versions[:max(0, len(versions)+1-KeptVersions)] {
		records = append(records, tombstone(versionRecordKey(next.Name, v.Spec.Version)))
	}
	return records, nil
}

// Delete forgets a deployment and its versions, if it is the one that was created then; the zero time is any. Without one of the
// name nothing is done. last is what comes ahead of it while the name is still taken, and nobody else changes the catalog: nil, or a function
// that may run again when another process was faster, and whose error keeps the deployment.
func (c *Catalog) Delete(ctx context.Context, name string, created time.Time, last func(context.Context) error) error {
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.unlock()
	err := c.log.Update(ctx, c.topic, func(ctx context.Context) ([]engine.Record, error) {
		if err := c.Refresh(ctx); err != nil {
			return nil, err
		}
		d, exists := c.Deployment(name)
		if !exists || (!created.IsZero() && d.Err == nil && !d.Spec.Created.Equal(created)) {
			return nil, nil
		}
		if last != nil {
			if err := last(ctx); err != nil {
				return nil, err
			}
		}
		records := []engine.Record{tombstone(deploymentRecordKey(name))}
		for _, v := range c.Versions(name) {
			records = append(records, tombstone(versionRecordKey(name, v.Spec.Version)))
		}
		return records, nil
	})
	if err != nil {
		return fmt.Errorf("delete deployment %q: %w", name, err)
	}
	return c.learn(ctx)
}

// learnTimeout bounds how long what was stored takes to be read.
const learnTimeout = 10 * time.Second

// learn reads what was stored just now: a caller who goes away then is not told that it was not.
func (c *Catalog) learn(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), learnTimeout)
	defer cancel()
	return c.Refresh(ctx)
}

func tombstone(key []byte) engine.Record {
	return engine.Record{Key: key, Timestamp: time.Now().UnixMilli()}
}
