package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/millstream-io/millstream/runtime/abi/native"
	"github.com/millstream-io/millstream/runtime/abi/wasi"
	"github.com/millstream-io/millstream/runtime/module"
)

// compiled is the code that Programs of the same module share.
type compiled struct {
	key   programKey
	users int           // guarded by Host.mu
	ready chan struct{} // closed when what follows is set

	report *module.Report
	module wazero.CompiledModule
	err    error
	// abandoned: err came of the end of its builder's context.
	abandoned bool
}

func (c *compiled) failed() bool {
	select {
	case <-c.ready:
		return c.err != nil
	default:
		return false
	}
}

// Program is a compiled module with its limits.
type Program struct {
	host     *Host
	compiled *compiled
	limits   Limits
	closed   atomic.Bool
}

// Report is what the pre-check learned of the module.
func (p *Program) Report() *module.Report { return p.compiled.report }

// Close gives the code back. Instances that are still open go on working.
func (p *Program) Close(ctx context.Context) error {
	if p.closed.Swap(true) {
		return nil
	}
	return p.host.release(ctx, p.compiled)
}

// startSeed seeds what a guest draws before its first batch; the same every
// time, so that instances do not differ.
const startSeed = 0

// startWallTimes is how many times the wall time of a call start and setup may take.
const startWallTimes = 10

// Instantiate makes an instance and runs its start and setup; log takes what it
// writes (nil: nobody). Errors: *Trap, *SetupError, ErrClosed.
func (p *Program) Instantiate(ctx context.Context, s Setup, log LogFunc) (*Instance, error) {
	if p.closed.Load() {
		return nil, ErrClosed
	}
	if log == nil {
		log = func(slog.Level, string) {}
	}
	i := &Instance{
		limits: p.limits,
		name:   p.compiled.report.Digest.Short(),
		memory: &linearMemory{limit: uint64(p.limits.MemoryBytes)},
		lines:  lineLog{write: log, linesPerSecond: p.limits.LogLines, lineBytes: p.limits.LogLineBytes},
	}
	if m := p.compiled.report.Manifest; m != nil && m.Name != "" {
		i.name = m.Name
	}
	i.system = wasi.System{Write: i.lines.print, Charge: i.meter.charge}
	i.callContext = i.newCallContext()
	m, err := p.host.instantiate(withMemory(i.callContext, i.memory), p.compiled.module)
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", i.name, err)
	}
	i.module = m
	if err := i.start(ctx, &s); err != nil {
		return nil, errors.Join(err, i.Close(ctx))
	}
	return i, nil
}

// instantiate runs no code of the guest: it has no start function, and _initialize is called later.
func (h *Host) instantiate(ctx context.Context, code wazero.CompiledModule) (m api.Module, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the engine failed to instantiate it: %v", r)
		}
	}()
	return h.runtime.InstantiateModule(ctx, code, wazero.NewModuleConfig().WithName("").WithStartFunctions())
}

// newCallContext is what every call of the guest gets, so that the host
// functions find their part of the instance; made once, as it would allocate.
func (i *Instance) newCallContext() context.Context {
	ctx := context.WithValue(context.Background(), meterKey{}, &i.meter)
	ctx = wasi.WithSystem(ctx, &i.system)
	return native.WithGuest(ctx, &i.guest)
}

// start prepares a new instance for its first batch.
func (i *Instance) start(ctx context.Context, s *Setup) error {
	fuel, ok := i.module.ExportedGlobal(module.FuelGlobal).(api.MutableGlobal)
	if !ok {
		return fmt.Errorf("module %s: the metered module exports no global %s", i.name, module.FuelGlobal)
	}
	i.meter.fuel = fuel
	if err := i.guest.Attach(i.module, native.Hooks{Log: i.lines.log, Charge: i.meter.charge}); err != nil {
		return i.stopped(err)
	}
	i.begin(ctx, startTime, startSeed, i.limits.FuelSetup, startWallTimes*i.limits.WallTime)
	if f := i.module.ExportedFunction("_initialize"); f != nil {
		if err := f.CallWithStack(i.callContext, nil); err != nil {
			return i.stopped(err)
		}
	}
	refusal, err := i.guest.Setup(i.callContext, s)
	if err != nil {
		return i.stopped(err)
	}
	i.lines.flush()
	if refusal != "" {
		i.spent = true
		return &SetupError{Message: printable(refusal)}
	}
	return nil
}
