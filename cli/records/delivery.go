package records

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// stallTimeout is how long no record may be acknowledged before produce gives up.
const stallTimeout = 15 * time.Second

// errStalled: the broker went away in the middle.
var errStalled = fmt.Errorf("the broker has acknowledged nothing for %s", stallTimeout)

// delivery counts what became of the records. Its methods are safe for concurrent use.
//
// The client's own delivery timeout counts from a record's event time, which
// may be long ago, so delivery watches for progress itself.
type delivery struct {
	// ctx is for handing records over. It outlives an interrupt, so that what was
	// read is still delivered, and ends with errStalled.
	ctx     context.Context
	started time.Time

	mu          sync.Mutex
	outstanding int
	records     int64
	bytes       int64
	failed      int64
	first       error // of those failed
	committed   bool  // the transaction, if there is one
	watch       *time.Timer
	cancel      context.CancelCauseFunc

	contact contact
}

// contact is a hook of the client that keeps the last trouble of reaching the
// broker: what records fail with, when they fail for that, does not say it.
type contact struct {
	mu  sync.Mutex
	err error
}

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (c *contact) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	c.set(err)
}

// OnBrokerE2E implements kgo.HookBrokerE2E.
func (c *contact) OnBrokerE2E(_ kgo.BrokerMetadata, _ int16, e2e kgo.BrokerE2E) { c.set(e2e.Err()) }

func (c *contact) set(err error) {
	if errors.Is(err, context.Canceled) {
		return // by this side
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

func (c *contact) lastError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func newDelivery(ctx context.Context) *delivery {
	d := &delivery{started: time.Now()}
	d.ctx, d.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	d.watch = time.AfterFunc(stallTimeout, func() { d.cancel(errStalled) })
	d.watch.Stop()
	return d
}

// sent counts a record that is about to be handed over.
func (d *delivery) sent() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.outstanding++; d.outstanding == 1 {
		d.watch.Reset(stallTimeout)
	}
}

// done is the client's answer about a record.
func (d *delivery) done(r *kgo.Record, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.outstanding--; d.outstanding == 0 {
		d.watch.Stop()
	}
	if err != nil {
		d.failed++
		if d.first == nil {
			d.first = err
		}
		return
	}
	if d.outstanding > 0 {
		d.watch.Reset(stallTimeout)
	}
	d.records++
	d.bytes += int64(len(r.Key) + len(r.Value))
}

// failure is why the first record failed that did; then there is no sense in sending more, and order would be lost.
func (d *delivery) failure() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.first
}

// stalled reports whether it was given up because nothing was acknowledged.
func (d *delivery) stalled() bool { return errors.Is(context.Cause(d.ctx), errStalled) }

// written counts the records that are acknowledged.
func (d *delivery) written() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.records
}

// lost counts the records that are not known to be written.
func (d *delivery) lost() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed + int64(d.outstanding)
}

// discard takes back what was counted as written: its transaction was aborted.
func (d *delivery) discard() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed += d.records
	d.records, d.bytes = 0, 0
}

func (d *delivery) close() {
	d.watch.Stop()
	d.cancel(errors.New("done"))
}
