package host

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/millstream-io/millstream/runtime/module"
)

// sliceFuel is how much a guest runs on before it yields: well under a
// millisecond, since nothing can stop the process for its garbage collector
// before that.
const sliceFuel = 100_000

// A guest that runs on for long rests for a moment now and then. Yielding alone is
// not enough: as long as a guest is ready to run, the scheduler looks for what came in
// over the network only every 10 ms or so, for the whole process.
const (
	restInterval = time.Millisecond
	restTime     = 20 * time.Microsecond
)

// meter gives one guest its fuel in slices. Between two of them it looks at the
// budget, the clock and the context, and panics with a *Trap to stop the guest.
//
// What is used is what has been granted less what is left in the guest's own
// counter. It does not depend on the slices, so it is the same at every replay.
type meter struct {
	fuel api.MutableGlobal

	ctx      context.Context
	budget   int64
	granted  int64
	started  time.Time
	rested   time.Time // or started
	wallTime time.Duration
}

type meterKey struct{}

// begin starts a call.
func (m *meter) begin(ctx context.Context, budget int64, wallTime time.Duration) {
	m.ctx, m.budget, m.wallTime = ctx, budget, wallTime
	m.started = time.Now()
	m.rested = m.started
	m.granted = min(sliceFuel, budget)
	m.fuel.Set(uint64(m.granted))
}

// used is the fuel used since begin.
func (m *meter) used() int64 { return m.granted - int64(m.fuel.Get()) }

// charge takes fuel for what the host does on the guest's behalf.
func (m *meter) charge(units int64) {
	left := int64(m.fuel.Get()) - units
	m.fuel.Set(uint64(left))
	if left < 0 {
		m.yield()
	}
}

// yield is called when the counter is below zero.
func (m *meter) yield() {
	used := m.used()
	if used > m.budget {
		panic(&Trap{Kind: TrapFuel, Detail: fmt.Sprintf("used %d units of fuel, %d are allowed", used, m.budget)})
	}
	if err := m.ctx.Err(); err != nil {
		panic(&Trap{Kind: TrapCancelled, Detail: context.Cause(m.ctx).Error()})
	}
	now := time.Now()
	if elapsed := now.Sub(m.started); elapsed > m.wallTime {
		panic(&Trap{Kind: TrapWallTime, Detail: fmt.Sprintf("ran for %s, %s is allowed", elapsed.Round(time.Millisecond), m.wallTime)})
	}
	next := min(sliceFuel, m.budget-used)
	m.granted = used + next
	m.fuel.Set(uint64(next))
	if now.Sub(m.rested) < restInterval {
		runtime.Gosched()
		return
	}
	time.Sleep(restTime)
	m.rested = time.Now()
}

// instantiateMeter registers what metered modules import.
func instantiateMeter(ctx context.Context, r wazero.Runtime) error {
	b := r.NewHostModuleBuilder(module.MeterModule)
	b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(importYield), nil, nil).Export(module.MeterYield)
	b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(importOverflow), nil, nil).Export(module.MeterDepth)
	_, err := b.Instantiate(ctx)
	return err
}

func importYield(ctx context.Context, _ api.Module, _ []uint64) {
	m, _ := ctx.Value(meterKey{}).(*meter)
	m.yield()
}

func importOverflow(context.Context, api.Module, []uint64) {
	panic(&Trap{Kind: TrapStack, Detail: "calls are nested deeper than allowed; is there a recursion without end?"})
}
