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
	committer *committer

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
	onWritten func(p *topic.Partition, end int64, bytes int)
}

func newSession(m *member, tp engine.TopicPartition, input int, p *topic.Partition, position int64) *session {
	s := &session{
		m: m, tp: tp, input: input, partition: p,
		revoking: make(chan struct{}), gone: make(chan struct{}),
		readable: make(chan struct{}, 1),
		position: position, committed: position,
		outputs: newOutputs(m.e.topics, tp.Partition),
	}
	s.revoke = sync.OnceFunc(func() { close(s.revoking) })
	var once sync.Once
	s.end = func(why error) {
		once.Do(func() {
			s.ended = why
			close(s.gone)
		})
	}
	s.committer = newCommitter(s)
	s.onWritten = s.committer.written
	s.cancelNotify = p.Notify(s.readable)
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
	s.committer.stop()
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
			return false, nil
		}
		s.fetch.aborted = s.partition.Aborted(s.fetch.raw)
		if err := s.fetch.load(s.position, maxBytes); err != nil {
			return false, explain(fmt.Errorf("read %s-%d: %w", s.tp.Topic, s.tp.Partition, err))
		}
		s.position = s.fetch.next
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
	s.open = true
	s.outputs.begin(outputs)
	return nil
}

// Produce implements engine.Session.
func (s *session) Produce(_ context.Context, o abi.Outputs) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	if !s.open {
		return errNoBatch
	}
	for o.Next(&s.output) {
		if err := s.outputs.add(&s.output); err != nil {
			return err
		}
	}
	return nil
}

// ProduceTo implements engine.Session.
func (s *session) ProduceTo(_ context.Context, topic string, r engine.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	if !s.open {
		return errNoBatch
	}
	return s.outputs.addTo(topic, &r)
}

// Commit implements engine.Session.
func (s *session) Commit(ctx context.Context, next int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	if err := s.committer.room(ctx); err != nil {
		return err
	}
	if err := s.outputs.write(ctx, s.onWritten); err != nil {
		return err
	}
	s.open = false
	s.committed = next
	s.committer.commit(next)
	return nil
}

// Abort implements engine.Session.
func (s *session) Abort(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	s.outputs.drop()
	s.open = false
	s.position = s.committed
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
	s.mu.Unlock()
	if s.alive() != nil {
		return nil
	}
	err := s.committer.flush(ctx)
	s.end(s.closed())
	s.cancelNotify()
	s.committer.stop()
	return err
}
