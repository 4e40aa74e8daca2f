package worker

import (
	"context"
	"time"
)

const (
	backoffFirst = 100 * time.Millisecond
	backoffMax   = 10 * time.Second
)

// backoff waits longer from time to time; the zero value begins with backoffFirst.
type backoff struct {
	next time.Duration
	seed uint64 // of the jitter: different ones keep the partitions of a worker from retrying all at once
	n    uint64
}

func (b *backoff) reset() { b.next = 0 }

// wait sleeps and tells whether ctx still lives.
func (b *backoff) wait(ctx context.Context) bool {
	b.next = min(max(2*b.next, backoffFirst), backoffMax)
	b.n++
	jitter := time.Duration(mix(b.seed, b.n) % uint64(b.next/5))
	return sleep(ctx, b.next-jitter)
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
