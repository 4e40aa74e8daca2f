package catalog

import (
	"context"
	"fmt"
	"time"

	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/module"
)

// Collect writes tombstones for blobs that no deployment and no kept version refers to and that
// were put longer than GracePeriod ago; it returns how many.
func (c *Catalog) Collect(ctx context.Context) (int, error) {
	if err := c.lock(ctx); err != nil {
		return 0, err
	}
	defer c.unlock()
	return c.collect(ctx, time.Now().Add(-GracePeriod))
}

// collect forgets garbage put before the given time. The caller has the right to write. That
// a blob is garbage is decided with what every process has stored, in one update: a
// deployment stored before it keeps its module, one stored after it finds that the module is gone.
func (c *Catalog) collect(ctx context.Context, before time.Time) (int, error) {
	if len(c.garbage(before)) == 0 {
		return 0, nil
	}
	var garbage []blobKey
	err := c.log.Update(ctx, c.topic, func(ctx context.Context) ([]engine.Record, error) {
		if err := c.Refresh(ctx); err != nil {
			return nil, err
		}
		garbage = c.garbage(before)
		var tombstones []engine.Record
		for _, key := range garbage {
			for i := range c.partCount(key) {
				tombstones = append(tombstones, tombstone(partRecordKey(key, i)))
			}
		}
		return tombstones, nil
	})
	if err != nil {
		return 0, fmt.Errorf("forget unused modules and assets: %w", err)
	}
	return len(garbage), c.Refresh(ctx)
}

// makeRoom fails unless size more bytes can be stored, after forgetting all garbage if that is what it takes.
func (c *Catalog) makeRoom(ctx context.Context, size int) error {
	if c.stored()+size <= MaxStoredBytes {
		return nil
	}
	if _, err := c.collect(ctx, time.Now().Add(time.Second)); err != nil {
		return err
	}
	if stored := c.stored(); stored+size > MaxStoredBytes {
		return fmt.Errorf("%w: %d bytes of modules and assets are stored, %d more would be over the limit of %d: delete a deployment that is no longer needed",
			ErrFull, stored, size, MaxStoredBytes)
	}
	return nil
}

func (c *Catalog) stored() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.storedBytes
}

// garbage lists the blobs without a deployment or version. While one of these cannot be
// read, what it refers to is unknown, so nothing is garbage.
func (c *Catalog) garbage(before time.Time) []blobKey {
	c.mu.RLock()
	defer c.mu.RUnlock()
	used := make(map[string]bool)
	use := func(s deploy.Spec) {
		used[string(Module)+s.Module] = true
		for _, a := range s.Assets {
			used[string(Asset)+a] = true
		}
	}
	for _, d := range c.deployments {
		if d.Err != nil {
			return nil
		}
		use(d.Spec)
	}
	for _, versions := range c.versions {
		for _, v := range versions {
			if v.Err != nil {
				return nil
			}
			use(v.Spec)
		}
	}
	var garbage []blobKey
	for key, b := range c.blobs {
		if !used[string(key.kind)+key.digest.String()] && b.put.Before(before) {
			garbage = append(garbage, key)
		}
	}
	return garbage
}

// partCount is how many parts of a blob there can be records of.
func (c *Catalog) partCount(key blobKey) int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	b := c.blobs[key]
	if b.bytes == nil {
		return maxParts
	}
	return max(1, (len(b.bytes)+PartBytes-1)/PartBytes)
}

// Digests returns the digests of the sound blobs of a kind; for tests and for listing.
func (c *Catalog) Digests(kind Kind) []module.Digest {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var digests []module.Digest
	for key, b := range c.blobs {
		if key.kind == kind && b.bytes != nil {
			digests = append(digests, key.digest)
		}
	}
	return digests
}
