//go:build !linux

package kafkacluster

import "syscall"

// dieWithParent: elsewhere a node outlives a process that is killed.
func dieWithParent() *syscall.SysProcAttr { return nil }
