package records

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/twmb/franz-go/pkg/kgo"
)

// transactionTimeout is how long the input may take before the broker aborts
// its transaction: the longest that Kafka allows by default.
const transactionTimeout = 15 * time.Minute

// endTimeout bounds the commit or abort at the end.
const endTimeout = 15 * time.Second

// transactionOptions make the client a producer of one transaction. Its id is
// its own: two that run at the same time do not fence each other off.
func transactionOptions() []kgo.Opt {
	return []kgo.Opt{kgo.TransactionalID("millstream-produce-" + rand.Text()), kgo.TransactionTimeout(transactionTimeout)}
}

// endTransaction commits if all went well so far, and aborts otherwise.
func (o *produceOptions) endTransaction(ctx context.Context, client *kgo.Client, p *delivery, sofar error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	if sofar == nil && p.failure() == nil {
		err := client.EndTransaction(ctx, kgo.TryCommit)
		if err == nil {
			p.committed = true
			return nil
		}
		sofar = command.Failedf("commit the transaction: %w", err).WithFix("nothing of the input is visible; run again")
	}
	p.discard()
	// The abort spares readers the wait for the timeout; without an answer the timeout does it.
	abortErr := client.AbortBufferedRecords(ctx)
	if abortErr == nil {
		abortErr = client.EndTransaction(ctx, kgo.TryAbort)
	}
	if abortErr != nil {
		o.env.Notef("the transaction could not be aborted, the broker does it within %s: %v\n", transactionTimeout, abortErr)
	}
	if sofar == nil && p.failure() == nil {
		sofar = errors.New("the transaction was aborted")
	}
	return sofar
}
