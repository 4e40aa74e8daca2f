// Package catalog keeps modules, assets and deployments: as records of one
// compacted topic, which is the truth, and replayed in memory. FORMAT.md in this
// directory defines the records byte for byte.
//
// Any number of processes read and write one catalog. Change decides by what
// all of them have stored, and is decided again when another one was
// faster, so that no change is lost or based on an older state than its author saw. Refresh reads what others
// have written until now; Follow keeps on reading, and Changed tells when there was something.
//
// Durability: what Put…, Change and Delete have answered with nil survives any end of
// the process; after an error the change may or may not be there, and may be
// tried again. A damaged record concerns only the one module, asset, version or
// deployment it belongs to, is reported for it, and is never skipped silently.
//
// Memory: the catalog holds the bytes of its blobs (modules and assets), at most
// MaxStoredBytes in all. Blobs that no deployment and no kept version has referred to for
// GracePeriod are forgotten by Collect.
//
// A Catalog is safe for concurrent use.
package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
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
	// KeptVersions is how many replaced versions of a deployment are kept, with their modules and assets.
	KeptVersions = 10
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

// The first elements of the other keys.
const (
	deploymentKind = "deployment"
	versionKind    = "version"
)

// Log is what the catalog needs of an engine.
type Log interface {
	EnsureTopic(ctx context.Context, name string, partitions int, configs map[string]string) error
	Append(ctx context.Context, topic string, records []engine.Record) error
	Update(ctx context.Context, topic string, f func(ctx context.Context) ([]engine.Record, error)) error
	ReadAll(ctx context.Context, topic string, from engine.Positions, f func(partition int32, r engine.Record) error) (engine.Positions, error)
	Follow(ctx context.Context, topic string, from engine.Positions, f func(partition int32, r engine.Record) error) error
}

// Deployment is a stored deployment, or a version of one. When its record cannot be read, only
// Spec.Name is set (of a version also Spec.Version) and Err says why.
type Deployment struct {
	Spec deploy.Spec
	Err  error
	// Offset of the record in the topic: a deployment with the same offset has not changed.
	Offset int64
}

// Catalog is an open catalog.
type Catalog struct {
	log  Log
	turn chan struct{} // holds one token: the right to write; it spares processes from fencing themselves

	mu sync.RWMutex
	state
	changed chan struct{} // closed and replaced when something was applied
}

// state is what the records until positions say.
type state struct {
	topic       string // for errors
	positions   engine.Positions
	blobs       map[blobKey]*blob
	storedBytes int
	deployments map[string]Deployment
	versions    map[string]map[int]Deployment // by name and version, the replaced ones
}

func newState(topic string) state {
	return state{
		topic: topic, positions: engine.Positions{}, blobs: map[blobKey]*blob{},
		deployments: map[string]Deployment{}, versions: map[string]map[int]Deployment{},
	}
}

// Open creates the topic if need be and replays it.
func Open(ctx context.Context, log Log, topic string) (*Catalog, error) {
	c := &Catalog{log: log, turn: make(chan struct{}, 1), state: newState(topic), changed: make(chan struct{})}
	c.turn <- struct{}{}
	err := log.EnsureTopic(ctx, topic, 1, map[string]string{
		"cleanup.policy":    "compact",
		"max.message.bytes": strconv.Itoa(PartBytes + 256<<10),
	})
	if err != nil {
		return nil, fmt.Errorf("catalog topic %s: %w", topic, err)
	}
	if err := c.Refresh(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// Refresh returns when everything is known that was stored before the call, by whatever process.
func (c *Catalog) Refresh(ctx context.Context) error {
	c.mu.RLock()
	from := maps.Clone(c.positions)
	c.mu.RUnlock()
	if _, err := c.log.ReadAll(ctx, c.topic, from, c.apply); err != nil {
		return fmt.Errorf("read catalog topic %s: %w", c.topic, err)
	}
	return nil
}

// Follow applies what is stored from now on, until ctx ends or the log fails; it always returns an error.
// After a failure Reload comes first: deletions may have been compacted away meanwhile.
func (c *Catalog) Follow(ctx context.Context) error {
	c.mu.RLock()
	from := maps.Clone(c.positions)
	c.mu.RUnlock()
	return fmt.Errorf("follow catalog topic %s: %w", c.topic, c.log.Follow(ctx, c.topic, from, c.apply))
}

// Reload reads the whole topic again, in place of what is known.
func (c *Catalog) Reload(ctx context.Context) error {
	fresh := Catalog{state: newState(c.topic), changed: make(chan struct{})}
	if _, err := c.log.ReadAll(ctx, c.topic, nil, fresh.apply); err != nil {
		return fmt.Errorf("read catalog topic %s: %w", c.topic, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = fresh.state
	c.signal()
	return nil
}

// Changed returns a channel that is closed at the next change, whoever makes it.
func (c *Catalog) Changed() <-chan struct{} {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.changed
}

func (c *Catalog) signal() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// apply takes one record. Several readers may bring it, each all records in
// order; the first one counts.
func (c *Catalog) apply(partition int32, r engine.Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.Offset < c.positions[partition] {
		return nil
	}
	c.positions[partition] = r.Offset + 1
	c.replay(r)
	c.signal()
	return nil
}

// Deployments returns all deployments by name, readable or not.
func (c *Catalog) Deployments() []Deployment {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.SortedFunc(maps.Values(c.deployments), func(a, b Deployment) int { return strings.Compare(a.Spec.Name, b.Spec.Name) })
}

// Deployment returns one deployment.
func (c *Catalog) Deployment(name string) (Deployment, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	d, ok := c.deployments[name]
	return d, ok
}

// Versions returns the replaced versions of a deployment that are kept, the oldest first.
func (c *Catalog) Versions(name string) []Deployment {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.SortedFunc(maps.Values(c.versions[name]), func(a, b Deployment) int { return cmp.Compare(a.Spec.Version, b.Spec.Version) })
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
