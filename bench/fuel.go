package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"time"

	"github.com/millstream-io/millstream/runtime/module"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// bareGuest is the benchmark's guest on wazero without our host, so that the guest's own share can be measured with and without metering.
type bareGuest struct {
	runtime wazero.Runtime
	memory  api.Memory
	process api.Function
	fuel    api.MutableGlobal // nil without metering
	input   uint32
	output  uint32
	stack   [2]uint64
}

func newBareGuest(ctx context.Context, wasm []byte, metered, upper bool) (*bareGuest, error) {
	g := &bareGuest{runtime: wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler())}
	nop := api.GoModuleFunc(func(context.Context, api.Module, []uint64) {})
	i32 := api.ValueTypeI32
	_, err := g.runtime.NewHostModuleBuilder("millstream_v1").
		NewFunctionBuilder().WithGoModuleFunction(nop, []api.ValueType{i32, i32}, nil).Export("flush").Instantiate(ctx)
	if err != nil {
		return nil, err
	}
	if metered {
		if wasm, err = module.Meter(wasm, 10_000); err != nil {
			return nil, err
		}
		_, err = g.runtime.NewHostModuleBuilder(module.MeterModule).
			NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(context.Context, api.Module, []uint64) { g.fuel.Set(100_000) }), nil, nil).Export(module.MeterYield).
			NewFunctionBuilder().WithGoModuleFunction(nop, nil, nil).Export(module.MeterDepth).Instantiate(ctx)
		if err != nil {
			return nil, err
		}
	}
	mod, err := g.runtime.Instantiate(ctx, wasm)
	if err != nil {
		return nil, err
	}
	g.memory, g.process = mod.Memory(), mod.ExportedFunction("millstream_v1_process")
	if metered {
		g.fuel, _ = mod.ExportedGlobal(module.FuelGlobal).(api.MutableGlobal)
		if g.fuel == nil {
			return nil, fmt.Errorf("the metered module exports no fuel")
		}
		g.fuel.Set(100_000)
	}
	alloc := mod.ExportedFunction("millstream_v1_alloc")
	for area, p := range map[uint64]*uint32{1: &g.input, 2: &g.output} {
		r, err := alloc.Call(ctx, area, 1<<20)
		if err != nil {
			return nil, err
		}
		*p = uint32(r[0])
	}
	mode := "identity"
	if upper {
		mode = "upper"
	}
	r, err := alloc.Call(ctx, 0, 64)
	if err != nil {
		return nil, err
	}
	g.memory.Write(uint32(r[0]), []byte(mode))
	_, err = mod.ExportedFunction("millstream_v1_setup").Call(ctx, r[0], uint64(len(mode)))
	return g, err
}

func (g *bareGuest) load(flat []byte, count int) {
	var head [48]byte
	binary.LittleEndian.PutUint32(head[:], uint32(count))
	g.memory.Write(g.input, head[:])
	g.memory.Write(g.input+48, flat)
	g.stack[1] = uint64(48 + len(flat))
}

// run calls the guest once on what load has put there.
func (g *bareGuest) run(ctx context.Context) error {
	s := [2]uint64{uint64(g.input), g.stack[1]}
	return g.process.CallWithStack(ctx, s[:])
}

// runawayResult is what a guest in an endless loop did to its process.
type runawayResult struct{ stopped, longestPause time.Duration }

// ticker measures the longest gap between ticks of 1 ms until stop is called, while garbage collections are forced.
func ticker() (stop func() time.Duration) {
	quit, done := make(chan struct{}), make(chan time.Duration)
	go func() {
		var longest time.Duration
		last := time.Now()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				done <- longest
				return
			case <-tick.C:
				longest = max(longest, time.Since(last))
				last = time.Now()
			}
		}
	}()
	go func() {
		for {
			select {
			case <-quit:
				return
			default:
				runtime.GC()
			}
		}
	}()
	return func() time.Duration { close(quit); return <-done }
}
