package catalog

import (
	"context"
	"fmt"
	"time"

	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/module"
)

// Collect writes tombstones for blobs that no deployment refers to and that
// were put longer than GracePeriod ago; it returns how many.
func (c *Catalog) Collect(ctx context.Context) (int, error) {
	if err := c.lock(ctx); err != nil {
		return 0, err
	}
	defer c.unlock()
	return c.collect(ctx, time.Now().Add(-GracePeriod))
}

// collect forgets garbage put before the given time. The caller has the right to write.
func (c *Catalog) collect(ctx context.Context, before time.Time) (int, error) {
	garbage := c.garbage(before)
	for i, key := range garbage {
		if err := c.bury(ctx, key); err != nil {
			return i, err
		}
	}
	return len(garbage), nil
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

// garbage lists the blobs without a deployment. While a deployment cannot be
// read, what it refers to is unknown, so nothing is garbage.
func (c *Catalog) garbage(before time.Time) []blobKey {
	c.mu.RLock()
	defer c.mu.RUnlock()
	used := make(map[string]bool)
	for _, d := range c.deployments {
		if d.Err != nil {
			return nil
		}
		used[string(Module)+d.Spec.Module] = true
		for _, a := range d.Spec.Assets {
			used[string(Asset)+a] = true
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

// bury writes a tombstone for every part the blob can have had.
func (c *Catalog) bury(ctx context.Context, key blobKey) error {
	parts := c.partCount(key)
	now := time.Now().UnixMilli()
	tombstones := make([]engine.Record, parts)
	for i := range tombstones {
		tombstones[i] = engine.Record{Key: partRecordKey(key, i), Timestamp: now}
	}
	if err := c.log.Append(ctx, c.topic, tombstones); err != nil {
		return fmt.Errorf("forget %v: %w", key, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(key)
	return nil
}

func (c *Catalog) partCount(key blobKey) int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	b := c.blobs[key]
	if b.err != nil {
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
		if key.kind == kind && b.err == nil {
			digests = append(digests, key.digest)
		}
	}
	return digests
}
