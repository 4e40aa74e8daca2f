package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/millstream-io/millstream/broker/commitlog"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/sdk/abi"
)

var errNoBatch = errors.New("no batch is open: Begin comes first")

// session is one assigned partition.
type session struct {
	m         *member
	tp        engine.TopicPartition
	input     int
	partition *topic.Partition
	// One of the two, as the group's delivery asks for.
	committer *committer     // at least once
	txn       *transactional // exactly once

	revoking chan struct{} // Done: the partition is being taken away
	revoke   func()
	gone     chan struct{} // closed or fenced
	end      func(error)
	ended    error // why gone; read after gone is closed

	readable     chan struct{}
	cancelNotify func()
	fetch        fetch // of the last Poll

	// mu keeps Close, which the member may call, apart from the session's own goroutine.
	mu        sync.Mutex
	position  int64 // of the next Poll
	committed int64 // where Abort goes back to
	open      bool
	closing   bool
	outputs   *outputs
	output    abi.Output // the one being encoded; a local would escape with every batch
}

func newSession(m *member, o *opening) *session {
	s := &session{
		m: m, tp: o.tp, input: o.input, partition: o.partition, txn: o.txn,
		revoking: make(chan struct{}), gone: make(chan struct{}),
		readable: make(chan struct{}, 1),
		position: o.position, committed: o.position,
	}
	s.revoke = sync.OnceFunc(func() { close(s.revoking) })
	var once sync.Once
	s.end = func(why error) {
		once.Do(func() {
			s.ended = why
			close(s.gone)
		})
	}
	if s.txn != nil {
		s.outputs = newOutputs(m.e.topics, o.tp.Partition, s.txn.transaction, s.txn.flusher.wrote)
	} else {
		s.committer = newCommitter(s)
		s.outputs = newOutputs(m.e.topics, o.tp.Partition, nil, s.committer.written)
	}
	s.outputs.ahead = m.e.ahead
	s.cancelNotify = s.partition.Notify(s.readable)
	return s
}

// Partition implements engine.Session.
func (s *session) Partition() engine.TopicPartition { return s.tp }

// Input implements engine.Session.
func (s *session) Input() int { return s.input }

// Done implements engine.Session.
func (s *session) Done() <-chan struct{} { return s.revoking }

// alive returns why the session has ended, if it has.
func (s *session) alive() error {
	select {
	case <-s.gone:
		return s.ended
	default:
		return nil
	}
}

// usable is alive for calls that change something; mu is held.
func (s *session) usable() error {
	if s.closing {
		return s.closed()
	}
	return s.alive()
}

func (s *session) closed() error {
	return fmt.Errorf("%w: session of %s-%d of group %q", engine.ErrClosed, s.tp.Topic, s.tp.Partition, s.m.g.Name)
}

// fence ends the session without its owner's doing: the partition belongs to somebody else.
func (s *session) fence() {
	s.end(fmt.Errorf("%w: %s-%d of group %q", engine.ErrFenced, s.tp.Topic, s.tp.Partition, s.m.g.Name))
	s.revoke()
	s.cancelNotify()
	s.stopCommitter()
}

func (s *session) stopCommitter() {
	if s.committer != nil {
		s.committer.stop()
	}
}

// Poll implements engine.Session.
func (s *session) Poll(ctx context.Context, maxBytes int) (engine.Fetch, error) {
	for {
		if err := s.alive(); err != nil {
			return nil, err
		}
		s.mu.Lock()
		found, err := s.read(maxBytes)
		s.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if found {
			return &s.fetch, nil
		}
		select {
		case <-s.readable:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.gone:
		case <-s.revoking:
			return nil, fmt.Errorf("%w: %s-%d of group %q is being taken away", engine.ErrFenced, s.tp.Topic, s.tp.Partition, s.m.g.Name)
		}
	}
}

// read fills the fetch from the present position and reports whether there are records.
func (s *session) read(maxBytes int) (found bool, err error) {
	for {
		end := s.partition.Offsets().LastStable
		s.fetch.raw, err = s.partition.Read(s.fetch.raw[:0], topic.ReadOptions{Offset: s.position, MaxBytes: maxBytes, Committed: true})
		if errors.Is(err, commitlog.ErrOffsetOutOfRange) {
			if s.backInRange() {
				continue
			}
		}
		if err != nil {
			return false, explain(fmt.Errorf("read %s-%d from offset %d: %w", s.tp.Topic, s.tp.Partition, s.position, err))
		}
		if len(s.fetch.raw) == 0 {
			s.position = max(s.position, end) // compaction has left nothing up to there
			return false, nil
		}
		s.fetch.aborted = s.partition.Aborted(s.fetch.raw)
		if err := s.fetch.load(s.position, maxBytes); err != nil {
			return false, explain(fmt.Errorf("read %s-%d: %w", s.tp.Topic, s.tp.Partition, err))
		}
		s.position = s.fetch.next()
		if s.fetch.Len() > 0 {
			return true, nil
		}
		// Only markers, aborted transactions or a hole: read on behind it.
	}
}

// backInRange moves a position that the log does not have (any more) to the
// nearest one that it has.
func (s *session) backInRange() (moved bool) {
	bounds, was := s.partition.Offsets(), s.position
	s.position = min(max(s.position, bounds.LogStart), bounds.HighWatermark)
	if s.position == was {
		return false
	}
	s.m.e.log.Warn("position is outside the log", slog.String("group", s.m.g.Name), slog.String("topic", s.tp.Topic),
		slog.Int("partition", int(s.tp.Partition)), slog.Int64("offset", was), slog.Int64("moved_to", s.position),
		slog.Int64("log_start", bounds.LogStart), slog.Int64("log_end", bounds.HighWatermark))
	return true
}

// Ready implements engine.Session.
func (s *session) Ready() bool { return s.Position() < s.partition.Offsets().LastStable }

// Position implements engine.Session.
func (s *session) Position() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.position
}

// Begin implements engine.Session.
func (s *session) Begin(outputs []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	if s.open {
		return errors.New("a batch is open already: Commit or Abort comes first")
	}
	if s.txn != nil {
		if err := s.clear(s.m.ctx); err != nil {
			return s.refusal(s.m.ctx, err)
		}
	}
	s.open = true
	s.outputs.begin(outputs)
	return nil
}

// Produce implements engine.Session.
func (s *session) Produce(ctx context.Context, o abi.Outputs) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	if !s.open {
		return errNoBatch
	}
	for o.Next(&s.output) {
		if err := s.outputs.add(ctx, &s.output); err != nil {
			return s.produceError(ctx, err)
		}
	}
	return nil
}

// ProduceTo implements engine.Session.
func (s *session) ProduceTo(ctx context.Context, topic string, r engine.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	if !s.open {
		return errNoBatch
	}
	return s.produceError(ctx, s.outputs.addTo(ctx, topic, &r))
}

// produceError explains why something could not be written ahead.
func (s *session) produceError(ctx context.Context, err error) error {
	if errors.Is(err, engine.ErrAborted) {
		return s.refusal(ctx, err)
	}
	return err
}

// Commit implements engine.Session.
func (s *session) Commit(ctx context.Context, next int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	if err := s.commit(ctx, next); err != nil {
		return err
	}
	s.open = false
	s.committed = next
	return nil
}

func (s *session) commit(ctx context.Context, next int64) error {
	if s.txn != nil {
		if !s.open {
			if err := s.clear(ctx); err != nil {
				return s.refusal(ctx, err)
			}
		}
		return s.commitTransaction(ctx, next)
	}
	if err := s.committer.room(ctx); err != nil {
		return err
	}
	if err := s.outputs.write(ctx); err != nil {
		return err
	}
	s.committer.commit(next)
	return nil
}

// Abort implements engine.Session.
func (s *session) Abort(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	s.outputs.drop()
	s.open = false
	s.position = s.committed
	if s.txn != nil {
		return s.abortTransaction(ctx)
	}
	return nil
}

// SeekTo implements engine.Session.
func (s *session) SeekTo(offset int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.position = offset
}

// Close implements engine.Session.
func (s *session) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	s.outputs.drop()
	s.open = false
	var err error
	if s.txn != nil {
		err = s.txn.giveUp(ctx)
		s.txn.flusher.stop()
	}
	s.mu.Unlock()
	if s.alive() != nil {
		return nil
	}
	if s.committer != nil {
		err = s.committer.flush(ctx)
	}
	s.end(s.closed())
	s.cancelNotify()
	s.stopCommitter()
	return err
}
