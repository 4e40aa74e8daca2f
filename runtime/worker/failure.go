package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/millstream-io/millstream/runtime/deadletter"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
)

// Failure ends a deployment for good: a record failed under the policy stop, or too many did.
type Failure struct {
	Partition engine.TopicPartition
	Offset    int64
	Kind      string // of package deadletter
	Reason    string
	limit     *tooMany // nil: the policy is stop, or letter says why
	letter    error    // why the dead letter topic takes nothing of the record
}

// Error implements error: what happened, and how to go on.
func (f *Failure) Error() string {
	record := f.where()
	switch l := f.limit; {
	case f.letter != nil:
		return fmt.Sprintf("the record at %s failed, and its dead letter cannot be written: %v: mend the settings of that topic (`millstream topic describe` shows them), or choose another --on-error, and resume",
			record, f.letter)
	case l == nil:
		return fmt.Sprintf("the record at %s failed, and the error policy is %s: mend the record's source or the module and resume, or move the group's offset",
			record, deploy.OnErrorStop)
	case l.inARow:
		return fmt.Sprintf("%d records in a row failed, the newest at %s: %s", l.failed, record, howToGoOn)
	default:
		return fmt.Sprintf("%d of %d records failed within %s, the limit is %d %%; the newest at %s: %s",
			l.failed, l.records, l.window, l.percent, record, howToGoOn)
	}
}

// where names the record and its failure.
func (f *Failure) where() string {
	return fmt.Sprintf("offset %d of %s partition %d (%s: %s)", f.Offset, f.Partition.Topic, f.Partition.Partition, f.Kind, f.Reason)
}

// howToGoOn after too many failures; the newest record is the next one to be handled.
const howToGoOn = "the fault is in the module or in all of its input. Deploy a mended version, or allow more failures, and resume: the newest record is tried again first"

// judge decides what becomes of records that fail, by the error policy of the release.
type judge struct {
	writer
	// aside are records that the log is known not to take, by offset. They are told from others
	// before the guest sees them, in whatever transaction they come again.
	aside map[int64]verdict
}

func (p *judge) failureOf(i int, f deadletter.Failure) *Failure {
	return &Failure{Partition: p.tp, Offset: p.fetch.Record(i).Offset, Kind: f.Kind, Reason: f.Reason}
}

// apply applies the error policy, dead-letter or skip, to record i of the fetch.
func (p *judge) apply(i int, f deadletter.Failure) error {
	p.transaction.tally.count(f.Kind)
	p.release.failures.note(p.failureOf(i, f).where())
	if p.release.OnError == deploy.OnErrorSkip {
		p.transaction.tally.skipped++
		return nil
	}
	return p.bury(i, verdict{failure: f})
}

// size is how much of a record its dead letter has.
type size int

const (
	whole size = iota
	cut        // without its value and own headers
	stub       // without its key, too
	none       // its topic takes nothing of it
)

// bury adds the dead letter of record i, as large as the verdict says, to the batch. If its topic does not take it, the
// record is set aside for a smaller one.
func (p *judge) bury(i int, v verdict) error {
	r := p.fetch.Record(i)
	var letter engine.Record
	switch v.letter {
	case whole:
		letter = p.release.Source.Envelope(p.tp, r, v.failure)
	case cut:
		letter = p.release.Source.Cut(p.tp, r, v.failure)
	case stub:
		letter = p.release.Source.Stub(p.tp, r, v.failure)
	case none:
		failure := p.failureOf(i, v.failure)
		failure.letter = v.refused
		return failure
	}
	err := p.post(letter)
	switch {
	case errors.Is(err, engine.ErrTooLarge):
		v.letter++
	case errors.Is(err, engine.ErrInvalidRecord):
		v.letter = none
	default:
		return err
	}
	v.refused = err
	return &refusal{offset: r.Offset, verdict: v}
}

// post adds a dead letter to the batch; a topic that was deleted is made again.
func (p *judge) post(letter engine.Record) error {
	if err := p.begin(); err != nil {
		return err
	}
	topic := p.release.DeadLetters
	err := p.session.ProduceTo(p.hard, topic, letter)
	if errors.Is(err, engine.ErrUnknownTopic) {
		if err := EnsureDeadLetters(p.hard, p.w.config.Engine, topic, 0); err != nil {
			return err
		}
		err = p.session.ProduceTo(p.hard, topic, letter)
	}
	if err != nil {
		return fmt.Errorf("write a dead letter to %s: %w", topic, err)
	}
	p.transaction.tally.deadLetters++
	return nil
}

// EnsureDeadLetters creates a dead letter topic if it does not exist.
func EnsureDeadLetters(ctx context.Context, e engine.Engine, topic string, partitions int) error {
	err := e.EnsureTopic(ctx, topic, partitions, map[string]string{"max.message.bytes": fmt.Sprint(deadletter.MaxMessageBytes)})
	if err != nil {
		return fmt.Errorf("create the dead letter topic %s: %w", topic, err)
	}
	return nil
}

// verdict is why the log does not take what a record leads to.
type verdict struct {
	failure deadletter.Failure
	letter  size  // of the dead letter
	refused error // why a larger one was; nil: it was an output
}

// refusal says that the log does not take an output or the dead letter of
// the record at an offset; the transaction is spoilt.
type refusal struct {
	offset int64
	verdict
}

func (r *refusal) Error() string { return r.failure.Reason }

// refused tells an output that its topic does not take from other errors of Produce.
func (p *judge) refused(first int, err error) error {
	if output, ok := errors.AsType[*engine.OutputError](err); ok && output.Input >= 0 {
		kind := ""
		switch {
		case errors.Is(err, engine.ErrTooLarge):
			kind = deadletter.KindTooLarge
		case errors.Is(err, engine.ErrInvalidRecord):
			kind = deadletter.KindInvalid
		}
		if kind != "" {
			return &refusal{p.fetch.Record(first + output.Input).Offset, verdict{failure: deadletter.Failure{Kind: kind, Reason: err.Error()}}}
		}
	}
	return fmt.Errorf("write outputs: %w", err)
}

// setAside remembers a record with a refused output and begins the transaction again: what came before the
// record is done once more, because the refusal spoilt it.
func (p *judge) setAside(r *refusal) error {
	p.aside[r.offset] = r.verdict
	return p.abort()
}

func (p *judge) isAside(offset int64) bool {
	_, found := p.aside[offset]
	return found
}

// nextAside returns the index of the first record that is set aside, from first on, or end.
func (p *judge) nextAside(first, end int) int {
	for i := first + 1; i < end; i++ {
		if p.isAside(p.fetch.NextOffset(i-1)) || p.isAside(p.fetch.Record(i).Offset) {
			return i
		}
	}
	return end
}

// dispose applies the error policy to a record that was set aside, and commits: the next one that is refused
// spoils only what comes after it.
func (p *partition) dispose(first int, offset int64) (next int, err error) {
	v := p.aside[offset]
	if v.letter == whole {
		if stop := p.stops(first, outcomes{1, 1}, v.failure); stop != nil {
			p.transaction.tally.count(v.failure.Kind)
			return first, p.conclude(first, stop)
		}
		err = p.apply(first, v.failure)
	} else {
		p.transaction.tally.count(v.failure.Kind)
		err = p.bury(first, v)
	}
	if err != nil {
		return first, p.conclude(first, err)
	}
	p.transaction.tally.recordsIn++
	p.saw(1, 1)
	p.handled(first + 1)
	if err := p.commit(); err != nil {
		return first + 1, err
	}
	delete(p.aside, offset)
	return first + 1, nil
}
