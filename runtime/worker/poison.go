package worker

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/millstream-io/millstream/runtime/deadletter"
	"github.com/millstream-io/millstream/runtime/host"
)

const (
	// A record on which the guest ran out of wall time is tried again after a rest that doubles from the first
	// to the longest: the machine may have been busy. Other traps are what the record and the module make of each
	// other, and a rest would only keep the others of the partition waiting.
	retryFirst = 50 * time.Millisecond
	retryMax   = 500 * time.Millisecond

	// narrowCheap and narrowCostly are into how many parts a batch is split in which one record traps.
	// By halves it takes the fewest guests; but each part with a record that runs on to the limit costs that
	// limit once more, and it grows with the number of records, so that small parts are found sooner.
	narrowCheap, narrowCostly = 2, 16
)

// narrow finds the record that traps among the n from first on, part by part. It
// returns early, without an error, when the partition is wanted for something else.
func (p *partition) narrow(first, n int, t *trap) (next int, err error) {
	parts := narrowCheap
	switch t.cause.Kind {
	case host.TrapFuel, host.TrapWallTime, host.TrapOutput:
		p.size.exceeded(n)
		parts = narrowCostly
	}
	if n == 1 {
		return p.poison(first, t)
	}
	last, part := first+n, max(1, n/parts)
	for first < last {
		for end := min(first+part, last); first < end; {
			if p.live.Err() != nil {
				return first, nil // what is left is read again by whoever has the partition then
			}
			if first, err = p.call(first, end); err != nil {
				return first, err
			}
		}
		p.handled(first)
		if p.due() {
			if err := p.commit(); err != nil {
				return first, err
			}
		}
	}
	return first, nil
}

// poison handles a record on which the guest trapped alone.
func (p *partition) poison(first int, t *trap) (next int, err error) {
	if !t.fresh {
		return p.call(first, first+1) // memory that other records filled, say, is no fault of this one
	}
	var rest time.Duration
	if t.cause.Kind == host.TrapWallTime {
		rest = retryFirst
	}
	for try := range p.release.Retries {
		p.retryingRecord(first, try+1, t)
		// Records before this one do not wait for it.
		p.handled(first)
		if p.dueWithin(rest) {
			if err := p.commit(); err != nil {
				return first, err
			}
		}
		if p.live.Err() != nil || rest > 0 && !sleep(p.live, rest) {
			return first, nil
		}
		rest = min(2*rest, retryMax)
		n, result, err := p.process(first, 1)
		if err == nil {
			return p.produce(first, n, result)
		}
		again, ok := err.(*trap) //nolint:errorlint // process returns it bare
		if !ok {
			return first, err
		}
		t = again
	}
	failure := deadletter.Failure{Kind: deadletter.KindOf(t.cause.Kind), Reason: t.cause.Error()}
	p.logs.Line(slog.LevelError, fmt.Sprintf("offset %d: %s", p.fetch.Record(first).Offset, failure.Reason))
	if stop := p.stops(first, outcomes{1, 1}, failure); stop != nil {
		p.transaction.tally.count(failure.Kind)
		return first, stop
	}
	if err := p.apply(first, failure); err != nil {
		return first, err
	}
	p.transaction.tally.recordsIn++
	p.saw(1, 1)
	return first + 1, nil
}

func (p *partition) retryingRecord(i, try int, t *trap) {
	p.w.config.Stats.RecordRetries.Add(1)
	p.w.logger.Debug("record is tried again", "topic", p.tp.Topic, "partition", p.tp.Partition,
		"offset", p.fetch.Record(i).Offset, "try", try, "error", t.cause)
}

// saw tells the failure window what became of records of the open transaction.
func (p *judge) saw(records, failed int) {
	o := outcomes{int64(records), int64(failed)}
	p.release.failures.add(o)
	p.transaction.seen.records += o.records
	p.transaction.seen.failed += o.failed
}

// stops returns the failure with which record i of the fetch ends the deployment, or nil. more are the
// outcomes that the window was not told of yet, with those of this record.
func (p *judge) stops(i int, more outcomes, f deadletter.Failure) *Failure {
	if p.release.policyStops() {
		return p.failureOf(i, f)
	}
	if limit := p.release.failures.exceeded(more); limit != nil {
		failure := p.failureOf(i, f)
		failure.limit = limit
		return failure
	}
	return nil
}
