package wire

import (
	"context"
	"time"
)

// watch implements Watch: it waits beside the request for the connection to
// become readable, without taking a byte from it. If the client has sent its
// next request already, nothing more can be learned, and the watch ends.
func (c *conn) watch(ctx context.Context) (context.Context, func()) {
	raw := rawConn(c.nc)
	if raw == nil {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	_ = c.nc.SetReadDeadline(time.Time{})
	if c.server.isClosed() { // after the deadline is set, so that an interrupt is not overwritten unseen
		c.interrupt()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if gone(raw) {
			cancel(ErrClientGone)
		}
	}()
	return ctx, func() {
		c.interrupt() // readFrame sets the deadline anew
		<-done
		cancel(context.Canceled)
	}
}
