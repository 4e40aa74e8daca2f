package isolation

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// attributes: a group of its own, so that a terminal's Ctrl-C reaches the parent alone, which ends its
// children in order; and death with the parent.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// Data memory is reserved before it is used, so its limit is higher than that of resident memory: it
// stops what grows faster than the watch looks.
const reservedBytes = 512 << 20

// lowPriority is the nice value of children, above the parent's 0.
const lowPriority = 10

// restrict puts caps on a process that has just begun. The soft limit only: a child that compiles modules sets its own.
func restrict(pid int, limits Limits) error {
	var data unix.Rlimit
	err := unix.Prlimit(pid, unix.RLIMIT_DATA, nil, &data)
	if err == nil {
		data.Cur = min(data.Max, uint64(limits.MemoryBytes+reservedBytes))
		err = unix.Prlimit(pid, unix.RLIMIT_DATA, &data, nil)
	}
	if err != nil {
		err = fmt.Errorf("limit of data memory: %w", err)
	}
	if niceErr := unix.Setpriority(unix.PRIO_PGRP, pid, lowPriority); niceErr != nil {
		err = errors.Join(err, fmt.Errorf("priority: %w", niceErr))
	}
	return err
}

// terminate asks the process itself; kill reaches what it has started, too.
func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }

func kill(p *os.Process) error {
	if err := p.Kill(); err != nil {
		return err
	}
	_ = unix.Kill(-p.Pid, unix.SIGKILL) // compilations; usually there are none
	return nil
}

// residentBytes is 0 when the process is gone.
func residentBytes(pid int) int64 {
	statm, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(statm)
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
