//go:build !linux && !darwin

package compile

import "syscall"

// limitProcess does nothing here: the wall time still bounds the child.
func limitProcess(cpuSeconds, memoryBytes uint64) error { return nil }

func isCPUSignal(syscall.Signal) bool { return false }
