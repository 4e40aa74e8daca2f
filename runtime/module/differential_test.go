package module_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/millstream-io/millstream/runtime/module"
)

// slice is the fuel that a test host gives at a time; small, so that yields happen.
const slice = 1000

var (
	errFuel  = errors.New("fuel used up")
	errDepth = errors.New("calls nested too deep")
)

// meteredRun is a metered module on wazero, with the host's side of the metering.
type meteredRun struct {
	mod    api.Module
	budget int64 // units that are left beyond the slice at hand
	used   int64 // of earlier slices
	yields int
}

func newRuntime(t testing.TB, run *meteredRun) wazero.Runtime {
	t.Helper()
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler().WithMemoryLimitPages(512))
	t.Cleanup(func() { r.Close(ctx) })
	wasi_snapshot_preview1.MustInstantiate(ctx, r)
	yield := func(_ context.Context, m api.Module, _ []uint64) {
		run.yields++
		fuel := m.ExportedGlobal(module.FuelGlobal).(api.MutableGlobal)
		left := int64(fuel.Get())
		if run.budget+left < 0 {
			panic(errFuel)
		}
		next := min(run.budget+left, slice)
		run.budget -= next - left
		fuel.Set(uint64(next))
	}
	_, err := r.NewHostModuleBuilder(module.MeterModule).
		NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(yield), nil, nil).Export(module.MeterYield).
		NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(context.Context, api.Module, []uint64) {
		panic(errDepth)
	}), nil, nil).Export(module.MeterDepth).Instantiate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.NewHostModuleBuilder("spectest").
		NewFunctionBuilder().WithFunc(func() {}).Export("print").
		NewFunctionBuilder().WithFunc(func(uint32) {}).Export("print_i32").
		NewFunctionBuilder().WithFunc(func(uint64) {}).Export("print_i64").
		NewFunctionBuilder().WithFunc(func(float32) {}).Export("print_f32").
		NewFunctionBuilder().WithFunc(func(float64) {}).Export("print_f64").
		NewFunctionBuilder().WithFunc(func(uint32, float32) {}).Export("print_i32_f32").
		NewFunctionBuilder().WithFunc(func(float64, float64) {}).Export("print_f64_f64").
		Instantiate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// call runs a function with a budget; the fuel it used is exact.
func (run *meteredRun) call(f api.Function, budget int64, args []uint64) (results []uint64, fuel int64, err error) {
	global := run.mod.ExportedGlobal(module.FuelGlobal).(api.MutableGlobal)
	run.mod.ExportedGlobal(module.DepthGlobal).(api.MutableGlobal).Set(0)
	first := min(budget, slice)
	run.budget = budget - first
	global.Set(uint64(first))
	results, err = f.Call(context.Background(), args...)
	return results, budget - run.budget - int64(global.Get()), err
}

// pair runs modules plain and metered, side by side.
type pair struct {
	plainRuntime, meteredRuntime wazero.Runtime
	plainCode, meteredCode       wazero.CompiledModule
	plain                        api.Module
	run                          *meteredRun
}

func newPair(t testing.TB) *pair {
	run := &meteredRun{}
	return &pair{plainRuntime: newRuntime(t, &meteredRun{}), meteredRuntime: newRuntime(t, run), run: run}
}

// sameBehaviour calls every exported function of a module with several
// arguments, plain and metered, and compares results, traps and memory. It
// returns how many calls it compared.
func (p *pair) sameBehaviour(t *testing.T, wasm []byte, rng *rand.Rand) (calls int) {
	t.Helper()
	ctx := context.Background()
	metered, err := module.Meter(wasm, 1000)
	if err != nil {
		t.Fatalf("Meter: %v", err)
	}
	var plainErr, meteredErr error
	p.plainCode, plainErr = p.plainRuntime.CompileModule(ctx, wasm)
	p.meteredCode, meteredErr = p.meteredRuntime.CompileModule(ctx, metered)
	if (plainErr == nil) != (meteredErr == nil) {
		t.Fatalf("compile: plain %v, metered %v", plainErr, meteredErr)
	}
	if plainErr != nil {
		return 0
	}
	defer p.plainCode.Close(ctx)
	defer p.meteredCode.Close(ctx)
	for name, def := range p.plainCode.ExportedFunctions() {
		if name == "_initialize" || name == "_start" {
			continue
		}
		if p.plain == nil && !p.instantiate(t) {
			return calls
		}
		for range 6 {
			args := arguments(rng, def.ParamTypes())
			if args == nil || p.plain == nil {
				break
			}
			if p.compareCall(t, name, args) {
				calls++
			}
		}
	}
	p.close()
	return calls
}

func (p *pair) close() {
	if p.plain != nil {
		p.plain.Close(context.Background())
		p.run.mod.Close(context.Background())
		p.plain = nil
	}
}

// instantiate makes new instances; false if both refuse.
func (p *pair) instantiate(t *testing.T) bool {
	t.Helper()
	ctx := context.Background()
	config := wazero.NewModuleConfig().WithStartFunctions().WithName("")
	plain, plainErr := p.plainRuntime.InstantiateModule(ctx, p.plainCode, config)
	metered, meteredErr := p.meteredRuntime.InstantiateModule(ctx, p.meteredCode, config)
	if plainErr != nil && strings.Contains(plainErr.Error(), "not instantiated") {
		return false
	}
	if (plainErr == nil) != (meteredErr == nil) {
		t.Fatalf("instantiate: plain %v, metered %v", plainErr, meteredErr)
	}
	if plainErr != nil {
		return false
	}
	p.plain, p.run.mod = plain, metered
	if plain.ExportedFunction("_initialize") != nil && !p.compareCall(t, "_initialize", nil) {
		t.Fatal("_initialize was stopped")
	}
	return true
}

// compareCall returns false, and gives the instances up, if the call was stopped by its fuel or depth.
func (p *pair) compareCall(t *testing.T, name string, args []uint64) bool {
	t.Helper()
	got, fuel, gotErr := p.run.call(p.run.mod.ExportedFunction(name), 20_000_000, args)
	if errors.Is(gotErr, errFuel) || errors.Is(gotErr, errDepth) {
		p.close()
		return false
	}
	want, wantErr := p.plain.ExportedFunction(name).Call(context.Background(), args...)
	if trap(wantErr) != trap(gotErr) {
		t.Fatalf("%s(%x): plain %v, metered %v", name, args, wantErr, gotErr)
	}
	if fmt.Sprint(want) != fmt.Sprint(got) {
		t.Fatalf("%s(%x): plain %x, metered %x", name, args, want, got)
	}
	if fuel < 0 {
		t.Fatalf("%s: used %d units", name, fuel)
	}
	if depth := p.run.mod.ExportedGlobal(module.DepthGlobal).Get(); gotErr == nil && depth != 0 {
		t.Fatalf("%s: depth is %d after the call", name, depth)
	}
	compareState(t, p.plain, p.run.mod)
	return true
}

// trap returns the first line of a trap, which names its kind.
func trap(err error) string {
	if err == nil {
		return ""
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

func compareState(t *testing.T, plain, metered api.Module) {
	t.Helper()
	if m := plain.Memory(); m != nil && len(plain.ExportedMemoryDefinitions()) > 0 {
		a, _ := m.Read(0, m.Size())
		b, _ := metered.Memory().Read(0, metered.Memory().Size())
		if !bytes.Equal(a, b) {
			t.Fatal("memories differ")
		}
	}
}

// arguments returns random values of the types, nil if one is a reference.
func arguments(rng *rand.Rand, types []api.ValueType) []uint64 {
	args := make([]uint64, 0, len(types))
	for _, typ := range types {
		small := rng.IntN(2) == 0
		switch typ {
		case api.ValueTypeI32:
			v := rng.Uint32()
			if small {
				v %= 100
			}
			args = append(args, uint64(v))
		case api.ValueTypeI64:
			v := rng.Uint64()
			if small {
				v %= 100
			}
			args = append(args, v)
		case api.ValueTypeF32:
			args = append(args, api.EncodeF32(rng.Float32()*1000))
		case api.ValueTypeF64:
			args = append(args, api.EncodeF64(rng.NormFloat64()*1000))
		case 0x7b:
			args = append(args, rng.Uint64(), rng.Uint64())
		default:
			return nil
		}
	}
	return args
}

// TestSpecificationModulesBehaveTheSame meters the modules of the WebAssembly
// specification's test suite, which wazero's module carries.
func TestSpecificationModulesBehaveTheSame(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/tetratelabs/wazero").Output()
	if err != nil {
		t.Skipf("no specification modules: %v", err)
	}
	root := filepath.Join(strings.TrimSpace(string(dir)), "internal", "integration_test", "spectest")
	caps := module.DefaultCaps()
	caps.BranchTargets, caps.Exports, caps.Locals = 1<<20, 1000, 5000
	p := newPair(t)
	modules, calls, refused, invalid := 0, 0, 0, 0
	for _, suite := range []string{"v1", "v2"} {
		files, _ := filepath.Glob(filepath.Join(root, suite, "testdata", "*.wasm"))
		for _, file := range files {
			wasm, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := module.CheckStructure(wasm, caps, func(string, string) bool { return true }); err != nil {
				refused++
				continue
			}
			t.Run(suite+"/"+filepath.Base(file), func(t *testing.T) {
				n := p.sameBehaviour(t, wasm, rand.New(rand.NewPCG(1, 2)))
				if n == 0 {
					invalid++
				}
				calls += n
			})
			modules++
		}
	}
	t.Logf("%d modules (%d invalid or without a call), %d calls compared, %d modules refused", modules, invalid, calls, refused)
	if modules == 0 {
		t.Skip("no specification modules found in the module cache")
	}
}
