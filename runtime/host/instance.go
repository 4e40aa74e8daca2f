package host

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/tetratelabs/wazero/api"

	"github.com/millstream-io/millstream/runtime/abi/native"
	"github.com/millstream-io/millstream/runtime/abi/wasi"
	"github.com/millstream-io/millstream/sdk/abi"
)

// Setup is what an instance is told once.
type Setup = abi.Setup

// LogFunc takes a guest's log line (level as slog's): one line, valid UTF-8
// without control characters. It is called during calls of the guest and must not block.
type LogFunc func(level slog.Level, line string)

// Batch describes the records that were encoded into Instance.Input.
type Batch struct {
	Count     int // at least 1
	SizeBytes int // of all records, as encoded
	Input     int // index in Setup.Inputs of their topic
	Partition int32
	Now       time.Time // the guest's clock during the call
	Seed      uint64    // of the guest's randomness during the call
	// Timestamps are the event times of the records in ms, for outputs that do not set
	// one: they are read while Result.Outputs is walked. Nil: such outputs get Now.
	Timestamps []int64
}

// Result is what a call gave. It is valid until the next call of the same instance.
type Result struct {
	// Outputs walks the outputs of all inputs that were not rejected, in order, with
	// their timestamps filled in. It can be walked once.
	Outputs abi.Outputs
	// Rejects are the inputs that the guest rejected, ascending. Usually empty.
	Rejects     []Reject
	OutputCount int   // of Outputs
	OutputBytes int   // of Outputs, as entries
	Fuel        int64 // used
}

// Reject is a verdict against one input.
type Reject struct {
	Index  int
	Reason string
}

// errSpent is a mistake of the caller.
var errSpent = errors.New("instance was stopped before and cannot be called again: make a new one")

// startTime is the guest's clock before its first batch: a batch brings its own time.
var startTime = time.UnixMilli(0)

// Instance is one guest with its own memory. It belongs to one goroutine.
type Instance struct {
	limits      Limits
	name        string // for people
	module      api.Module
	callContext context.Context

	memory *linearMemory
	meter  meter
	system wasi.System
	guest  native.Guest
	lines  lineLog

	rejects []Reject
	spent   bool
}

// begin sets everything that is counted or measured per call.
func (i *Instance) begin(ctx context.Context, now time.Time, seed uint64, fuel int64, wallTime time.Duration) {
	i.memory.denied = false
	i.system.Begin(now, seed)
	i.lines.begin()
	i.meter.begin(ctx, fuel, wallTime)
}

// Input returns a view of the guest's input area behind the batch header, size
// bytes long (the guest is asked to enlarge it when needed, within its memory
// limit). It is valid until the next call of Process or Input. Errors: *Trap,
// after which the instance is spent.
func (i *Instance) Input(ctx context.Context, size int) ([]byte, error) {
	if i.spent {
		return nil, errSpent
	}
	i.begin(ctx, startTime, startSeed, i.limits.FuelPerCall, i.limits.WallTime)
	view, err := i.guest.Input(i.callContext, size)
	if err != nil {
		return nil, i.stopped(err)
	}
	return view, nil
}

// Process runs the guest on the batch that Input's view holds. It allocates
// nothing unless the guest logs, rejects, or puts out more than it ever did.
// Errors: *Trap, after which the instance is spent.
func (i *Instance) Process(ctx context.Context, b Batch) (Result, error) {
	if i.spent {
		return Result{}, errSpent
	}
	now := b.Now.UnixMilli()
	header := abi.BatchHeader{
		Count: b.Count, Input: b.Input, Partition: b.Partition,
		Now: now, Seed: b.Seed, Watermark: abi.WatermarkUnknown,
	}
	i.begin(ctx, b.Now, b.Seed, i.limits.fuel(b.Count), i.limits.WallTime)
	if err := i.guest.Process(i.callContext, &header, b.SizeBytes, i.limits.output(b.SizeBytes)); err != nil {
		return Result{}, i.stopped(err)
	}
	i.lines.flush()
	i.rejects = i.rejects[:0]
	for _, v := range i.guest.Verdicts() {
		i.rejects = append(i.rejects, Reject{Index: v.Input, Reason: printable(cut(v.Reason, maxReasonBytes))})
	}
	outputs := i.guest.Outputs()
	outputs.Stamp(b.Timestamps, now)
	return Result{
		Outputs:     outputs,
		Rejects:     i.rejects,
		OutputCount: i.guest.OutputCount(),
		OutputBytes: i.guest.OutputBytes(),
		Fuel:        i.meter.used(),
	}, nil
}

const maxReasonBytes = 4 << 10

// DroppedLines returns how many log lines were over the limit since it was last called.
func (i *Instance) DroppedLines() int { return i.lines.takeDropped() }

// MemoryBytes is the present size of the guest's memory.
func (i *Instance) MemoryBytes() int64 { return int64(i.module.Memory().Size()) }

// Close frees the instance. What it returned must not be used any more.
func (i *Instance) Close(ctx context.Context) error {
	i.spent = true
	return i.module.Close(ctx)
}
