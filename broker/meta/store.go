// Package meta keeps what a broker must remember about itself: its cluster id,
// the topics with their ids, partition counts and configs, the configs of
// groups, and the producer ids it has given out. The truth is a commit log of its own
// (__cluster_metadata-0); it is replayed into memory when the store is opened.
//
// Durability: a change is answered, and visible in memory, only after its
// record survives a power cut. A change that was answered with an error may
// still be found after a restart, since its record may have reached the disk.
//
// Each record replaces the one with the same key before it, a record without
// a value removes it, so the log can be compacted. FORMAT.md describes keys
// and values.
//
// Everything is safe for concurrent use; changes are made one at a time.
package meta

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/millstream-io/millstream/broker/commitlog"
	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/vfs"
)

// LogName is the name of the internal topic whose partition 0 is the store's
// log. No other topic may have it.
const LogName = "__cluster_metadata"

// ErrCorrupt says that a record of the store cannot be understood.
var ErrCorrupt = errors.New("cluster metadata is corrupt")

// Topic is what is remembered about a topic.
type Topic struct {
	Name       string
	ID         [16]byte // random UUID, never reused
	Partitions int
	Configs    map[string]string
	// Deleting is set before the files of a topic are removed, so that a
	// deletion that was interrupted is finished after a restart.
	Deleting bool
}

// Options open a store.
type Options struct {
	FS     vfs.FS
	Dir    string // directory of all logs; the store's own is a directory in it
	Logger *slog.Logger
	// Reserve is what changes of topics may use when the disk is full; nil: nothing.
	Reserve *commitlog.Reserve
}

// Store is an open store.
type Store struct {
	log     *commitlog.Log
	reserve *commitlog.Reserve

	mu        sync.Mutex // serialises changes and guards what follows
	builder   record.Builder
	buf       []byte
	clusterID string
	topics    map[string]Topic
	groups    map[string]map[string]string // configs by group
	producers producerIDs
}

// Open replays the store in o.Dir, or begins a new one with a new cluster id.
func Open(ctx context.Context, o Options) (*Store, error) {
	log, err := commitlog.Open(ctx, commitlog.Options{
		FS:  o.FS,
		Dir: filepath.Join(o.Dir, LogName+"-0"),
		// The log holds what nothing else remembers: it is never cut by age or size.
		Config: commitlog.Config{Compact: true, RetentionBytes: -1, RetentionAge: -1, SegmentBytes: segmentBytes},
		Logger: o.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("open cluster metadata: %w", err)
	}
	s := &Store{log: log, reserve: o.Reserve, topics: make(map[string]Topic), groups: make(map[string]map[string]string)}
	if err := s.replay(ctx); err != nil {
		return nil, errors.Join(err, log.Close(ctx))
	}
	if s.clusterID == "" {
		if err := s.createCluster(ctx); err != nil {
			return nil, errors.Join(err, log.Close(ctx))
		}
	}
	return s, nil
}

// segmentBytes keeps segments small, since only those that are full are compacted.
const segmentBytes = 4 << 20

// maxBatchBytes caps what a batch of the store may unpack to; its own are never compressed.
const maxBatchBytes = 64 << 20

func (s *Store) replay(ctx context.Context) error {
	var buf, scratch []byte
	bounds := s.log.Bounds()
	for offset := bounds.Start; offset < bounds.End; {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		if buf, err = s.log.Read(buf[:0], offset, 1<<20, bounds.End); err != nil {
			return fmt.Errorf("read cluster metadata at offset %d: %w", offset, err)
		}
		if len(buf) == 0 {
			return fmt.Errorf("%w: no batch at offset %d, the log ends at %d", ErrCorrupt, offset, bounds.End)
		}
		for rest := buf; len(rest) > 0; {
			h, err := record.ParseHeader(rest)
			if err != nil {
				return fmt.Errorf("read cluster metadata at offset %d: %w", offset, err)
			}
			if scratch, err = s.replayBatch(rest[:h.Size()], scratch); err != nil {
				return err
			}
			offset = h.LastOffset() + 1
			rest = rest[h.Size():]
		}
	}
	return nil
}

func (s *Store) replayBatch(batch, scratch []byte) ([]byte, error) {
	it, scratch, err := record.Iterate(batch, scratch, maxBatchBytes)
	if err != nil {
		return scratch, err
	}
	var r record.Record
	for it.Next(&r) {
		if err := s.apply(r.Key, r.Value); err != nil {
			return scratch, fmt.Errorf("offset %d: %w", r.Offset, err)
		}
	}
	return scratch, it.Err()
}

// change makes a record durable and applies it. The caller holds mu.
func (s *Store) change(ctx context.Context, timestamp int64, key string, value []byte) error {
	s.builder.Reset(s.buf[:0], record.None)
	s.builder.Append(timestamp, []byte(key), value, nil, 0)
	s.buf = s.builder.Finish()
	var reserve *commitlog.Reserve
	if name, ok := strings.CutPrefix(key, topicKey); ok {
		// A topic that is there may be deleted, or keep less from now on, which makes room; what is new only takes room.
		if _, known := s.topics[name]; known {
			reserve = s.reserve
		}
	}
	var at commitlog.Appended
	err := reserve.Lend(func() (err error) {
		at, err = s.log.Append(s.buf, 0)
		return err
	})
	if err != nil {
		return fmt.Errorf("write cluster metadata: %w", err)
	}
	// The record is in the log: giving up on waiting because the caller left
	// would let memory and log differ.
	if err := s.log.WaitDurable(context.WithoutCancel(ctx), at.LastOffset+1); err != nil {
		return fmt.Errorf("write cluster metadata: %w", err)
	}
	return s.apply([]byte(key), value)
}

// ClusterID is the id of the cluster: 22 characters, made once, kept over restarts.
func (s *Store) ClusterID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clusterID
}

// Topics returns all topics, sorted by name. Their configs must not be changed.
func (s *Store) Topics() []Topic {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.topics), func(a, b Topic) int { return strings.Compare(a.Name, b.Name) })
}

// PutTopic remembers a topic in place of the one with the same name.
func (s *Store) PutTopic(ctx context.Context, t Topic) error {
	value, err := encodeTopic(t)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.change(ctx, now(), topicKey+t.Name, value)
}

// DropTopic forgets a topic.
func (s *Store) DropTopic(ctx context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.change(ctx, now(), topicKey+name, nil)
}

// Log is the log of the store, for the cleaner.
func (s *Store) Log() *commitlog.Log { return s.log }

// Close syncs and closes the log.
func (s *Store) Close(ctx context.Context) error { return s.log.Close(ctx) }
