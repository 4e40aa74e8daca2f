package worker

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	backoffFirst = 100 * time.Millisecond
	backoffMax   = 10 * time.Second
)

// backoff waits longer from time to time; the zero value begins with backoffFirst.
type backoff struct{ next time.Duration }

func (b *backoff) reset() { b.next = 0 }

// wait sleeps and tells whether ctx still lives.
func (b *backoff) wait(ctx context.Context) bool {
	b.next = min(max(2*b.next, backoffFirst), backoffMax)
	// A fifth of jitter keeps the partitions of a worker from retrying all at once.
	return sleep(ctx, b.next-rand.N(b.next/5))
}

// sleep tells whether ctx lives as long as d.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
