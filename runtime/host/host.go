// Package host runs guests: it compiles a checked and metered module once,
// makes instances of it and passes batches through the native ABI, within
// limits. It is the only place, with abi/native, that knows wazero.
//
// A guest can hurt neither the process nor its neighbours: every pointer and
// length it hands over is bounds-checked at use, memory, fuel, call depth, wall
// time, output and log rate are capped. After any Trap an instance is spent:
// Close it and make a new one.
//
// Host and Program are safe for concurrent use; an Instance belongs to one
// goroutine.
package host

import (
	"context"
	"log/slog"
	"time"

	"github.com/millstream-io/millstream/runtime/module"
	"github.com/millstream-io/millstream/sdk/abi"
)

// Limits bound one guest instance. Zero fields take DefaultLimits.
type Limits struct {
	MemoryBytes int64 // linear memory; default 64 MiB, at most 512 MiB
	// FuelPerCall is the budget of one call of the guest, in units of about one simple
	// loop iteration. A batch that uses it up is tried again in smaller parts, so for a
	// record that runs alone it is the fuel per record. Default 50 M.
	FuelPerCall  int64
	FuelSetup    int64         // budget of start and setup; default 2,000 M
	WallTime     time.Duration // per call; default 1 s
	OutputBytes  int64         // of one call; default 8 MiB plus 8 times its input
	LogLines     int           // lines a second, rest is counted and dropped; default 100
	LogLineBytes int           // default 1 KiB
	StackDepth   int           // nested calls; default 10,000
}

// TrapKind says why a guest was stopped.
type TrapKind string

// The kinds of trap.
const (
	TrapFault     TrapKind = "fault"     // unreachable, out of bounds, divide by zero, a panic in the guest
	TrapFuel      TrapKind = "fuel"      // used up its fuel
	TrapWallTime  TrapKind = "wall-time" // took too long
	TrapMemory    TrapKind = "memory"    // wanted more memory than allowed
	TrapStack     TrapKind = "stack"     // calls nested too deep
	TrapOutput    TrapKind = "output"    // produced too much
	TrapProtocol  TrapKind = "protocol"  // broke the ABI (bad entries, pointers, counts)
	TrapExit      TrapKind = "exit"      // called proc_exit
	TrapCancelled TrapKind = "cancelled" // the context ended
)

// Trap is the error of a stopped guest.
type Trap struct {
	Kind   TrapKind
	Detail string
}

// Error implements error.
func (t *Trap) Error() string { return "guest stopped (" + string(t.Kind) + "): " + t.Detail }

// SetupError is what a guest answered to its setup block: it refuses its configuration.
type SetupError struct{ Message string }

// Error implements error.
func (e *SetupError) Error() string { return "the module refuses its configuration: " + e.Message }

// Setup is what an instance is told once.
type Setup struct {
	Deployment string
	Inputs     []string // topic names
	Outputs    []string // output names; index = what guests emit to
	Config     map[string]string
	Assets     map[string][]byte
}

// LogFunc takes a guest's log line (level as slog's). It must not block.
type LogFunc func(level slog.Level, line string)

// Batch describes the records that were encoded into Instance.Input.
type Batch struct {
	Count     int
	SizeBytes int
	Input     int
	Partition int32
	Now       time.Time
	Seed      uint64
	// Timestamps gives the event time of record i of the batch, for outputs that do not set one.
	Timestamps func(i int) int64
}

// Result is what a call gave. It is valid until the next call of the same instance.
type Result struct {
	// Outputs walks the outputs of all inputs that were not rejected, in order, with their timestamps filled in.
	Outputs abi.Outputs
	// Rejects are the inputs that the guest rejected, ascending. Usually empty.
	Rejects     []Reject
	OutputCount int
	OutputBytes int
	Fuel        int64 // used
}

// Reject is a verdict against one input.
type Reject struct {
	Index  int
	Reason string
}

// Options open a Host.
type Options struct {
	// CacheDir keeps compiled code between starts; it must be private to the process's user (it holds native code). "" = no cache.
	CacheDir string
	Logger   *slog.Logger
	Caps     module.Caps // zero: module.DefaultCaps
	// Interpreter runs guests without native code.
	Interpreter bool
}

type hostMethods interface {
	// Compile checks, meters and compiles a module; the result is kept by digest, limits and may be shared.
	// Errors: *module.Refusal, or a compile error that names the module.
	Compile(ctx context.Context, wasm []byte, l Limits) (*Program, error)
	Close(ctx context.Context) error
}

type programMethods interface {
	Report() *module.Report
	// Instantiate makes an instance and runs its start and setup. Errors: *Trap, *SetupError.
	Instantiate(ctx context.Context, s Setup, log LogFunc) (*Instance, error)
	Close(ctx context.Context) error
}

type instanceMethods interface {
	// Input returns a view of the guest's input area behind the batch header, at least
	// size bytes long (the guest is asked to enlarge it when needed, within its memory limit).
	// It is valid until the next call of Process or Input.
	Input(ctx context.Context, size int) ([]byte, error)
	// Process runs the guest on the batch that Input's view holds. Errors: *Trap, after which the instance is spent.
	Process(ctx context.Context, b Batch) (Result, error)
	// MemoryBytes is the present size of the guest's memory.
	MemoryBytes() int64
	Close(ctx context.Context) error
}
