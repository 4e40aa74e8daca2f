//go:build !linux

package isolation

import (
	"os"
	"syscall"
)

// Where there is no signal for the death of a parent, the end of standard input tells.
func attributes() *syscall.SysProcAttr { return nil }

func restrict(int, Limits) error { return nil }

func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }

func kill(p *os.Process) error { return p.Kill() }

func residentBytes(int) int64 { return 0 }
