//go:build !unix

package wire

import (
	"net"
	"syscall"
)

// rawConn returns nil: there is no way to look at a socket without reading from it.
func rawConn(net.Conn) syscall.RawConn { return nil }

func gone(syscall.RawConn) bool { return false }
