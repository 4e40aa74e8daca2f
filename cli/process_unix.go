//go:build unix

package cli

import (
	"context"
	"os"

	"golang.org/x/sys/unix"
)

// pollTimeoutMillis is how often the wait for a closed pipe looks whether it is still wanted.
const pollTimeoutMillis = 250

// untilClosed blocks until the other end of a pipe is closed or ctx ends.
func untilClosed(ctx context.Context, f *os.File) {
	for ctx.Err() == nil {
		fds := []unix.PollFd{{Fd: int32(f.Fd())}}
		if _, err := unix.Poll(fds, pollTimeoutMillis); err != nil && err != unix.EINTR {
			<-ctx.Done()
			return
		}
		if fds[0].Revents&unix.POLLERR != 0 {
			return
		}
	}
}
