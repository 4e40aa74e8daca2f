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
	systemic  bool
}

// Error implements error: what happened, and how to go on.
func (f *Failure) Error() string {
	if f.systemic {
		return fmt.Sprintf("the module trapped on %d records in a row, up to offset %d of %s partition %d (%s): mend the module, or resume to go on behind what was set aside",
			maxTrapsInARow, f.Offset, f.Partition.Topic, f.Partition.Partition, f.Reason)
	}
	return fmt.Sprintf("record at offset %d of %s partition %d failed (%s: %s) and the error policy is %s: mend the record's source or the module and resume, or move the group's offset",
		f.Offset, f.Partition.Topic, f.Partition.Partition, f.Kind, f.Reason, deploy.OnErrorStop)
}

func (p *partition) failureOf(i int, f deadletter.Failure) *Failure {
	return &Failure{Partition: p.tp, Offset: p.fetch.Record(i).Offset, Kind: f.Kind, Reason: f.Reason}
}

// apply applies the error policy to record i of the fetch: a dead letter in the open batch, nothing, or a *Failure.
func (p *partition) apply(i int, f deadletter.Failure) error {
	p.tally.count(f.Kind)
	switch p.w.config.OnError {
	case deploy.OnErrorStop:
		return p.failureOf(i, f)
	case deploy.OnErrorSkip:
		p.tally.skipped++
		return nil
	}
	letter := p.w.config.Source.Envelope(p.tp, p.fetch.Record(i), f)
	if err := p.post(letter); err != nil {
		if errors.Is(err, engine.ErrTooLarge) {
			return &refusal{first: i, failure: f, cut: true}
		}
		return err
	}
	return nil
}

// post adds a dead letter to the batch; a topic that was deleted is made again.
func (p *partition) post(letter engine.Record) error {
	if err := p.begin(); err != nil {
		return err
	}
	topic := p.w.config.DeadLetters
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
	p.tally.deadLetters++
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

// refusal says that the log does not take an output or the dead letter of
// record first of the fetch; the open batch is spoilt.
type refusal struct {
	first   int
	failure deadletter.Failure
	cut     bool // what was refused was the dead letter of the record
}

func (r *refusal) Error() string { return r.failure.Reason }

// refused tells an output that its topic does not take from other errors of Produce.
func (p *partition) refused(first int, err error) error {
	if output, ok := errors.AsType[*engine.OutputError](err); ok && output.Input >= 0 {
		switch {
		case errors.Is(err, engine.ErrTooLarge):
			return &refusal{first: first + output.Input, failure: deadletter.Failure{Kind: deadletter.KindTooLarge, Reason: err.Error()}}
		case errors.Is(err, engine.ErrInvalidRecord):
			return &refusal{first: first + output.Input, failure: deadletter.Failure{Kind: deadletter.KindInvalid, Reason: err.Error()}}
		}
	}
	return fmt.Errorf("write outputs: %w", err)
}

// isolate sets aside the record with a refused output. What came before it is
// done again and committed first, because the refusal spoilt it.
func (p *partition) isolate(r *refusal) error {
	if err := p.abort(); err != nil {
		return err
	}
	if err := p.settle(r.first); err != nil || p.begun < r.first {
		return err
	}
	return p.setAside(r)
}

// settle handles the records from the first uncommitted one up to end and commits them, whatever their outputs' sizes.
func (p *partition) settle(end int) error {
	for p.begun < end && p.soft.Err() == nil {
		err := p.until(end)
		if refused, ok := errors.AsType[*refusal](err); ok {
			err = p.isolate(refused)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// until handles the records from the first uncommitted one up to end and commits them.
func (p *partition) until(end int) error {
	next := p.begun
	for next < end && p.soft.Err() == nil {
		var err error
		if next, err = p.call(next, end); err != nil {
			return p.conclude(next, err)
		}
	}
	return p.commit(next)
}

// conclude passes err on; what came before a record that ends the deployment stands.
func (p *partition) conclude(next int, err error) error {
	if _, ok := errors.AsType[*Failure](err); ok {
		if err := p.commit(next); err != nil {
			return err
		}
	}
	return err
}

// setAside applies the error policy to a record whose outputs, or whose dead letter, the log does not take, and commits.
func (p *partition) setAside(r *refusal) error {
	var err error
	if r.cut {
		p.tally.count(r.failure.Kind)
		err = p.post(p.w.config.Source.Cut(p.tp, p.fetch.Record(r.first), r.failure))
	} else {
		err = p.apply(r.first, r.failure)
	}
	if again, ok := errors.AsType[*refusal](err); ok {
		if err := p.abort(); err != nil {
			return err
		}
		return p.setAside(again)
	}
	if err != nil {
		return p.conclude(r.first, err)
	}
	p.tally.recordsIn++
	return p.commit(r.first + 1)
}
