package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// processCPU is the CPU time this process has used, all threads.
func processCPU() time.Duration { return clock(unix.CLOCK_PROCESS_CPUTIME_ID) }

// threadCPU is the CPU time of the calling thread; the goroutine must be locked to it.
func threadCPU() time.Duration { return clock(unix.CLOCK_THREAD_CPUTIME_ID) }

// cpuOf is the CPU time of another process of the same user.
func cpuOf(pid int) time.Duration { return clock(int32(^pid)<<3 | 2) }

func clock(id int32) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		panic(fmt.Sprintf("clock %d: %v", id, err)) // the process is gone: the run is void
	}
	return time.Duration(ts.Nano())
}

// residentBytes is the resident set of a process.
func residentBytes(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kib << 10
		}
	}
	return 0
}

// sample is the median of several rounds, with the extremes beside it.
type sample struct{ median, min, max float64 }

func summarize(xs []float64) sample {
	s := slices.Clone(xs)
	slices.Sort(s)
	return sample{s[len(s)/2], s[0], s[len(s)-1]}
}

// quantile returns the q-quantile (0 to 1) of xs.
func quantile(xs []time.Duration, q float64) time.Duration {
	s := slices.Clone(xs)
	slices.Sort(s)
	return s[min(len(s)-1, int(q*float64(len(s))))]
}
