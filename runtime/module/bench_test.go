package module_test

import (
	"context"
	"math"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/millstream-io/millstream/runtime/module"
)

// BenchmarkKernels compares plain and metered code; the slice is what a host gives.
func BenchmarkKernels(b *testing.B) {
	wasm := compileC(b, "kernels")
	metered, err := module.Meter(wasm, 10_000)
	if err != nil {
		b.Fatal(err)
	}
	kernels := []struct {
		name string
		args []uint64
	}{
		{"upper", []uint64{1000, 100}},
		{"upper", []uint64{1000, 1000}},
		{"upper_bytes", []uint64{1000, 100}},
		{"identity", []uint64{1000, 100}},
		{"filter", []uint64{1000, 100}},
		{"fnv", []uint64{100_000}},
		{"scan", []uint64{100_000}},
		{"fib", []uint64{22}},
		{"quicksort", []uint64{1, 10_000}},
	}
	for _, k := range kernels {
		name := k.name
		if len(k.args) > 1 && k.args[1] == 1000 {
			name += "-1000"
		}
		b.Run(name+"/plain", func(b *testing.B) { benchmarkCall(b, wasm, k.name, k.args) })
		b.Run(name+"/metered", func(b *testing.B) { benchmarkCall(b, metered, k.name, k.args) })
	}
}

func benchmarkCall(b *testing.B, wasm []byte, name string, args []uint64) {
	ctx := context.Background()
	r := wazero.NewRuntime(ctx)
	defer r.Close(ctx)
	var fuel api.MutableGlobal
	refill := func(context.Context, api.Module, []uint64) { fuel.Set(100_000) }
	_, err := r.NewHostModuleBuilder(module.MeterModule).
		NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(refill), nil, nil).Export(module.MeterYield).
		NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(refill), nil, nil).Export(module.MeterDepth).Instantiate(ctx)
	if err != nil {
		b.Fatal(err)
	}
	m, err := r.Instantiate(ctx, wasm)
	if err != nil {
		b.Fatal(err)
	}
	fuel, _ = m.ExportedGlobal(module.FuelGlobal).(api.MutableGlobal)
	if _, err := m.ExportedFunction("fill").Call(ctx, 1, 1<<20-1); err != nil {
		b.Fatal(err)
	}
	f := m.ExportedFunction(name)
	stack := make([]uint64, 4)
	if fuel != nil {
		fuel.Set(math.MaxInt64)
		copy(stack, args)
		if err := f.CallWithStack(ctx, stack); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(math.MaxInt64-fuel.Get()), "units")
	}
	for b.Loop() {
		copy(stack, args)
		if err := f.CallWithStack(ctx, stack); err != nil {
			b.Fatal(err)
		}
	}
}
