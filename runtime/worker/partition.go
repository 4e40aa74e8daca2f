package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/millstream-io/millstream/runtime/engine"
)

const (
	// A batch of outputs is committed when it has commitBytes, and after a call when it is older
	// than commitAge: slow guests show their results before the fetch is through.
	commitBytes = 256 << 10
	commitAge   = 20 * time.Millisecond
)

// partition takes the records of one session through one guest; it is used by one goroutine.
type partition struct {
	w       *Worker
	session engine.Session
	tp      engine.TopicPartition
	logs    *LogSource
	seed    uint64
	size    sizing
	guest   *lodger // nil: to be made

	fetch   engine.Fetch
	callAt  int             // index in the fetch of the first record of the present call
	stampOf func(int) int64 // the event time of record i of the present call; made once, as it would allocate
	now     time.Time       // the clock of the guest, the same for all calls of a fetch

	open     bool // Begin was called
	openedAt time.Time
	begun    int // index of the first record that is not committed
	tally    tally
	strays   bool // the session's position is not the end of the fetch

	soft, hard  context.Context
	troubled    bool      // the worker was told of trouble with this partition
	warnedAt    time.Time // zero: not since the last commit
	trapsInARow int
}

func newPartition(membership context.Context, w *Worker, s engine.Session) *partition {
	p := &partition{
		w: w, session: s, tp: s.Partition(), size: newSizing(w.config.Limits),
		soft: membership, hard: w.hard,
	}
	p.seed = seedOf(p.tp)
	p.stampOf = func(i int) int64 { return p.fetch.Timestamp(p.callAt + i) }
	p.logs = w.config.Logs.Source(w.config.Setup.Deployment, p.tp, w.config.Limits.LogLines)
	return p
}

// run works until the partition is taken away, the worker stops, or the
// deployment has failed; only the last is an error.
func (p *partition) run() error {
	soft, cancel := context.WithCancel(p.soft)
	defer cancel()
	p.soft = soft
	go func() {
		select {
		case <-p.session.Done():
			cancel()
		case <-soft.Done():
		}
	}()
	defer p.close()
	var pause backoff
	for {
		err := p.once()
		if err == nil {
			pause.reset()
			continue
		}
		if failure, ok := errors.AsType[*Failure](err); ok {
			return failure
		}
		if p.ended(err) {
			return nil
		}
		p.retrying("batch given up", err)
		if err := p.abort(); err != nil && p.ended(err) {
			return nil
		}
		if !pause.wait(p.soft) {
			return nil
		}
		p.untroubled() // until it fails again: Poll may now wait for records for long
	}
}

// ended tells whether the session is over, whatever err says in detail.
func (p *partition) ended(err error) bool {
	return p.soft.Err() != nil || errors.Is(err, engine.ErrFenced) || errors.Is(err, engine.ErrClosed)
}

// once takes one fetch through the guest.
func (p *partition) once() error {
	f, err := p.session.Poll(p.soft, pollBytes)
	if err != nil {
		return err
	}
	p.fetch, p.begun, p.now, p.strays = f, 0, time.Now(), false
	next := 0
	for next < f.Len() && p.soft.Err() == nil {
		next, err = p.advance(next, f.Len())
		if err != nil {
			return err
		}
	}
	if err := p.commit(next); err != nil {
		return err
	}
	if p.strays && next > 0 {
		p.session.SeekTo(f.NextOffset(next - 1))
	}
	return nil
}

// advance handles records from first on, at least one; it returns the first that is left.
func (p *partition) advance(first, end int) (next int, err error) {
	next, err = p.call(first, end)
	if refused, ok := errors.AsType[*refusal](err); ok {
		err = p.isolate(refused)
		next = p.begun
	}
	if err != nil {
		return next, p.conclude(next, err)
	}
	if p.open && (p.tally.bytesOut >= commitBytes || time.Since(p.openedAt) >= commitAge) {
		err = p.commit(next)
	}
	return next, err
}

func (p *partition) begin() error {
	if p.open {
		return nil
	}
	if err := p.session.Begin(p.w.config.Outputs); err != nil {
		return fmt.Errorf("begin a batch of outputs: %w", err)
	}
	p.open, p.openedAt = true, time.Now()
	return nil
}

// commit makes the outcome of all records before index next durable. When
// the log refuses, the batch is kept and written as soon as the log takes it.
func (p *partition) commit(next int) error {
	if next == p.begun {
		p.w.config.Stats.settle(&p.tally)
		return nil
	}
	started := time.Now()
	for pause := (backoff{}); ; {
		err := p.session.Commit(p.hard, p.fetch.NextOffset(next-1))
		if err == nil {
			break
		}
		if !errors.Is(err, engine.ErrStorage) {
			return err
		}
		p.retrying("outputs cannot be written", err)
		if !pause.wait(p.soft) {
			return err
		}
	}
	p.recovered()
	p.open, p.begun = false, next
	p.w.config.Stats.settle(&p.tally)
	p.w.config.Stats.observeCommit(time.Since(started), time.Since(time.UnixMilli(p.fetch.MaxTimestamp())))
	return nil
}

// retrying says that a step is tried again because of err.
func (p *partition) retrying(what string, err error) {
	p.troubled = true
	p.w.setTrouble(p.session, fmt.Errorf("%s partition %d: %w", p.tp.Topic, p.tp.Partition, err))
	p.w.config.Stats.Retries.Add(1)
	level := slog.LevelDebug
	if time.Since(p.warnedAt) >= warnInterval {
		level, p.warnedAt = slog.LevelWarn, time.Now()
	}
	p.w.logger.Log(p.hard, level, what+", trying again", "topic", p.tp.Topic, "partition", p.tp.Partition, "error", err)
}

// warnInterval is between warnings about trouble that goes on.
const warnInterval = time.Minute

// recovered says that trouble which was warned of is over.
func (p *partition) recovered() {
	p.untroubled()
	if !p.warnedAt.IsZero() {
		p.warnedAt = time.Time{}
		p.w.logger.Info("outputs are written again", "topic", p.tp.Topic, "partition", p.tp.Partition)
	}
}

func (p *partition) untroubled() {
	if p.troubled {
		p.troubled = false
		p.w.setTrouble(p.session, nil)
	}
}

// abort drops what is not committed; the next Poll reads it again.
func (p *partition) abort() error {
	p.tally = tally{}
	p.open, p.strays = false, true
	return p.session.Abort(p.hard)
}

func (p *partition) close() {
	p.dropGuest()
	// Close drops an open batch; offsets that are on their way arrive before another member begins.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.hard), leaveTimeout)
	defer cancel()
	if err := p.session.Close(ctx); err != nil && !errors.Is(err, engine.ErrFenced) && !errors.Is(err, engine.ErrClosed) {
		p.w.logger.Warn("giving a partition up", "topic", p.tp.Topic, "partition", p.tp.Partition, "error", err)
	}
}

func (p *partition) dropGuest() {
	if p.guest == nil {
		return
	}
	if err := p.guest.Close(context.WithoutCancel(p.hard)); err != nil {
		p.w.logger.Warn("closing a guest", "error", err)
	}
	p.guest = nil
}
