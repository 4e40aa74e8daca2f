package host

import (
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/millstream-io/millstream/runtime/abi/native"
	"github.com/millstream-io/millstream/runtime/abi/wasi"
	"github.com/millstream-io/millstream/runtime/module"
)

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

// stopped says why a call of the guest failed. The instance is spent.
func (i *Instance) stopped(err error) error {
	i.spent = true
	i.lines.flush()
	trap := classify(err)
	if trap == nil {
		return fmt.Errorf("module %s: the host failed during a call: %w", i.name, err)
	}
	if i.memory.denied && (trap.Kind == TrapFault || trap.Kind == TrapExit) {
		trap = &Trap{Kind: TrapMemory, Detail: fmt.Sprintf("wanted more than %d bytes of memory; %s", i.memory.limit, trap.Detail)}
	}
	detail := "module " + i.name + ": " + trap.Detail
	if last := i.lines.tail(); last != "" && trap.Kind != TrapCancelled {
		detail += "; last output: " + last
	}
	return &Trap{Kind: trap.Kind, Detail: detail}
}

// classify returns nil for errors that are the host's own.
func classify(err error) *Trap {
	var trap *Trap
	var exit *wasi.ExitError
	var bug runtime.Error
	switch {
	case errors.As(err, &trap):
		return &Trap{Kind: trap.Kind, Detail: trap.Detail + where(err)}
	case errors.As(err, &exit):
		return &Trap{Kind: TrapExit, Detail: exit.Error() + where(err)}
	case errors.Is(err, native.ErrProtocol):
		return &Trap{Kind: TrapProtocol, Detail: firstLine(err)}
	case errors.Is(err, native.ErrOutput):
		return &Trap{Kind: TrapOutput, Detail: firstLine(err)}
	case errors.Is(err, native.ErrArea):
		return &Trap{Kind: TrapMemory, Detail: firstLine(err)}
	case errors.As(err, &bug):
		return nil
	}
	text := firstLine(err)
	if !strings.HasPrefix(text, engineErrorPrefix) {
		return nil
	}
	kind := TrapFault
	if strings.Contains(text, "stack overflow") {
		kind = TrapStack
	}
	return &Trap{Kind: kind, Detail: strings.TrimPrefix(text, engineErrorPrefix) + where(err)}
}

// What the engine writes in the text of a trap; its types are internal to it.
const (
	engineErrorPrefix  = "wasm error: "
	engineTraceHeading = "wasm stack trace:\n"
	engineRecovered    = " (recovered by wazero)"
)

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return strings.TrimSuffix(line, engineRecovered)
}

// where names the innermost functions of the guest, as far as the error tells.
func where(err error) string {
	const frames = 3
	_, trace, ok := strings.Cut(err.Error(), engineTraceHeading)
	if !ok {
		return ""
	}
	var names []string
	for line := range strings.Lines(trace) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "0x") || line == "" || strings.HasPrefix(line, module.MeterModule+".") {
			continue
		}
		name, _, _ := strings.Cut(line, "(")
		if names = append(names, strings.TrimPrefix(name, ".")); len(names) == frames {
			break
		}
	}
	if len(names) == 0 {
		return ""
	}
	return " in " + strings.Join(names, ", called by ")
}
