package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/engine/batch"
	"github.com/millstream-io/millstream/sdk/abi"
)

var errNoBatch = errors.New("no batch is open: Begin comes first")

// session is one assigned partition.
type session struct {
	m      *member
	tp     engine.TopicPartition
	input  int
	feed   *feed
	writer *writer
	cancel context.CancelFunc // of the writer's life
	// mark and commits make the mark of each commit, which no other commit has.
	mark    string
	commits int64
	// base is what the group had committed where the session began, or went back to; confirmed: it was that indeed, see confirm.
	base      committed
	confirmed bool

	revoking chan struct{} // Done: the partition is being taken away
	revoke   func()
	gone     chan struct{} // closed or fenced
	end      func(error)
	ended    error // why gone; read after gone is closed

	fetch    batch.Fetch // of the last Poll
	position atomic.Int64

	// mu keeps Close, which the member may call, apart from the session's own goroutine.
	mu      sync.Mutex
	sought  bool // position is not where the feed reads on
	open    bool
	closing bool
	output  abi.Output // the one being encoded; a local would escape with every batch
}

func newSession(m *member, o *opening) *session {
	w := o.writer
	s := &session{
		m: m, tp: o.tp, input: o.input, writer: w, cancel: o.cancel,
		mark:     markOf(fmt.Sprintf("%d/%d", w.id, w.epoch), o.topic),
		revoking: make(chan struct{}), gone: make(chan struct{}),
		feed: m.fetcher.addOf(o.tp, o.topic, o.position),
	}
	s.base = o.base
	s.position.Store(o.position)
	s.revoke = sync.OnceFunc(func() { close(s.revoking) })
	var once sync.Once
	s.end = func(why error) {
		once.Do(func() {
			s.ended = why
			close(s.gone)
		})
	}
	return s
}

// Partition implements engine.Session.
func (s *session) Partition() engine.TopicPartition { return s.tp }

// Input implements engine.Session.
func (s *session) Input() int { return s.input }

// Done implements engine.Session.
func (s *session) Done() <-chan struct{} { return s.revoking }

// Position implements engine.Session.
func (s *session) Position() int64 { return s.position.Load() }

// Ready implements engine.Session.
func (s *session) Ready() bool {
	s.mu.Lock()
	sought := s.sought
	s.mu.Unlock()
	return sought || s.m.fetcher.more(s.feed)
}

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

func (s *session) fencedError() error {
	return fmt.Errorf("%w: %s-%d of group %q", engine.ErrFenced, s.tp.Topic, s.tp.Partition, s.m.g.Name)
}

// fence ends the session without its owner's doing: the partition belongs to somebody else.
func (s *session) fence() {
	s.end(s.fencedError())
	s.revoke()
	s.m.fetcher.remove(s.feed)
	s.cancel()
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
		if errors.Is(err, errInputRemade) {
			s.m.contested(s, err)
			return nil, s.alive()
		}
		if err != nil {
			return nil, err
		}
		if found {
			return &s.fetch, nil
		}
		select {
		case <-s.feed.wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.gone:
		case <-s.revoking:
			return nil, fmt.Errorf("%w: %s-%d of group %q is being taken away", engine.ErrFenced, s.tp.Topic, s.tp.Partition, s.m.g.Name)
		}
	}
}

// read fills the fetch from the present position and reports whether there are records. mu is held.
func (s *session) read(maxBytes int) (found bool, err error) {
	position := s.position.Load()
	if s.sought {
		s.m.fetcher.seek(s.feed, position)
		s.sought = false
	}
	s.fetch.Begin(position)
	for {
		room := math.MaxInt // for the first, however large it is
		if s.fetch.Len() > 0 {
			if room = maxBytes - s.fetch.Bytes(); room <= 0 {
				break
			}
		}
		b, next, ok, err := s.m.fetcher.take(s.feed, room)
		if err == nil && ok && b != nil {
			err = corrupt(s.fetch.Append(b.bytes, &b.header))
			if err != nil {
				err = fmt.Errorf("read %s-%d: %w", s.tp.Topic, s.tp.Partition, err)
			}
		}
		if err != nil {
			// What was read before is good; the damage is met again in the next Poll.
			s.sought = true
			if s.fetch.Len() > 0 {
				break
			}
			return false, err
		}
		if !ok {
			break
		}
		position = next
		s.fetch.End(next)
	}
	s.position.Store(position)
	return s.fetch.Len() > 0, nil
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
	s.writer.outputs.begin(outputs)
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
	return s.judge(ctx, s.writer.produce(ctx, o, &s.output))
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
	return s.writer.outputs.addTo(ctx, topic, &r)
}

// judge looks at an error of the writer. If the group still says that the partition is ours, a producer that was
// fenced only means that the cluster gave its transaction up; if not, the session has ended. mu is held.
func (s *session) judge(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if gone := s.alive(); gone != nil {
		return gone
	}
	switch {
	case fenced(err) && s.m.disowned(ctx, s) == nil:
		s.writer.doomed = fmt.Errorf("%w: %v", engine.ErrAborted, err)
		return s.writer.doomed
	case fenced(err), errors.Is(err, engine.ErrFenced):
		s.m.contested(s, err)
		return s.alive()
	}
	err = explain(err)
	if errors.Is(err, engine.ErrAborted) {
		s.writer.doomed = err
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
	if s.writer.doomed != nil {
		return s.writer.doomed
	}
	if err := s.judge(ctx, s.writer.flush(ctx)); err != nil {
		return err
	}
	s.commits++
	at := committed{offset: next, mark: s.mark + strconv.FormatInt(s.commits, 36)}
	var err error
	if s.writer.transactional() {
		err = s.commitTransaction(ctx, at)
	} else {
		err = s.commitOffset(ctx, at)
		s.writer.settled()
	}
	if err != nil {
		return s.judge(ctx, err)
	}
	s.open = false
	return nil
}

// commitOffset commits an offset whose outputs are written: at least once.
func (s *session) commitOffset(ctx context.Context, at committed) error {
	return s.m.asMember(ctx, s, func(who identity) error {
		return s.m.cluster.commitOffsets(ctx, s.m.g.Name, who, map[engine.TopicPartition]committed{s.tp: at})
	})
}

// commitTransaction commits what was sent, if anything, together with the offset. An offset without outputs is committed like
// this too: one by itself is fenced by nothing but the generation, so that if the network keeps it back
// and it is made again, it could arrive once more, after later ones.
func (s *session) commitTransaction(ctx context.Context, at committed) error {
	w := s.writer
	if err := w.addOffsets(ctx, s.m.g.Name); err != nil {
		return err
	}
	err := s.m.asMember(ctx, s, func(who identity) error {
		coordinator, err := w.commitOffsets(ctx, s.m.g.Name, who, map[engine.TopicPartition]committed{s.tp: at})
		if err != nil {
			return err
		}
		return s.confirm(ctx, coordinator)
	})
	if err != nil {
		return err
	}
	unanswered, err := w.end(ctx, true)
	if err == nil || !unanswered {
		return err
	}
	s.m.k.log.Debug("what became of a transaction has to be looked up", slog.String("group", s.m.g.Name), slog.String("topic", s.tp.Topic),
		slog.Int("partition", int(s.tp.Partition)), slog.Any("error", err))
	doomed := fmt.Errorf("%w: %v", engine.ErrAborted, err)
	w.doomed = doomed
	if failed := w.initialise(ctx); failed != nil {
		if fenced(failed) {
			return failed
		}
		return doomed // Abort tries again
	}
	w.doomed = doomed
	found, failed := s.m.cluster.committedOffsets(ctx, s.m.g.Name, []engine.TopicPartition{s.tp}, retryTimeout)
	if failed == nil && found[s.tp].mark == at.mark {
		w.doomed = nil
		return nil
	}
	return doomed
}

// Abort implements engine.Session.
func (s *session) Abort(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	if s.writer.transactional() || s.writer.sentSomething() {
		// A new epoch ends the transaction, and nothing that is still on its way can join the next one.
		err := s.writer.initialise(ctx)
		if fenced(err) && s.m.disowned(ctx, s) == nil {
			err = s.writer.claim(ctx)
		}
		if err != nil {
			return s.judge(ctx, err)
		}
	} else {
		s.writer.outputs.unwind()
	}
	s.open = false
	found, err := s.m.cluster.committedOffsets(ctx, s.m.g.Name, []engine.TopicPartition{s.tp}, retryTimeout)
	if err != nil {
		return s.judge(ctx, err)
	}
	at, ok := found[s.tp]
	if !ok {
		// It went with its topic, or somebody deleted it: where to go on is found out as at the beginning.
		s.m.contested(s, errors.New("the group has no offset of the partition any more"))
		return s.alive()
	}
	s.base, s.confirmed = at, false
	s.seek(at.offset)
	return nil
}

// SeekTo implements engine.Session.
func (s *session) SeekTo(offset int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seek(offset)
}

func (s *session) seek(offset int64) {
	if s.position.Swap(offset) != offset {
		s.sought = true
	}
}

// closeTimeout is how long Close tries to end a transaction in good order.
const closeTimeout = 5 * time.Second

// Close implements engine.Session.
func (s *session) Close(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	s.open = false
	if s.alive() != nil {
		s.writer.stop()
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	s.writer.close(ctx)
	s.cancel()
	s.end(s.closed())
	s.m.fetcher.remove(s.feed)
	return nil
}

// rebalancing reports answers that mean that the member's generation is not the group's, or not any more.
func rebalancing(err error) bool {
	return errors.Is(err, kerr.RebalanceInProgress) || errors.Is(err, kerr.IllegalGeneration) || errors.Is(err, kerr.UnknownMemberID) ||
		errors.Is(err, kerr.StaleMemberEpoch)
}
