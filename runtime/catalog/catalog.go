// Package catalog keeps modules, assets and deployments: as records of one
// compacted topic, which is the truth, and replayed in memory. FORMAT.md in this
// directory defines the records byte for byte.
//
// Durability: what Put… and Delete… have answered with nil survives any end of
// the process; after an error the change may or may not be there, and may be
// tried again. A damaged record concerns only the one module, asset or
// deployment it belongs to, is reported for it, and is never skipped silently.
//
// Memory: the catalog holds the bytes of its blobs (modules and assets), at most
// MaxStoredBytes in all. Blobs that no deployment has referred to for
// GracePeriod are forgotten by Collect.
//
// A Catalog is safe for concurrent use; writers take turns. It expects to be the only writer of its topic.
package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/module"
)

// Bounds of the catalog.
const (
	// PartBytes is how much of a blob goes into one record: with key and batch header it stays below Kafka's
	// default max.message.bytes (1,048,588).
	PartBytes = 768 << 10
	// MaxBlobBytes bounds one module or asset.
	MaxBlobBytes = 16 << 20
	// MaxStoredBytes bounds all modules and assets together.
	MaxStoredBytes = 512 << 20
	// GracePeriod is how long a blob without a deployment stays: the time between an upload and its deployment.
	GracePeriod = time.Hour
)

// Errors of the catalog.
var (
	// ErrNotFound: no such module or asset; upload it.
	ErrNotFound = errors.New("not in the catalog")
	// ErrDamaged: the stored bytes are incomplete or not what their digest says; uploading them again mends it.
	ErrDamaged = errors.New("damaged in the catalog")
	// ErrFull: MaxStoredBytes is reached, or a blob is over MaxBlobBytes.
	ErrFull = errors.New("catalog is full")
	// ErrFormat: the record was written by a newer version, or is no record of a catalog.
	ErrFormat = errors.New("unreadable catalog record")
)

// Kind is what a blob is.
type Kind string

// The kinds of blobs; they are the first element of the record key.
const (
	Module Kind = "module"
	Asset  Kind = "asset"
)

const deploymentKind = "deployment"

// Log is what the catalog needs of an engine.
type Log interface {
	EnsureTopic(ctx context.Context, name string, partitions int, configs map[string]string) error
	Append(ctx context.Context, topic string, records []engine.Record) error
	ReadAll(ctx context.Context, topic string, from engine.Positions, f func(partition int32, r engine.Record) error) (engine.Positions, error)
}

// Deployment is a stored deployment. When its record cannot be read, only
// Spec.Name is set and Err says why.
type Deployment struct {
	Spec deploy.Spec
	Err  error
}

// Catalog is an open catalog.
type Catalog struct {
	log   Log
	topic string
	turn  chan struct{} // holds one token: the right to write

	mu          sync.RWMutex
	blobs       map[blobKey]*blob
	storedBytes int
	deployments map[string]Deployment
}

type blobKey struct {
	kind   Kind
	digest module.Digest
}

func (k blobKey) String() string { return string(k.kind) + " " + k.digest.String() }

// blob is one module or asset. Parts are kept until all are there, then bytes.
type blob struct {
	bytes []byte // nil: incomplete or damaged
	err   error
	parts [][]byte // index = part; nil entries are missing
	put   time.Time
}

// Open creates the topic if need be and replays it.
func Open(ctx context.Context, log Log, topic string) (*Catalog, error) {
	c := &Catalog{
		log: log, topic: topic, turn: make(chan struct{}, 1),
		blobs: map[blobKey]*blob{}, deployments: map[string]Deployment{},
	}
	c.turn <- struct{}{}
	err := log.EnsureTopic(ctx, topic, 1, map[string]string{
		"cleanup.policy":    "compact",
		"max.message.bytes": strconv.Itoa(PartBytes + 256<<10),
	})
	if err != nil {
		return nil, fmt.Errorf("catalog topic %s: %w", topic, err)
	}
	_, err = log.ReadAll(ctx, topic, nil, func(_ int32, r engine.Record) error {
		c.replay(r)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read catalog topic %s: %w", topic, err)
	}
	for k, b := range c.blobs {
		c.assemble(k, b)
	}
	return c, nil
}

// Deployments returns all deployments by name, readable or not.
func (c *Catalog) Deployments() []Deployment {
	c.mu.RLock()
	defer c.mu.RUnlock()
	list := make([]Deployment, 0, len(c.deployments))
	for _, d := range c.deployments {
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b Deployment) int { return strings.Compare(a.Spec.Name, b.Spec.Name) })
	return list
}

// Blob returns the bytes of a module or asset; the caller must not change
// them. Errors wrap ErrNotFound or ErrDamaged.
func (c *Catalog) Blob(kind Kind, d module.Digest) ([]byte, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	key := blobKey{kind, d}
	b, ok := c.blobs[key]
	if !ok {
		return nil, fmt.Errorf("%v: %w: upload it", key, ErrNotFound)
	}
	return b.bytes, b.err
}

// PutBlob stores a module or asset and returns its digest. Storing what is there only renews its grace period. b is not kept.
func (c *Catalog) PutBlob(ctx context.Context, kind Kind, b []byte) (module.Digest, error) {
	key := blobKey{kind, module.DigestOf(b)}
	if len(b) > MaxBlobBytes {
		return key.digest, fmt.Errorf("%w: a %s of %d bytes is over the limit of %d", ErrFull, kind, len(b), MaxBlobBytes)
	}
	if err := c.lock(ctx); err != nil {
		return key.digest, err
	}
	defer c.unlock()
	now := time.Now()
	if c.renew(key, now) {
		return key.digest, nil
	}
	if err := c.makeRoom(ctx, len(b)); err != nil {
		return key.digest, err
	}
	for _, r := range blobRecords(key, b, now) {
		// One append for each part: together they would be one batch over max.message.bytes.
		if err := c.log.Append(ctx, c.topic, []engine.Record{r}); err != nil {
			return key.digest, fmt.Errorf("store %v: %w", key, err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(key)
	c.blobs[key] = &blob{bytes: append(make([]byte, 0, len(b)), b...), put: now}
	c.storedBytes += len(b)
	return key.digest, nil
}

// PutDeployment stores s in place of what was stored under its name.
func (c *Catalog) PutDeployment(ctx context.Context, s deploy.Spec) error {
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.unlock()
	r, err := deploymentRecord(s)
	if err != nil {
		return err
	}
	if err := c.log.Append(ctx, c.topic, []engine.Record{r}); err != nil {
		return fmt.Errorf("store deployment %q: %w", s.Name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deployments[s.Name] = Deployment{Spec: s}
	return nil
}

// DeleteDeployment forgets a deployment.
func (c *Catalog) DeleteDeployment(ctx context.Context, name string) error {
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.unlock()
	tombstone := engine.Record{Key: deploymentRecordKey(name), Timestamp: time.Now().UnixMilli()}
	if err := c.log.Append(ctx, c.topic, []engine.Record{tombstone}); err != nil {
		return fmt.Errorf("delete deployment %q: %w", name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.deployments, name)
	return nil
}

func (c *Catalog) lock(ctx context.Context) error {
	select {
	case <-c.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Catalog) unlock() { c.turn <- struct{}{} }

// renew tells whether the blob is there and sound, and starts its grace period anew.
func (c *Catalog) renew(key blobKey, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, ok := c.blobs[key]
	if !ok || b.err != nil {
		return false
	}
	b.put = now
	return true
}

// drop forgets a blob in memory; c.mu is held.
func (c *Catalog) drop(key blobKey) {
	if b, ok := c.blobs[key]; ok {
		c.storedBytes -= len(b.bytes)
		delete(c.blobs, key)
	}
}
