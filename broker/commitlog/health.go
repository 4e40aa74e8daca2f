package commitlog

import (
	"fmt"
	"sync/atomic"
)

// health says whether a log takes writes.
type health struct {
	dir     string
	failure atomic.Pointer[error]
	closed  atomic.Bool
}

// usable returns why the log takes no writes, or nil.
func (h *health) usable() error {
	if h.closed.Load() {
		return fmt.Errorf("%w: %s", ErrClosed, h.dir)
	}
	if err := h.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// fail makes the log refuse writes for good and returns what they will be told.
func (h *health) fail(cause error) error {
	err := fmt.Errorf("%w: %s takes no more writes until the broker is restarted: %w", ErrFailed, h.dir, cause)
	h.failure.CompareAndSwap(nil, &err)
	return *h.failure.Load()
}

// Closed reports whether the log was closed or removed.
func (l *Log) Closed() bool { return l.health.closed.Load() }
