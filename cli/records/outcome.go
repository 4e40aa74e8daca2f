package records

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// explain says why records were not written: in the broker's own words if it refused them, else that it does not answer.
func (o *produceOptions) explain(ctx context.Context, client *kgo.Client, p *delivery) error {
	what := fmt.Sprintf("%s of topic %q not written", terminal.Count(p.lost(), "record"), o.topic)
	first := p.failure()
	var refusal *kerr.Error
	switch {
	case errors.Is(first, kerr.UnknownTopicOrPartition):
		return command.NotFoundf("topic %q does not exist", o.topic).WithFix("create it: millstream topic create %s", o.topic)
	case errors.Is(first, kerr.KafkaStorageError):
		return o.explainStorage(ctx, client, what)
	case errors.As(first, &refusal):
		return o.brokers.Explain(first, what)
	case p.stalled(), errors.Is(first, kgo.ErrRecordRetries), errors.Is(first, kgo.ErrRecordTimeout):
		err := error(errStalled)
		if last := p.contact.lastError(); last != nil {
			err = fmt.Errorf("the broker does not answer any more: %w", last)
		}
		return &command.Error{
			Code: command.CodeUnreachable, Err: fmt.Errorf("%s: %w", what, err),
			Fix: "see whether the server runs: millstream topic list",
		}
	}
	return o.brokers.Explain(first, what)
}

// fullBytes is how little of a disk is left when a failed write means that it is full: less than a segment's index takes.
const fullBytes = 16 << 20

// explainStorage finds out whether it is a full disk for which the broker cannot write.
func (o *produceOptions) explainStorage(ctx context.Context, client *kgo.Client, what string) error {
	err := command.Failedf("%s: the broker cannot write to its disk: %s", what, kerr.KafkaStorageError.Message).
		WithFix("the server's log names the file and the reason")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connect.RequestTimeout)
	defer cancel()
	brokers, askErr := kadm.NewClient(client).DescribeAllLogDirs(ctx, nil)
	if askErr != nil {
		return err
	}
	brokers.Each(func(d kadm.DescribedLogDir) {
		if d.Err == nil && d.UsableBytes >= 0 && d.UsableBytes < fullBytes {
			err = command.Failedf("%s: disk full: %s: %s left for %s", what, kerr.KafkaStorageError.Message, terminal.Size(d.UsableBytes), d.Dir).
				WithFix("make room on the server's disk; records that are not needed any more: millstream topic delete-records NAME --before POSITION")
		}
	})
	return err
}

// summaryAfter is how long producing takes before its result is told without a terminal.
const summaryAfter = 2 * time.Second

func (o *produceOptions) summary(p *delivery) {
	p.mu.Lock()
	defer p.mu.Unlock()
	took := time.Since(p.started)
	if o.env.JSON {
		result := map[string]any{
			"topic": o.topic, "records": p.records, "bytes": p.bytes, "failed": p.failed, "seconds": took.Seconds(),
		}
		if o.transactional {
			result["committed"] = p.committed
		}
		_ = o.env.PrintJSON(result)
		return
	}
	if !o.env.ErrTerminal && took < summaryAfter {
		return
	}
	rate := float64(p.records) / max(took.Seconds(), 0.001)
	o.env.Notef("%s, %s to %q in %s (%.0f a second)\n",
		terminal.Count(p.records, "record"), terminal.Size(p.bytes), o.topic, terminal.Duration(took), rate)
}
