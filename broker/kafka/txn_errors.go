package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/coord/txn"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/twmb/franz-go/pkg/kerr"
)

// txnErrorCodes are the rows of the table of errors for transactions.
func txnErrorCodes() []errorCode {
	return []errorCode{
		{topic.ErrNoTransaction, kerr.InvalidTxnState},
		{txn.ErrFenced, kerr.ProducerFenced},
		{txn.ErrUnknownProducer, kerr.InvalidProducerIDMapping},
		{txn.ErrInvalidState, kerr.InvalidTxnState},
		{txn.ErrNotInTransaction, kerr.InvalidTxnState},
		{txn.ErrConcurrent, kerr.ConcurrentTransactions},
		{txn.ErrInvalidID, kerr.InvalidRequest},
		{txn.ErrInvalidTime, kerr.InvalidTransactionTimeout},
		{txn.ErrNotFound, kerr.TransactionalIDNotFound},
		{txn.ErrTooManyIDs, kerr.PolicyViolation},
		{txn.ErrTooManyPartitions, kerr.PolicyViolation},
		{txn.ErrClosed, kerr.CoordinatorNotAvailable},
	}
}

// txnOutcome returns the code of an error of the transaction coordinator for a
// request that knows PRODUCER_FENCED from version fencedFrom on; before, a
// fenced producer is told that its epoch is invalid (KIP-588). A journal that
// takes no writes and a request that was given up are told as Kafka tells
// them: the client looks for the coordinator again and tries again.
func (s *Service) txnOutcome(what string, version, fencedFrom int16, err error) int16 {
	switch {
	case errors.Is(err, txn.ErrJournal), errors.Is(err, group.ErrJournal):
		s.outcome(what, err) // logs it
		return kerr.NotCoordinator.Code
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return kerr.CoordinatorNotAvailable.Code
	case errors.Is(err, txn.ErrFenced) && version < fencedFrom:
		return kerr.InvalidProducerEpoch.Code
	}
	code, _ := s.outcome(what, err)
	return code
}

// neverFenced stands for requests that tell a fenced producer INVALID_PRODUCER_EPOCH in every version.
const neverFenced = 1<<15 - 1

// abortable turns what only the abort of a transaction can help from into the
// code that says so, for versions that know it (KIP-890), and a transaction
// that is being ended into a reason to try again.
func abortable(err error, version, abortableFrom, concurrentFrom int16) error {
	switch {
	case errors.Is(err, txn.ErrFenced):
		return fmt.Errorf("%w: %w", kerr.InvalidProducerEpoch, err)
	case errors.Is(err, txn.ErrNotInTransaction) && version >= abortableFrom:
		return fmt.Errorf("%w: %w", kerr.TransactionAbortable, err)
	case errors.Is(err, txn.ErrConcurrent) && version < concurrentFrom:
		return fmt.Errorf("%w: %w", kerr.NotEnoughReplicas, err)
	case errors.Is(err, txn.ErrClosed) && concurrentFrom > 0: // Produce knows no coordinators
		return fmt.Errorf("%w: %w", kerr.NotLeaderForPartition, err)
	}
	return err
}
