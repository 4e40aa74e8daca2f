package connect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/twmb/franz-go/pkg/kerr"
)

// kafkaCodes is the table of Kafka's error codes that have an exit code of their own.
var kafkaCodes = []struct {
	err   *kerr.Error
	code  int
	words string // where Kafka's own sentence does not speak to somebody who types commands
	fix   string
}{
	{kerr.UnknownTopicOrPartition, command.CodeNotFound, "it does not exist", "see what there is: millstream topic list"},
	{kerr.UnknownTopicID, command.CodeNotFound, "it does not exist", "see what there is: millstream topic list"},
	{kerr.GroupIDNotFound, command.CodeNotFound, "it does not exist", "see what there is: millstream group list"},
	{kerr.TopicAlreadyExists, command.CodeConflict, "", ""},
	{kerr.NonEmptyGroup, command.CodeConflict, "it has members", "stop its members first; a deployment: millstream pause NAME"},
	{kerr.UnknownMemberID, command.CodeConflict, "", "the group has members: stop them first; a deployment: millstream pause NAME"},
	{kerr.RebalanceInProgress, command.CodeConflict, "", "its members are joining or leaving: try again in a moment"},
	{kerr.GroupSubscribedToTopic, command.CodeConflict, "", "stop the members that read the topic first; a deployment: millstream pause NAME"},
	{kerr.CoordinatorNotAvailable, command.CodeUnreachable, "its coordinator is not there", later},
	{kerr.CoordinatorLoadInProgress, command.CodeUnreachable, "its coordinator is still starting", later},
	{kerr.NotCoordinator, command.CodeUnreachable, "its coordinator is changing", later},
	{kerr.TransactionalIDNotFound, command.CodeNotFound, "no producer has used it", "see what there is: millstream txn list"},
	{kerr.ConcurrentTransactions, command.CodeConflict, "", "the transaction before it is still being ended: try again in a moment"},
	{kerr.InvalidTopicException, command.CodeUsage, "its name is not allowed", "a topic name has 1 to 249 of the characters a-z A-Z 0-9 . _ -, and is not one that the server keeps for itself"},
	{kerr.InvalidPartitions, command.CodeUsage, "", "the number of partitions is at least 1 and cannot shrink"},
	{kerr.InvalidReplicationFactor, command.CodeUsage, "", "set the cluster's default.replication.factor to what its brokers can keep, or make the topic with the cluster's own tools"},
	{kerr.InvalidConfig, command.CodeUsage, "", ""},
	{kerr.InvalidRequest, command.CodeUsage, "", ""},
	{kerr.MessageTooLarge, command.CodeFailed, "it is larger than the topic takes", "the limit is the topic's max.message.bytes: millstream topic alter NAME --config max.message.bytes=BYTES"},
	{kerr.KafkaStorageError, command.CodeFailed, "", "the server's log names the file and the reason"},
	{kerr.TopicAuthorizationFailed, command.CodeFailed, "", allow},
	{kerr.GroupAuthorizationFailed, command.CodeFailed, "", allow},
	{kerr.TransactionalIDAuthorizationFailed, command.CodeFailed, "", allow},
	{kerr.ClusterAuthorizationFailed, command.CodeFailed, "", allow},
	{kerr.SaslAuthenticationFailed, command.CodeFailed, "", "check --sasl-user, its password and --sasl-mechanism"},
	{kerr.UnsupportedSaslMechanism, command.CodeFailed, "", "take another --sasl-mechanism: plain, scram-sha-256 or scram-sha-512"},
}

const later = "a broker is starting or has gone: try again in a moment"

const allow = "the user of this connection lacks the right: give it to them on the cluster (kafka-acls --add), or log in as another: --sasl-user"

// Explain gives an error of the Kafka client its exit code. what names the thing: `topic "notes"`.
func (b *Brokers) Explain(err error, what string) error {
	var known *command.Error
	switch {
	case err == nil, errors.As(err, &known), errors.Is(err, context.Canceled):
		return err
	}
	for _, k := range kafkaCodes {
		if errors.Is(err, k.err) {
			return &command.Error{Code: k.code, Err: fmt.Errorf("%s: %w", what, inWords(err, k.words)), Fix: k.fix}
		}
	}
	if explained := b.ExplainConnection(err); explained != nil {
		return explained
	}
	if network(err) {
		seeds, _ := b.seeds()
		return unreachableBrokers(seeds, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// inWords shows a Kafka error by words, or else as its sentence, without the constant's name in capitals.
func inWords(err error, words string) error {
	k, ok := errors.AsType[*kerr.Error](err)
	if !ok {
		return err
	}
	return &sentence{text: strings.Replace(err.Error(), k.Error(), cmp.Or(words, strings.TrimSuffix(k.Description, ".")), 1), cause: err}
}

type sentence struct {
	text  string
	cause error
}

func (s *sentence) Error() string { return s.text }
func (s *sentence) Unwrap() error { return s.cause }
