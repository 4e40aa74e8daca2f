//go:build unix

package wire

import (
	"errors"
	"net"
	"syscall"
)

// rawConn returns the socket of a connection, also below TLS; nil if there is none.
func rawConn(nc net.Conn) syscall.RawConn {
	if wrapped, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = wrapped.NetConn()
	}
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// gone waits until the socket is readable or its read deadline has passed, and
// reports whether what there is to read is its end.
func gone(raw syscall.RawConn) bool {
	end := false
	_ = raw.Read(func(fd uintptr) (done bool) {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR) {
			return false
		}
		end = err != nil || n == 0
		return true
	})
	return end
}
