package worker

import (
	"sync/atomic"
	"time"

	"github.com/millstream-io/millstream/runtime/deadletter"
)

// Stats counts what a deployment did in this process. It outlives the workers
// of the deployment (pause and resume go on counting). Records count
// when the batch they were in is committed, so a batch that is tried again counts once.
type Stats struct {
	RecordsIn   atomic.Int64
	RecordsOut  atomic.Int64
	BytesIn     atomic.Int64 // in the flat form that guests see
	BytesOut    atomic.Int64
	Rejected    atomic.Int64 // by the guest's verdict
	Trapped     atomic.Int64 // records on which the guest trapped
	Refused     atomic.Int64 // records with an output that its topic does not take
	DeadLetters atomic.Int64
	Skipped     atomic.Int64
	Fuel        atomic.Int64
	Traps       atomic.Int64 // calls that trapped; narrowing one record down takes several
	Restarts    atomic.Int64 // guests made in place of a spent one
	Retries     atomic.Int64 // batches given up and read again

	RecordRetries atomic.Int64 // further tries of records on which the guest trapped
	Commits       atomic.Int64
	Aborts        atomic.Int64 // transactions dropped; what was in them is read again

	histograms
}

// Failed is the number of records that got the error policy.
func (s *Stats) Failed() int64 {
	return s.Rejected.Load() + s.Trapped.Load() + s.Refused.Load()
}

// tally is what the open batch adds to the stats when it is committed.
type tally struct {
	recordsIn, recordsOut, bytesIn, bytesOut int64
	rejected, trapped, refused               int64
	deadLetters, skipped                     int64
}

// count notes a failed record by its kind, of package deadletter.
func (t *tally) count(kind string) {
	switch kind {
	case deadletter.KindReject:
		t.rejected++
	case deadletter.KindTooLarge, deadletter.KindInvalid:
		t.refused++
	default:
		t.trapped++
	}
}

// settle adds t to the stats and empties it.
func (s *Stats) settle(t *tally) {
	add := func(counter *atomic.Int64, n int64) {
		if n != 0 {
			counter.Add(n)
		}
	}
	add(&s.RecordsIn, t.recordsIn)
	add(&s.RecordsOut, t.recordsOut)
	add(&s.BytesIn, t.bytesIn)
	add(&s.BytesOut, t.bytesOut)
	add(&s.Rejected, t.rejected)
	add(&s.Trapped, t.trapped)
	add(&s.Refused, t.refused)
	add(&s.DeadLetters, t.deadLetters)
	add(&s.Skipped, t.skipped)
	*t = tally{}
}

// partitionCounts are what one session did, for those who watch.
type partitionCounts struct {
	committed, committedAt, commitTook, latency, eventAge atomic.Int64
	records, outputs, deadLetters                         atomic.Int64
	completed                                             atomic.Bool
}

// add counts a committed transaction, before its tally is settled.
func (c *partitionCounts) add(t *transaction, took, latency, eventAge time.Duration) {
	c.committed.Store(t.next)
	c.committedAt.Store(time.Now().UnixNano())
	c.commitTook.Store(int64(took))
	if t.tally.recordsIn > 0 {
		c.latency.Store(int64(latency))
		c.eventAge.Store(int64(eventAge))
	}
	c.records.Add(t.tally.recordsIn)
	c.outputs.Add(t.tally.recordsOut)
	c.deadLetters.Add(t.tally.deadLetters)
}

func (c *partitionCounts) snapshot() PartitionSnapshot {
	s := PartitionSnapshot{
		Committed: c.committed.Load(), CommitTook: time.Duration(c.commitTook.Load()),
		Latency: time.Duration(c.latency.Load()), EventAge: time.Duration(c.eventAge.Load()),
		Records: c.records.Load(), Outputs: c.outputs.Load(), DeadLetters: c.deadLetters.Load(), Completed: c.completed.Load(),
	}
	if at := c.committedAt.Load(); at != 0 {
		s.CommittedAt = time.Unix(0, at)
	}
	return s
}
