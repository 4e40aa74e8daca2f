package worker

import (
	"context"
	"sync"
	"time"

	"github.com/millstream-io/millstream/runtime/engine"
)

// Until bounds a run: the worker ends by itself, in phase "completed", when every partition of
// the group's inputs, whoever has it, is committed up to where the run ends. The zero value means a run without end.
type Until struct {
	// AtEnd ends the run at the end that each partition had when the worker started.
	AtEnd bool
	// Time ends it before the first record of each partition with this timestamp or a later one. A time to
	// come is waited for; what a partition has then is its end.
	Time time.Time
}

const (
	// boundPollInterval is how long a bounded run waits for records before it looks where it is: a
	// partition may end in markers and aborted records, which Poll passes over without a word.
	boundPollInterval = 100 * time.Millisecond
	// boundCheckInterval is between looks at what other members of the group have committed.
	boundCheckInterval = 250 * time.Millisecond
)

// bound is where a bounded run ends. It is safe for concurrent use.
type bound struct {
	until Until

	mu   sync.Mutex
	ends map[engine.TopicPartition]int64 // nil: not known yet
}

func newBound(u Until) *bound { return &bound{until: u} }

// end is where a partition ends; a partition that came later has no part in the run.
func (b *bound) end(tp engine.TopicPartition) (offset int64, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ends == nil {
		return 0, false
	}
	return b.ends[tp], true
}

// within tells how many records of a fetch belong to the run.
func (p *partition) within(f engine.Fetch) int {
	b := p.w.bound
	if b == nil {
		return f.Len()
	}
	end, known := b.end(p.tp)
	for i := range f.Len() {
		if known && f.Record(i).Offset >= end {
			return i
		}
		if !b.until.Time.IsZero() && f.Timestamps()[i] >= b.until.Time.UnixMilli() {
			return i
		}
	}
	return f.Len()
}

// checkEnd finishes the partition if the run ends where it is.
func (p *partition) checkEnd() error {
	if p.w.bound == nil {
		return nil
	}
	at := p.session.Position()
	if end, known := p.w.bound.end(p.tp); !known || at < end {
		return nil
	}
	return p.finish(at)
}

// finish commits that the partition is through up to offset at, for all the group to see.
func (p *partition) finish(at int64) error {
	t := &p.transaction
	t.start(time.Now())
	t.next = at
	if at > 0 {
		if err := p.commit(); err != nil {
			return err
		}
	}
	t.end()
	p.dropGuest()
	p.finished = true
	p.counts.completed.Store(true)
	return nil
}

// watchBound finds out where the run ends, and whether the group is there.
func (w *Worker) watchBound() {
	pause := backoff{}
	for {
		ends, err := w.findEnds()
		if err == nil {
			w.bound.mu.Lock()
			w.bound.ends = ends
			w.bound.mu.Unlock()
			break
		}
		w.logger.Warn("where the run ends cannot be found out, trying again", "error", err)
		if !pause.wait(w.soft) {
			return
		}
	}
	for sleep(w.soft, boundCheckInterval) {
		if w.allThrough() {
			w.mu.Lock()
			w.completed = w.failure == nil
			w.mu.Unlock()
			w.stopSoft()
			return
		}
	}
}

// findEnds waits until the run's time has come and looks up where it ends.
func (w *Worker) findEnds() (map[engine.TopicPartition]int64, error) {
	until := w.bound.until
	end := engine.Start{Kind: engine.StartLatest}
	if !until.AtEnd {
		if !sleep(w.soft, time.Until(until.Time)) {
			return nil, w.soft.Err()
		}
		end = engine.Start{Kind: engine.StartTimestamp, Timestamp: until.Time}
	}
	ctx, cancel := context.WithTimeout(w.soft, boundLookupTimeout)
	defer cancel()
	return w.config.Engine.OffsetsAt(ctx, w.config.Group.Inputs, end)
}

const boundLookupTimeout = 10 * time.Second

// allThrough asks the group's coordinator, once this worker is through with its own partitions.
func (w *Worker) allThrough() bool {
	w.mu.Lock()
	for _, p := range w.sessions {
		if !p.counts.completed.Load() {
			w.mu.Unlock()
			return false
		}
	}
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(w.soft, boundLookupTimeout)
	defer cancel()
	positions, err := w.config.Engine.Lag(ctx, w.config.Group.Name, w.config.Group.Inputs)
	if err != nil {
		w.logger.Debug("positions of the group", "error", err)
		return false
	}
	for tp, end := range w.bound.ends { // written before this goroutine got here
		// A partition that ends at 0 has nothing to commit.
		if p, ok := positions[tp]; !ok || end > 0 && p.Committed < end {
			return false
		}
	}
	return true
}
