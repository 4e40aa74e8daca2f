package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millstream-io/millstream/runtime/engine"
)

// classes says what an answer of the cluster means to a worker. Every other one is engine.ErrStorage.
var classes = []struct{ answer, is error }{
	{kerr.UnknownTopicOrPartition, engine.ErrUnknownTopic},
	{kerr.UnknownTopicID, engine.ErrUnknownTopic},
	{kerr.MessageTooLarge, engine.ErrTooLarge},
	{kerr.RecordListTooLarge, engine.ErrTooLarge},
	{kerr.InvalidRecord, engine.ErrInvalidRecord},
	{kerr.InvalidTimestamp, engine.ErrInvalidRecord},
	{kerr.CorruptMessage, engine.ErrCorrupt},
	{kerr.InvalidTxnState, engine.ErrAborted},
	{kerr.TransactionAbortable, engine.ErrAborted},
	{kerr.InvalidProducerIDMapping, engine.ErrAborted},
	{kerr.TransactionalIDNotFound, engine.ErrAborted},
	{kerr.OutOfOrderSequenceNumber, engine.ErrAborted},
	{kerr.UnknownProducerID, engine.ErrAborted},
	{kerr.ProducerFenced, engine.ErrFenced},
	{kerr.InvalidProducerEpoch, engine.ErrFenced},
	{kerr.IllegalGeneration, engine.ErrFenced},
	{kerr.UnknownMemberID, engine.ErrFenced},
	{kerr.FencedInstanceID, engine.ErrFenced},
	{kerr.StaleMemberEpoch, engine.ErrFenced},
	{kerr.FencedMemberEpoch, engine.ErrFenced},
	{kerr.TopicAuthorizationFailed, engine.ErrNotAllowed},
	{kerr.GroupAuthorizationFailed, engine.ErrNotAllowed},
	{kerr.TransactionalIDAuthorizationFailed, engine.ErrNotAllowed},
	{kerr.ClusterAuthorizationFailed, engine.ErrNotAllowed},
	{kgo.ErrClientClosed, engine.ErrClosed},
}

// explain wraps what the cluster says in the engine's errors.
func explain(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	for _, c := range classes {
		if errors.Is(err, c.is) {
			return err
		}
	}
	for _, c := range classes {
		if errors.Is(err, c.answer) {
			return fmt.Errorf("%w: %w", c.is, err)
		}
	}
	if errors.Is(err, engine.ErrStorage) {
		return err
	}
	return fmt.Errorf("%w: %w", engine.ErrStorage, err)
}

// passing reports errors that pass: leaders and coordinators that move or load, connections that break,
// a transaction that is still being ended. A topic that a broker does not know passes too, if the broker has only
// not heard of it yet: see again.
func passing(err error) bool {
	if errors.Is(err, engine.ErrAborted) {
		return false
	}
	for _, c := range classes {
		if c.is == engine.ErrAborted && errors.Is(err, c.answer) {
			return false // what was in the transaction, or before it in its partition, is gone
		}
	}
	return kerr.IsRetriable(err) || errors.Is(err, kerr.ConcurrentTransactions) || broken(err)
}

// hearsayTime is how long it may take until all brokers have heard of a new topic.
const hearsayTime = 3 * time.Second

// again reports whether it is worth trying again what has failed for so long.
func again(err error, elapsed, limit time.Duration) bool {
	if errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.UnknownTopicID) {
		limit = min(limit, hearsayTime)
	}
	return passing(err) && elapsed < limit
}

// broken reports that there is no answer: the request may have been carried out, or not.
func broken(err error) bool {
	var answer *kerr.Error
	if err == nil || errors.As(err, &answer) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	for _, c := range classes {
		if errors.Is(err, c.is) || errors.Is(err, c.answer) {
			return false
		}
	}
	return true
}

// fenced reports that somebody else has initialised the producer, or that the cluster gave its transaction up.
func fenced(err error) bool {
	return errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch)
}

const (
	firstPause = 10 * time.Millisecond
	lastPause  = 500 * time.Millisecond
)

// pauses counts the waiting between attempts.
type pauses struct{ last time.Duration }

// wait waits for a moment, longer each time, and reports whether there is still time left.
func (p *pauses) wait(ctx context.Context) error {
	p.last = min(max(2*p.last, firstPause), lastPause)
	return sleep(ctx, p.last)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// retry calls f until it succeeds or fails for good. It gives up after limit, or with ctx, and then
// returns what f said last.
func retry(ctx context.Context, limit time.Duration, f func() error) error {
	var p pauses
	for began := time.Now(); ; {
		err := f()
		if err == nil || !again(err, time.Since(began), limit) {
			return err
		}
		if p.wait(ctx) != nil {
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}
