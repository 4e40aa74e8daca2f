// Package dlq holds the commands about dead letters: the records that a
// deployment could not handle, which lie in the topic NAME.dlq.
//
// What was sent to its topic once more is marked by the offsets of the group
// NAME.dlq, in the same transaction: so no letter is sent twice, and the group's lag, in any
// Kafka tool, is the number of letters that nobody has dealt with.
package dlq

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/millstream-io/millstream/cli/stream"
	"github.com/millstream-io/millstream/runtime/deadletter"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/urfave/cli/v2"
)

// New makes the command group.
func New(env *command.Env) *cli.Command {
	return command.Group(env, "dlq", "list, show and retry records that a deployment could not handle", "Deployments",
		newList(env), newShow(env), newRetry(env))
}

// target is the dead letter topic of one deployment.
type target struct {
	brokers    connect.Brokers
	deployment string
}

func (t *target) topic() string { return deploy.DeadLetterTopic(t.deployment) }

// explain gives errors their exit codes.
func (t *target) explain(err error) error {
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return command.NotFoundf("deployment %q has no dead letters: topic %q does not exist", t.deployment, t.topic()).
			WithFix("see what there is: millstream list\nonly a deployment with --on-error dead-letter, which is the default, has such a topic")
	}
	return t.brokers.Explain(err, fmt.Sprintf("topic %q", t.topic()))
}

// letter is a record of the topic, and what is known of it.
type letter struct {
	*deadletter.Letter
	record  *kgo.Record
	retried bool
	strange error // it is no dead letter
}

func newLetter(r *kgo.Record, done *marks) *letter {
	l := &letter{record: r, retried: done.has(r.Partition, r.Offset)}
	l.Letter, l.strange = deadletter.Open(portable(r))
	return l
}

// address names the letter, as HeaderRetryOf has it.
func (l *letter) address() string {
	return fmt.Sprintf("%s/%d@%d", l.record.Topic, l.record.Partition, l.record.Offset)
}

// portable is a record in the form of package engine.
func portable(r *kgo.Record) engine.Record {
	out := engine.Record{Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli(), Key: r.Key, Value: r.Value}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, engine.Header{Name: h.Key, Value: h.Value})
	}
	return out
}

// document is a letter as JSON.
type document struct {
	Partition  int32     `json:"partition"`
	Offset     int64     `json:"offset"`
	Timestamp  time.Time `json:"timestamp"`
	Retried    bool      `json:"retried"`
	Kind       string    `json:"kind,omitempty"`
	Reason     string    `json:"reason"`
	Deployment string    `json:"deployment,omitempty"`
	Module     string    `json:"module,omitempty"`
	Source     *place    `json:"source,omitempty"`
	CutBytes   *int      `json:"value_cut_bytes,omitempty"`
}

type place struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

func (l *letter) document() document {
	d := document{Partition: l.record.Partition, Offset: l.record.Offset, Timestamp: l.record.Timestamp.UTC(), Retried: l.retried}
	if l.strange != nil {
		d.Reason = l.strange.Error()
		return d
	}
	d.Kind, d.Reason, d.Deployment, d.Module = l.Kind, l.Reason, l.Deployment, l.Module
	d.Source = &place{Topic: l.From.Topic, Partition: l.From.Partition, Offset: l.Letter.Offset}
	if l.CutBytes >= 0 {
		d.CutBytes = &l.CutBytes
	}
	return d
}

// parsePlace reads PARTITION:OFFSET.
func parsePlace(s string) (partition int32, offset int64, err error) {
	p, o, ok := strings.Cut(s, ":")
	n, perr := strconv.ParseInt(p, 10, 32)
	offset, oerr := strconv.ParseInt(o, 10, 64)
	if !ok || perr != nil || oerr != nil || n < 0 || offset < 0 {
		return 0, 0, command.Usagef("%q is not PARTITION:OFFSET", s).WithFix("write it as the first column of millstream dlq list has it, for example 0:17")
	}
	return int32(n), offset, nil
}

// names completes deployments that have dead letters.
func names(env *command.Env) func(context.Context, []string) []string {
	return connect.Suggest(env, func(ctx context.Context, client *kadm.Client) ([]string, error) {
		topics, err := client.ListTopics(ctx)
		var out []string
		for _, topic := range topics.Names() {
			if name, ok := strings.CutSuffix(topic, deploy.DeadLetterTopic("")); ok {
				out = append(out, name)
			}
		}
		return out, err
	})
}

// readOne reads the record at an offset, or tells that it is not there any more.
func readOne(ctx context.Context, client *kgo.Client, topic string, partition int32, offset int64) (*kgo.Record, error) {
	var found *kgo.Record
	request := stream.Request{
		Topic: topic, Partition: partition, From: stream.Position{Kind: stream.Offset, Offset: offset},
		Until: &stream.Position{Kind: stream.Offset, Offset: offset + 1},
	}
	err := stream.Read(ctx, client, request, func(r *kgo.Record) error {
		if r.Offset == offset {
			found = r
		}
		return nil
	})
	if err == nil && found == nil {
		err = command.NotFoundf("there is no record at offset %d of topic %q partition %d (any more)", offset, topic, partition)
	}
	return found, err
}
