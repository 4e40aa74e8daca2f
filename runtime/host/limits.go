package host

import (
	"fmt"
	"time"
)

const pageBytes = 64 << 10

// MaxMemoryBytes is the most that Limits.MemoryBytes may be.
const MaxMemoryBytes = 512 << 20

// Limits bound one guest instance. Zero fields take DefaultLimits.
type Limits struct {
	MemoryBytes int64 // linear memory; default 64 MiB, at most 512 MiB
	// FuelPerCall is the budget of a call with one record, in units of about one simple
	// loop iteration. Each further record of the batch adds a hundredth of it: a
	// batch of costly records fits, and one runaway record cannot use up the budget of
	// a whole batch. A batch that uses its budget up is tried again in smaller parts, down
	// to single records: one that needs no more than this never fails for it, one that needs
	// more fails unless its neighbours left it enough. Default 50 M.
	FuelPerCall  int64
	FuelSetup    int64         // budget of start and setup; default 2,000 M
	WallTime     time.Duration // per call, ten times as much for start and setup; default 1 s
	OutputBytes  int64         // of one call; default 8 MiB plus 8 times its input
	LogLines     int           // lines a second, rest is counted and dropped; default 100
	LogLineBytes int           // default 1 KiB
	StackDepth   int           // nested calls; default 10,000
}

// DefaultLimits returns what the zero Limits stand for. Its OutputBytes is 0,
// as that default depends on the input.
func DefaultLimits() Limits {
	return Limits{
		MemoryBytes:  64 << 20,
		FuelPerCall:  50_000_000,
		FuelSetup:    2_000_000_000,
		WallTime:     time.Second,
		LogLines:     100,
		LogLineBytes: 1 << 10,
		StackDepth:   10_000,
	}
}

// withDefaults fills zero fields in. Error: a field is out of its range.
func (l Limits) withDefaults() (Limits, error) {
	d := DefaultLimits()
	fill(&l.MemoryBytes, d.MemoryBytes)
	fill(&l.FuelPerCall, d.FuelPerCall)
	fill(&l.FuelSetup, d.FuelSetup)
	fill(&l.WallTime, d.WallTime)
	fill(&l.LogLines, d.LogLines)
	fill(&l.LogLineBytes, d.LogLineBytes)
	fill(&l.StackDepth, d.StackDepth)
	if l.MemoryBytes < pageBytes || l.MemoryBytes > MaxMemoryBytes {
		return l, fmt.Errorf("memory limit of %d bytes: it must be between %d (one page) and %d (512 MiB)", l.MemoryBytes, pageBytes, MaxMemoryBytes)
	}
	for _, field := range []struct {
		name  string
		value int64
	}{
		{"fuel limit", l.FuelPerCall},
		{"fuel limit of setup", l.FuelSetup},
		{"wall time limit", int64(l.WallTime)},
		{"limit of log lines", int64(l.LogLines)},
		{"limit of a log line's bytes", int64(l.LogLineBytes)},
		{"call depth limit", int64(l.StackDepth)},
	} {
		if field.value < 0 {
			return l, fmt.Errorf("%s of %d: it must be positive", field.name, field.value)
		}
	}
	if l.OutputBytes < 0 {
		return l, fmt.Errorf("output limit of %d bytes: it must be positive", l.OutputBytes)
	}
	if l.StackDepth > maxStackDepth {
		return l, fmt.Errorf("call depth limit of %d: it must be at most %d", l.StackDepth, maxStackDepth)
	}
	return l, nil
}

// maxStackDepth keeps the stack that one instance can take within some tens of MiB.
const maxStackDepth = 100_000

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// fuel is the budget of a call with count records.
func (l *Limits) fuel(count int) int64 {
	return l.FuelPerCall + int64(max(count-1, 0))*(l.FuelPerCall/100)
}

// output is how many bytes of entries a call with size bytes of input may put out.
func (l *Limits) output(size int) int64 {
	if l.OutputBytes > 0 {
		return l.OutputBytes
	}
	return 8<<20 + 8*int64(size)
}
