package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millstream-io/millstream/runtime/engine"
)

// When a transaction ends although there is more to read: see Config.
const (
	DefaultCommitInterval = 100 * time.Millisecond
	DefaultCommitBytes    = 16 << 20

	// With at-least-once delivery nobody waits for a commit, and nothing is won by rare ones: a
	// batch of outputs is written when it has eagerBytes, and after a call when it is older than
	// eagerAge, so that slow guests show their results before the fetch is through.
	eagerBytes = 256 << 10
	eagerAge   = 20 * time.Millisecond

	commitTries = 4
)

// transaction is what a partition has handled and not committed. It may span
// several fetches and calls. The zero value is empty.
type transaction struct {
	since  time.Time // when its first record was handled; zero: it is empty
	read   time.Time // when that record was read
	open   bool      // Begin was called
	next   int64     // behind the last record handled
	newest int64     // event time, ms
	tried  bool      // Commit was called, and what became of it is not known
	tally  tally
	seen   outcomes // what the failure window was told

	waiting     context.Context // for records, as long as the transaction may last; nil: not needed yet
	stopWaiting context.CancelFunc
}

func (t *transaction) empty() bool { return t.since.IsZero() }

// end empties the transaction.
func (t *transaction) end() {
	if t.stopWaiting != nil {
		t.stopWaiting()
	}
	*t = transaction{}
}

// takeBack returns what the failure window should forget again.
func (t *transaction) takeBack() outcomes {
	back := outcomes{-t.seen.records, -t.seen.failed}
	t.seen = outcomes{}
	return back
}

// writer keeps the open transaction of a partition.
type writer struct {
	caller
	transaction transaction
	counts      partitionCounts
	// live ends when the partition is given up or its release replaced: do not wait for anything.
	live context.Context

	troubled   bool // the worker was told of trouble with this partition
	tries      int  // that failed since the last commit
	troubledAt time.Time
	warnedAt   time.Time // zero: not since the last commit
}

// replaced tells whether there is a newer release than that of the partition.
func (p *writer) replaced() bool { return p.release.ctx.Err() != nil && p.hard.Err() == nil }

// begin opens the batch of outputs, if it is not.
func (p *writer) begin() error {
	if p.transaction.open {
		return nil
	}
	if err := p.session.Begin(p.release.Outputs); err != nil {
		return fmt.Errorf("begin a transaction: %w", err)
	}
	p.transaction.open = true
	p.transaction.start(p.now)
	return nil
}

func (t *transaction) start(read time.Time) {
	if t.since.IsZero() {
		t.since, t.read = time.Now(), read
	}
}

// handled notes that the records of the fetch before index next are, and that their outputs are in the transaction.
func (p *writer) handled(next int) {
	if next == 0 {
		return
	}
	t := &p.transaction
	t.start(p.now)
	t.next = p.fetch.NextOffset(next - 1)
	t.newest = max(t.newest, p.fetch.Timestamps()[next-1])
}

// due tells whether the transaction should end although there is more to read.
func (p *writer) due() bool { return p.dueWithin(0) }

// dueWithin tells whether it should before d is over.
func (p *writer) dueWithin(d time.Duration) bool {
	t := &p.transaction
	if t.empty() {
		return false
	}
	c := &p.w.config
	size, age := int64(c.CommitBytes), c.CommitInterval
	if c.Group.Delivery == engine.AtLeastOnce {
		size, age = min(size, eagerBytes), min(age, eagerAge)
	}
	return t.tally.bytesOut >= size || time.Since(t.since)+d >= age || p.replaced()
}

// commit makes the outcome of all records that are handled durable. When the
// log refuses, it is tried again, with at-least-once delivery for as long as that takes. A
// transaction is given up before its coordinator does that (transaction.timeout.ms): its records are read again.
func (p *writer) commit() error {
	t := &p.transaction
	if t.empty() {
		return nil
	}
	if t.next == 0 { // opened, but nothing came through
		return nil
	}
	started := time.Now()
	for pause, try := (backoff{seed: p.seed}), 1; ; try++ {
		t.tried = true
		err := p.session.Commit(p.hard, t.next)
		if err == nil {
			break
		}
		if !errors.Is(err, engine.ErrStorage) {
			return fmt.Errorf("commit offset %d: %w", t.next, err)
		}
		if try == commitTries && p.w.config.Group.Delivery == engine.ExactlyOnce {
			return err
		}
		p.retrying("outputs cannot be written", err)
		if !pause.wait(p.live) {
			return err
		}
	}
	p.recovered()
	p.committed(time.Since(started))
	return nil
}

// committed counts the transaction and makes room for the next.
func (p *writer) committed(took time.Duration) {
	t := &p.transaction
	age, eventAge := time.Since(t.read), max(0, time.Since(time.UnixMilli(t.newest)))
	p.counts.add(t, took, age, eventAge)
	stats := p.w.config.Stats
	if t.tally.recordsIn > 0 {
		stats.observeCommit(took, age, eventAge)
	}
	stats.settle(&t.tally)
	stats.Commits.Add(1)
	t.end()
}

// abort drops what is not committed; the next Poll reads it again. A commit of which
// nobody knew whether it happened counts if it did.
func (p *writer) abort() error {
	t := &p.transaction
	ctx, cancel := context.WithTimeout(p.hard, abortTimeout)
	defer cancel()
	if err := p.session.Abort(ctx); err != nil {
		return fmt.Errorf("abort: %w", err)
	}
	if t.tried && p.session.Position() == t.next {
		p.committed(0)
		return nil
	}
	if !t.empty() {
		p.w.config.Stats.Aborts.Add(1)
	}
	p.release.failures.add(t.takeBack())
	t.end()
	return nil
}

// abortTimeout bounds one try; it is tried again.
const abortTimeout = time.Minute
