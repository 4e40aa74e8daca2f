package worker

import (
	"context"
	"errors"
	"time"

	"github.com/millstream-io/millstream/runtime/engine"
)

// partition takes the records of one session through one guest; it is used by one goroutine.
// Its parts, each on top of the one before: the caller takes records through the guest, the writer keeps the
// transaction, the judge decides about records that fail, the partition reads and knows when to stop.
type partition struct {
	judge
	uses     *release        // as the worker knows it, for it to read
	finished bool            // a bounded run is through here
	soft     context.Context // ends: finish the transaction and give the partition up
	stopSoft context.CancelFunc
	stopLive context.CancelFunc
}

func newPartition(membership context.Context, w *Worker, s engine.Session) *partition {
	p := &partition{stopLive: func() {}}
	p.w, p.session, p.tp, p.hard = w, s, s.Partition(), w.hard
	p.aside = map[int64]verdict{}
	p.seed = seedOf(p.tp)
	p.counts.committed.Store(-1)
	p.soft, p.stopSoft = context.WithCancel(membership)
	p.adopt()
	return p
}

// adopt changes over to the current release. No transaction is open.
func (p *partition) adopt() {
	p.dropGuest()
	p.stopLive()
	p.release = p.w.releases.adopt(p)
	p.size = newSizing(p.release.Limits)
	p.logs = p.w.config.Logs.Source(p.release.Setup.Deployment, p.tp, p.release.Limits.LogLines)
	clear(p.aside) // the new release may put something else out
	live, cancel := context.WithCancel(p.soft)
	unhook := context.AfterFunc(p.release.ctx, cancel)
	p.live, p.stopLive = live, func() {
		unhook()
		cancel()
	}
}

// run works until the partition is taken away, the worker stops, or the
// deployment has failed; only the last is an error.
func (p *partition) run() error {
	go func() {
		select {
		case <-p.session.Done():
			p.stopSoft()
		case <-p.soft.Done():
		}
	}()
	defer p.close()
	pause := backoff{seed: p.seed}
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
		if !p.goBack(&pause) {
			return nil
		}
		p.untroubled() // until it fails again: Poll may now wait for records for long
	}
}

// goBack aborts the transaction, for as long as that takes, and rests; false means that the session is over. Without
// an abort that went well nobody knows what is committed, and so where to read on.
func (p *partition) goBack(pause *backoff) bool {
	for {
		err := p.abort()
		if err == nil {
			return pause.wait(p.live) || p.soft.Err() == nil
		}
		if p.ended(err) {
			return false
		}
		p.retrying("transaction cannot be aborted", err)
		if !pause.wait(p.soft) {
			return false
		}
	}
}

// ended tells whether the session is over, whatever err says in detail.
func (p *partition) ended(err error) bool {
	return p.soft.Err() != nil || errors.Is(err, engine.ErrFenced) || errors.Is(err, engine.ErrClosed)
}

// once takes one fetch through the guest.
func (p *partition) once() error {
	if err := p.boundary(); err != nil {
		return err
	}
	if p.finished {
		// The session is kept until the whole group is through, so that nobody else takes it up.
		<-p.live.Done()
		return p.soft.Err()
	}
	f, err := p.poll()
	if f == nil || err != nil {
		return err
	}
	p.fetch, p.now = f, time.Now()
	end := p.within(f)
	for next := 0; next < end && p.soft.Err() == nil; {
		if next, err = p.advance(next, end); err != nil {
			if refused, ok := errors.AsType[*refusal](err); ok {
				return p.setAside(refused)
			}
			return err
		}
	}
	switch {
	case p.soft.Err() != nil: // perhaps in the middle of the fetch
		return p.commit()
	case end < f.Len():
		return p.finish(f.Record(end).Offset)
	}
	if p.w.config.Group.Delivery == engine.AtLeastOnce || !p.session.Ready() || p.due() {
		err = p.commit()
	}
	if err != nil || p.w.bound == nil {
		return err
	}
	return p.checkEnd()
}

// boundary changes over to a new release, which takes the end of the transaction.
func (p *partition) boundary() error {
	if !p.replaced() {
		return nil
	}
	if err := p.commit(); err != nil {
		return err
	}
	p.adopt()
	return nil
}

// poll returns the next records, or nothing when there was something else to do. It waits for
// records only with no transaction open, or as long as that may last.
func (p *partition) poll() (engine.Fetch, error) {
	ctx, cancel := p.waiting()
	defer cancel()
	f, err := p.session.Poll(ctx, pollBytes)
	switch {
	case err == nil:
		return f, nil
	case p.soft.Err() != nil:
		// The partition is being given up: what is in hand is finished, not lost.
		if err := p.commit(); err != nil {
			return nil, err
		}
		return nil, err
	case ctx.Err() != nil:
		if err := p.commit(); err != nil {
			return nil, err
		}
		return nil, p.checkEnd()
	}
	return nil, err
}

// waiting returns the context for a Poll: it ends when something else is to be done.
func (p *partition) waiting() (context.Context, context.CancelFunc) {
	t := &p.transaction
	switch {
	case !t.empty():
		if t.waiting == nil {
			t.waiting, t.stopWaiting = context.WithDeadline(p.live, t.since.Add(p.w.config.CommitInterval))
		}
		return t.waiting, nothing
	case p.w.bound != nil:
		return context.WithTimeout(p.live, boundPollInterval)
	}
	return p.live, nothing
}

func nothing() {}

// advance handles records from first on, at least one unless the release was replaced; it returns the first that is left.
func (p *partition) advance(first, end int) (next int, err error) {
	if err := p.boundary(); err != nil {
		return first, err
	}
	if len(p.aside) > 0 {
		if offset := p.fetch.Record(first).Offset; p.isAside(offset) {
			return p.dispose(first, offset)
		}
		end = p.nextAside(first, end)
	}
	next, err = p.call(first, end)
	if err != nil {
		return next, p.conclude(next, err)
	}
	p.handled(next)
	if p.due() {
		err = p.commit()
	}
	return next, err
}

// conclude passes err on; what came before a record that ends the deployment stands.
func (p *partition) conclude(next int, err error) error {
	if _, ok := errors.AsType[*Failure](err); ok {
		p.handled(next)
		if err := p.commit(); err != nil {
			return err
		}
	}
	return err
}

func (p *partition) close() {
	p.stopSoft()
	p.stopLive()
	p.dropGuest()
	p.w.releases.abandon(p)
	p.release.failures.add(p.transaction.takeBack())
	p.transaction.end()
	// Close drops an open batch; offsets that are on their way arrive before another member begins.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.hard), leaveTimeout)
	defer cancel()
	if err := p.session.Close(ctx); err != nil && !errors.Is(err, engine.ErrFenced) && !errors.Is(err, engine.ErrClosed) {
		p.w.logger.Warn("giving a partition up", "topic", p.tp.Topic, "partition", p.tp.Partition, "error", err)
	}
}
