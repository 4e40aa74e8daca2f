package records

import (
	"context"
	"errors"
	"fmt"
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
	watch       *time.Timer
	cancel      context.CancelCauseFunc
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

// failing reports whether a record failed; then there is no sense in sending more, and order would be lost.
func (d *delivery) failing() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.first != nil
}

func (d *delivery) close() {
	d.watch.Stop()
	d.cancel(errors.New("done"))
}
