package kafka

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"time"

	"github.com/millstream-io/millstream/broker/commitlog"
	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/meta"
	"github.com/millstream-io/millstream/broker/producer"
	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/millstream-io/millstream/broker/vfs"
	"github.com/twmb/franz-go/pkg/kerr"
)

// errorCode is one row of the table of errors.
type errorCode struct {
	err  error
	code *kerr.Error
}

// errorCodes maps the errors of the domain to Kafka's; the first match counts.
func errorCodes() []errorCode {
	return append(txnErrorCodes(), []errorCode{
		{topic.ErrUnknownTopic, kerr.UnknownTopicOrPartition},
		{topic.ErrUnknownPartition, kerr.UnknownTopicOrPartition},
		{topic.ErrExists, kerr.TopicAlreadyExists},
		{topic.ErrInvalidName, kerr.InvalidTopicException},
		{topic.ErrInvalidConfig, kerr.InvalidConfig},
		{topic.ErrInvalidPartition, kerr.InvalidPartitions},
		{topic.ErrTooManyPartitions, kerr.PolicyViolation},
		{topic.ErrMessageTooLarge, kerr.MessageTooLarge},
		{topic.ErrInvalidTimestamp, kerr.InvalidTimestamp},
		{topic.ErrInvalidBatch, kerr.InvalidRecord},
		{commitlog.ErrOffsetOutOfRange, kerr.OffsetOutOfRange},
		{commitlog.ErrCorrupt, kerr.KafkaStorageError},
		{commitlog.ErrFailed, kerr.KafkaStorageError},
		{commitlog.ErrClosed, kerr.NotLeaderForPartition},
		{vfs.ErrNoSpace, kerr.KafkaStorageError},
		{producer.ErrOutOfOrder, kerr.OutOfOrderSequenceNumber},
		{producer.ErrDuplicate, kerr.DuplicateSequenceNumber},
		{producer.ErrFenced, kerr.InvalidProducerEpoch},
		{producer.ErrInTransaction, kerr.InvalidTxnState},
		{record.ErrCorrupt, kerr.CorruptMessage},
		{record.ErrTruncated, kerr.CorruptMessage},
		{record.ErrTooLarge, kerr.MessageTooLarge},
		{group.ErrInvalidGroupID, kerr.InvalidGroupID},
		{group.ErrUnknownMember, kerr.UnknownMemberID},
		{group.ErrMemberIDRequired, kerr.MemberIDRequired},
		{group.ErrIllegalGeneration, kerr.IllegalGeneration},
		{group.ErrRebalanceInProgress, kerr.RebalanceInProgress},
		{group.ErrInconsistentGroup, kerr.InconsistentGroupProtocol},
		{group.ErrInvalidSession, kerr.InvalidSessionTimeout},
		{group.ErrFencedInstance, kerr.FencedInstanceID},
		{group.ErrNonEmptyGroup, kerr.NonEmptyGroup},
		{group.ErrGroupNotFound, kerr.GroupIDNotFound},
		{group.ErrSubscribedTopic, kerr.GroupSubscribedToTopic},
		{group.ErrMetadataTooLarge, kerr.OffsetMetadataTooLarge},
		{group.ErrMaxSizeReached, kerr.GroupMaxSizeReached},
		{group.ErrTooManyGroups, kerr.PolicyViolation},
		{group.ErrInvalidConfig, kerr.InvalidConfig},
		{meta.ErrTooManyGroups, kerr.PolicyViolation},
		{group.ErrNoRoom, kerr.PolicyViolation},
		{group.ErrFencedEpoch, kerr.FencedMemberEpoch},
		{group.ErrStaleEpoch, kerr.StaleMemberEpoch},
		{group.ErrUnreleasedInstance, kerr.UnreleasedInstanceID},
		{group.ErrUnknownAssignor, kerr.UnsupportedAssignor},
		{group.ErrInvalidRegex, kerr.InvalidRegularExpression},
		{group.ErrClosed, kerr.CoordinatorNotAvailable},
		{context.DeadlineExceeded, kerr.RequestTimedOut},
		{context.Canceled, kerr.RequestTimedOut},
	}...)
}

// kafkaError returns Kafka's error for err.
func kafkaError(err error) *kerr.Error {
	var own *kerr.Error
	if errors.As(err, &own) {
		return own
	}
	for _, row := range errorCodes() {
		if errors.Is(err, row.err) {
			return row.code
		}
	}
	var disk *fs.PathError
	if errors.As(err, &disk) {
		return kerr.KafkaStorageError
	}
	return kerr.UnknownServerError
}

// code returns Kafka's error code for err, 0 for nil.
func code(err error) int16 {
	if err == nil {
		return 0
	}
	return kafkaError(err).Code
}

// message returns the text of err for a response, nil for nil.
func message(err error) *string {
	if err == nil {
		return nil
	}
	text := err.Error()
	return &text
}

// troubleInterval is how often the broker's own trouble is logged at most.
const troubleInterval = 30 * time.Second

// outcome is code and message of err. What is the broker's own trouble and not
// the client's is logged: nobody else hears of it.
func (s *Service) outcome(what string, err error) (int16, *string) {
	if err == nil {
		return 0, nil
	}
	k := kafkaError(err)
	if k == kerr.KafkaStorageError || k == kerr.UnknownServerError {
		s.trouble(what, err)
	} else {
		s.Logger.Debug(what+" was refused", "error", err)
	}
	return k.Code, message(err)
}

// trouble logs what is the broker's own. A full disk fails every request; a line for each would fill what is left,
// so that what comes soon after another is for who debugs.
func (s *Service) trouble(what string, err error) {
	level := slog.LevelDebug
	if last, now := s.lastTrouble.Load(), time.Now().UnixNano(); now-last > int64(troubleInterval) && s.lastTrouble.CompareAndSwap(last, now) {
		level = slog.LevelError
	}
	s.Logger.Log(context.Background(), level, what+" failed", "error", err)
}
