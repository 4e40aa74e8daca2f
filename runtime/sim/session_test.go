package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/worker/workertest"
	"github.com/millstream-io/millstream/sdk/abi"
)

const maxFetchRecords = 40

type output struct {
	topic  string
	record engine.Record
}

// session is one partition as its process sees it.
type session struct {
	m      *member
	n      *node
	tp     engine.TopicPartition
	id     string // transactional
	done   chan struct{}
	revoke func()

	// Of the goroutine that uses the session, but for fence: under m.mu.
	fenced bool
	closed bool

	epoch     int
	sequence  int
	position  int64
	committed int64
	known     int64 // last stable offset as of the last fetch
	open      bool
	unknown   bool // what became of the transaction is not known
	written   bool // something of the open transaction is at the brokers
	outputs   []string
	pending   []output
}

func (s *session) fence() {
	s.fenced = true
	s.revoke()
}

func (s *session) alive() error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	switch {
	case s.closed:
		return engine.ErrClosed
	case s.fenced:
		return engine.ErrFenced
	}
	return nil
}

// explain makes an error of this package one of the engine's.
func explain(err error) error {
	switch {
	case errors.Is(err, errFenced), errors.Is(err, errUnknown):
		return fmt.Errorf("%w: %w", engine.ErrFenced, err)
	}
	return err
}

// rewind asks where the group is.
func (s *session) rewind(ctx context.Context) error {
	return s.n.insist(ctx, func() error {
		s.position = s.n.c.group.committed[s.tp]
		s.committed = s.position
		return nil
	})
}

func (s *session) Partition() engine.TopicPartition { return s.tp }
func (s *session) Input() int                       { return 0 }
func (s *session) Done() <-chan struct{}            { return s.done }
func (s *session) Position() int64                  { return s.position }
func (s *session) SeekTo(offset int64)              { s.position = offset }

// Ready implements engine.Session: it is right most of the time.
func (s *session) Ready() bool { return s.position < s.known != s.n.chance(0.05) }

// Poll implements engine.Session.
func (s *session) Poll(ctx context.Context, _ int) (engine.Fetch, error) {
	for {
		if err := s.alive(); err != nil {
			return nil, err
		}
		var changed chan struct{}
		var records []engine.Record
		var next int64
		err := s.n.insist(ctx, func() error {
			changed = s.n.c.changed
			log := s.n.c.topics[s.tp.Topic][s.tp.Partition]
			records, next = log.committedRecords(s.position, maxFetchRecords, s.n.c.bugs.readUncommitted)
			s.known = log.stable()
			return nil
		})
		if err != nil {
			return nil, err
		}
		s.position = next
		if len(records) > 0 {
			return workertest.NewFetch(records, next), nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.done:
			return nil, engine.ErrFenced
		case <-s.n.dead:
			return nil, errDead
		}
	}
}

// Begin implements engine.Session.
func (s *session) Begin(outputs []string) error {
	if err := s.alive(); err != nil {
		return err
	}
	if s.open || s.unknown {
		s.n.c.object("Begin of %s with a transaction open", s.id)
	}
	s.open, s.outputs = true, outputs
	return nil
}

// Produce implements engine.Session. Sometimes it writes ahead.
func (s *session) Produce(ctx context.Context, outputs abi.Outputs) error {
	if err := s.alive(); err != nil {
		return err
	}
	var o abi.Output
	for outputs.Next(&o) {
		if len(o.Value) > maxMessageBytes {
			return &engine.OutputError{Input: o.Input, Topic: s.outputs[o.Index], Detail: "too large", Err: engine.ErrTooLarge}
		}
		s.pending = append(s.pending, output{s.outputs[o.Index], engine.Record{Key: slices.Clone(o.Key), Value: slices.Clone(o.Value), Timestamp: o.Timestamp}})
	}
	if s.n.chance(0.3) {
		return s.flush(ctx)
	}
	return nil
}

// ProduceTo implements engine.Session.
func (s *session) ProduceTo(_ context.Context, topic string, r engine.Record) error {
	if err := s.alive(); err != nil {
		return err
	}
	if !s.open {
		s.n.c.object("ProduceTo of %s without Begin", s.id)
	}
	r.Key, r.Value = slices.Clone(r.Key), slices.Clone(r.Value)
	s.pending = append(s.pending, output{topic, r})
	return nil
}

// flush writes what is pending.
func (s *session) flush(ctx context.Context) error {
	if len(s.pending) == 0 {
		return nil
	}
	s.written = true
	sequence, epoch, outputs := s.sequence+1, s.epoch, s.pending
	err := s.n.insist(ctx, func() error { return s.n.c.produce(s.id, epoch, sequence, outputs) })
	if err != nil {
		return explain(err)
	}
	s.sequence, s.pending = sequence, nil
	return nil
}

// Commit implements engine.Session.
func (s *session) Commit(ctx context.Context, next int64) error {
	if err := s.alive(); err != nil {
		return err
	}
	if s.unknown {
		s.n.c.object("Commit of %s after one that nobody knows the outcome of, without Abort", s.id)
	}
	if next < s.committed {
		s.n.c.object("%s commits offset %d behind %d", s.id, next, s.committed)
	}
	s.m.mu.Lock()
	member, generation := s.m.id, s.m.generation
	s.m.mu.Unlock()
	offset := func() error {
		return explain(s.n.insist(ctx, func() error {
			return s.n.c.txnOffset(s.id, s.epoch, member, generation, s.tp, next)
		}))
	}
	if err := s.flush(ctx); err != nil {
		return err
	}
	s.written = true
	if err := offset(); err != nil {
		return err
	}
	s.unknown = true
	epoch := s.epoch
	err := s.n.insist(ctx, func() (err error) {
		epoch, err = s.n.c.end(s.id, s.epoch, committed)
		return err
	})
	if errors.Is(err, engine.ErrStorage) {
		s.unknown = false
		return err
	}
	if err != nil {
		return explain(err)
	}
	s.ended(epoch)
	s.committed = next
	return nil
}

func (s *session) ended(epoch int) {
	s.open, s.written, s.unknown, s.pending = false, false, false, nil
	s.epoch, s.sequence = epoch, 0
}

// Abort implements engine.Session.
func (s *session) Abort(ctx context.Context) error {
	if err := s.alive(); err != nil {
		return err
	}
	if s.written || s.unknown {
		epoch := s.epoch
		err := s.n.insist(ctx, func() (err error) {
			epoch, err = s.n.c.end(s.id, s.epoch, aborted)
			return err
		})
		if errors.Is(err, errFenced) && s.unknown {
			// Then the commit has happened, and this tells the epoch behind it; or somebody else has the partition.
			err = s.n.insist(ctx, func() (err error) {
				epoch, err = s.n.c.end(s.id, s.epoch, committed)
				return err
			})
		}
		if err != nil {
			return explain(err)
		}
		s.ended(epoch)
	}
	s.open, s.pending = false, nil
	switch {
	case s.n.c.bugs.abortStays:
		return nil
	case s.n.c.bugs.abortForgets:
		s.position = s.committed
		return nil
	}
	return s.rewind(ctx)
}

// Close implements engine.Session.
func (s *session) Close(ctx context.Context) error {
	if s.alive() != nil {
		return nil
	}
	if s.written || s.unknown {
		_ = s.Abort(ctx) // whoever comes next ends it
	}
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if s.closed || s.fenced {
		return nil
	}
	s.closed = true
	delete(s.m.sessions, s.tp)
	s.m.released = append(s.m.released, s.tp)
	s.m.bump()
	return nil
}
