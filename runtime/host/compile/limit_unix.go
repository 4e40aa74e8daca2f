//go:build linux || darwin

package compile

import "syscall"

// limitProcess caps CPU time and writable memory of this process. Address space
// would be the wrong measure: the Go runtime reserves more than it uses.
func limitProcess(cpuSeconds, memoryBytes uint64) error {
	limits := map[int]uint64{
		syscall.RLIMIT_CPU:  cpuSeconds,
		syscall.RLIMIT_DATA: memoryBytes,
		syscall.RLIMIT_CORE: 0,
	}
	for resource, value := range limits {
		if err := syscall.Setrlimit(resource, &syscall.Rlimit{Cur: value, Max: value}); err != nil {
			return err
		}
	}
	return nil
}

func isCPUSignal(s syscall.Signal) bool { return s == syscall.SIGXCPU }
