package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/millstream-io/millstream/runtime/engine"
)

// Until bounds a run: the worker ends by itself, in phase "completed", when every partition of
// the group's inputs, whoever has it, is committed up to where the run ends. The zero value means a run without end.
type Until struct {
	// AtEnd ends the run at the end that each partition had when the run began: when its first worker started (Config.Ends).
	AtEnd bool
	// Time ends it before the first record of each partition with this timestamp or a later one. A time to
	// come is waited for; what a partition has then is its end.
	Time time.Time
}

// Ends are where a run ends in each of the group's inputs.
type Ends map[string]End

// End is where a run ends in the partitions of an input. One without partitions did not exist.
type End struct {
	ID      string  // of the topic: nothing of one that was made anew has a part in the run; "" where the log has none
	Offsets []int64 // by partition, of the first record that has no part in the run; a partition that came later has none
}

// Equal tells whether e and other are the same end.
func (e End) Equal(other End) bool { return e.ID == other.ID && slices.Equal(e.Offsets, other.Offsets) }

const (
	// boundGoneAfter is how long an input must have been missing for the run to end without it: a broker may hear late of a topic.
	boundGoneAfter = 5 * time.Second
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
	ends Ends            // nil: not known yet
	anew map[string]bool // inputs that were made anew since the run began

	gone map[engine.TopicPartition]time.Time // those that do not exist, since when; of settleBound, and then of watchBound
}

func newBound(u Until) *bound {
	return &bound{until: u, anew: map[string]bool{}, gone: map[engine.TopicPartition]time.Time{}}
}

// end is where a partition ends: at 0 when nothing of it has a part in the run.
func (b *bound) end(tp engine.TopicPartition) (offset int64, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ends == nil {
		return 0, false
	}
	if end := b.ends[tp.Topic]; !b.anew[tp.Topic] && int(tp.Partition) < len(end.Offsets) {
		return end.Offsets[tp.Partition], true
	}
	return 0, true
}

// recognize looks whether the topics of new sessions are those that the run began with, before anything is read. Another id is
// looked up twice: a broker may hear late of a topic.
func (w *Worker) recognize(ctx context.Context, sessions []engine.Session, before map[engine.Session]bool) error {
	if !w.bound.known() || !slices.ContainsFunc(sessions, func(s engine.Session) bool { return !before[s] }) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, boundGoneAfter+boundLookupTimeout)
	defer cancel()
	for again := false; ; again = true {
		found, err := w.config.Engine.Starts(ctx, w.config.Group.Inputs, engine.Start{Kind: engine.StartEarliest})
		if err != nil {
			return fmt.Errorf("look up the inputs of a bounded run: %w", err)
		}
		anew := w.bound.madeAnew(found, again)
		if again {
			for _, input := range anew {
				w.events.Event(slog.LevelWarn, fmt.Sprintf("input topic %q was made anew since the run began, which ends without it", input))
			}
		}
		if again || len(anew) == 0 {
			return nil
		}
		if !sleep(ctx, boundGoneAfter) {
			return ctx.Err()
		}
	}
}

// madeAnew returns those of the inputs that were not known to be made anew since the run began, and remembers them if that is sure.
func (b *bound) madeAnew(inputs map[string]engine.TopicStart, sure bool) (anew []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for input, now := range inputs {
		if end := b.ends[input]; end.ID == now.ID || end.ID == "" || now.ID == "" || b.anew[input] {
			continue
		}
		anew = append(anew, input)
		if sure {
			b.anew[input] = true
		}
	}
	return anew
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

// errTooSoon: the time of the run has not come, so nobody knows yet where it ends.
var errTooSoon = errors.New("the run has not come to its time yet")

// settleBound finds out where the run ends before anything is read, unless that is still to come; false means that the worker was stopped.
func (w *Worker) settleBound() bool {
	pause := backoff{}
	for {
		err := w.learnEnds(func(ctx context.Context) (Ends, error) {
			if time.Now().Before(w.bound.until.Time) {
				return nil, errTooSoon
			}
			return w.findEnds(ctx)
		})
		if err == nil || errors.Is(err, errTooSoon) {
			w.setTrouble(nil, nil)
			return true
		}
		w.setTrouble(nil, fmt.Errorf("where the run ends cannot be found out: %w", err))
		w.logger.Warn("where the run ends cannot be found out, trying again", "error", err)
		if !pause.wait(w.soft) {
			return false
		}
	}
}

// watchBound finds out where the run ends, if that is not known yet, and whether the group is there.
func (w *Worker) watchBound() {
	pause := backoff{}
	for !w.bound.known() {
		err := w.learnEnds(func(ctx context.Context) (Ends, error) {
			if !sleep(ctx, time.Until(w.bound.until.Time)) {
				return nil, ctx.Err()
			}
			return w.findEnds(ctx)
		})
		if err == nil {
			break
		}
		if w.soft.Err() == nil {
			w.logger.Warn("where the run ends cannot be found out, trying again", "error", err)
		}
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

func (b *bound) known() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ends != nil
}

// Ends are where the bounded run of w ends; nil: it has none, or that is not known yet. They are not to be changed.
func (w *Worker) Ends() Ends {
	if w.bound == nil {
		return nil
	}
	w.bound.mu.Lock()
	defer w.bound.mu.Unlock()
	return w.bound.ends
}

// learnEnds asks for where the run ends, which find looks up if it is for the first time.
func (w *Worker) learnEnds(find func(context.Context) (Ends, error)) error {
	var ends Ends
	var err error
	if w.config.Ends == nil {
		ends, err = find(w.soft)
	} else {
		ends, err = w.config.Ends(w.soft, find)
	}
	if err != nil {
		return err
	}
	w.bound.mu.Lock()
	defer w.bound.mu.Unlock()
	w.bound.ends = ends
	return nil
}

// findEnds looks up where a run ends that does so now. An input that does not exist has an end when it has been missing for long: none.
func (w *Worker) findEnds(ctx context.Context) (Ends, error) {
	end := engine.Start{Kind: engine.StartLatest}
	if until := w.bound.until; !until.AtEnd {
		end = engine.Start{Kind: engine.StartTimestamp, Timestamp: until.Time}
	}
	ctx, cancel := context.WithTimeout(ctx, boundLookupTimeout)
	defer cancel()
	found, err := w.config.Engine.Starts(ctx, w.config.Group.Inputs, end)
	if err != nil {
		return nil, err
	}
	ends := Ends{}
	for _, input := range w.config.Group.Inputs {
		at, exists := found[input]
		if gone := w.bound.isGone(engine.TopicPartition{Topic: input}, exists, w.events); !exists && !gone {
			return nil, fmt.Errorf("%w: input %q", engine.ErrUnknownTopic, input)
		}
		ends[input] = End(at)
	}
	return ends, nil
}

const boundLookupTimeout = 10 * time.Second

// allThrough asks the group's coordinator, once this worker is through with its own partitions.
func (w *Worker) allThrough() bool {
	w.mu.Lock()
	var left []engine.TopicPartition
	for tp, p := range w.sessions {
		if !p.counts.completed.Load() {
			left = append(left, tp)
		}
	}
	troubled := len(w.trouble) > 0
	w.mu.Unlock()
	if len(left) > 0 && !troubled {
		return false
	}
	ctx, cancel := context.WithTimeout(w.soft, boundLookupTimeout)
	defer cancel()
	positions, err := w.config.Engine.Lag(ctx, w.config.Group.Name, w.config.Group.Inputs)
	if err != nil {
		w.logger.Debug("positions of the group", "error", err)
		return false
	}
	through := true
	for _, tp := range left {
		_, found := positions[tp]
		through = w.bound.isGone(tp, found, w.events) && through
	}
	for input, end := range w.Ends() {
		for i := range end.Offsets {
			tp := engine.TopicPartition{Topic: input, Partition: int32(i)}
			// A partition that ends at 0 has nothing to commit.
			at, _ := w.bound.end(tp)
			p, found := positions[tp]
			if gone := w.bound.isGone(tp, found, w.events); found && at > 0 && p.Committed < at || !found && !gone {
				through = false
			}
		}
	}
	return through
}

// isGone tells whether a partition has been missing for so long that its topic was deleted: there is nothing left of it to
// be read, and the run ends without it.
func (b *bound) isGone(tp engine.TopicPartition, found bool, events *LogSource) bool {
	gone := b.gone
	if found {
		delete(gone, tp)
		return false
	}
	since, known := gone[tp]
	if !known {
		if len(gone) == 0 {
			events.Event(slog.LevelWarn, fmt.Sprintf("input topic %q does not exist any more: unless it comes back, the run ends without it", tp.Topic))
		}
		gone[tp] = time.Now()
	}
	return known && time.Since(since) >= boundGoneAfter
}
