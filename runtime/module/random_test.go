package module_test

import (
	"context"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/millstream-io/millstream/runtime/module"
	"github.com/millstream-io/millstream/runtime/module/wasmtest"
)

// generator writes random valid functions over i32 locals: all forms of control
// flow, calls of any function, memory and table operations.
type generator struct {
	rng    *rand.Rand
	locals uint32
	funcs  uint32
	labels uint32 // open blocks
	size   int    // statements that may still be written
}

const (
	randomParams = 2
	randomType   = 0 // (i32, i32) → i32
	randomPair   = 1 // () → (i32, i32), for blocks of two results
)

func randomModule(rng *rand.Rand) []byte {
	type C = wasmtest.Code
	b := wasmtest.New()
	b.Type(i32s(randomParams), i32s(1))
	b.Type(nil, i32s(2))
	b.Memory(1, 4)
	b.Table(8, 16)
	b.Global(wasmtest.I32, true, C{}.I32Const(7))
	b.PassiveData(make([]byte, 100))
	n := 2 + rng.Uint32N(5)
	funcs := make([]uint32, 8)
	for i := range funcs {
		funcs[i] = rng.Uint32N(n)
	}
	b.Elem(0, funcs...)
	for range n {
		extra := rng.Uint32N(6)
		g := &generator{rng: rng, locals: randomParams + extra, funcs: n, size: 5 + rng.IntN(60)}
		body := g.statements(0).Append(g.expression(0))
		f := b.Func(i32s(randomParams), i32s(1), i32s(int(extra)), body)
		b.Export(string(rune('a'+f)), wasmtest.KindFunc, f)
	}
	return b.Bytes()
}

func (g *generator) local() uint32 { return g.rng.Uint32N(g.locals) }

// statements returns code that leaves the stack as it is.
func (g *generator) statements(depth int) wasmtest.Code {
	c := wasmtest.Code{}
	for range 1 + g.rng.IntN(5) {
		if g.size--; g.size <= 0 {
			break
		}
		c = c.Append(g.statement(depth))
	}
	return c
}

func (g *generator) inside(depth int) wasmtest.Code {
	g.labels++
	defer func() { g.labels-- }()
	return g.statements(depth + 1)
}

func (g *generator) statement(depth int) wasmtest.Code {
	type C = wasmtest.Code
	none := wasmtest.NoResult
	choice := g.rng.IntN(18)
	if depth > 6 {
		choice = 10 + g.rng.IntN(8)
	}
	switch choice {
	case 0, 1:
		return C{}.Block(none).Append(g.inside(depth)).End()
	case 2, 3, 4:
		// A loop that usually ends by itself.
		i := g.local()
		return C{}.Loop(none).Append(g.inside(depth)).
			LocalGet(i).I32Const(1).Op(wasmtest.I32Add).LocalTee(i).I32Const(7).Op(wasmtest.I32And).BrIf(0).End()
	case 5:
		return C{}.Append(g.expression(0)).If(none).Append(g.inside(depth)).End()
	case 6:
		return C{}.Append(g.expression(0)).If(none).Append(g.inside(depth)).Else().Append(g.inside(depth)).End()
	case 7:
		return C{}.Block(wasmtest.TypeIndex(randomPair)).Append(g.expression(0)).
			Append(g.expression(0)).Append(g.expression(0)).BrIf(0).End().LocalSet(g.local()).LocalSet(g.local())
	case 8: // a loop with a parameter
		return C{}.Append(g.expression(0)).Append(g.expression(0)).Loop(wasmtest.TypeIndex(randomType)).
			Op(wasmtest.I32Sub).LocalTee(0).LocalGet(0).Op(wasmtest.I32Xor).End().LocalSet(g.local())
	case 9:
		if g.labels == 0 {
			return C{}.Append(g.expression(0)).If(none).Append(g.expression(0)).Return().End()
		}
		labels := make([]uint32, 1+g.rng.IntN(4))
		for i := range labels {
			labels[i] = g.rng.Uint32N(g.labels)
		}
		return C{}.Append(g.expression(0)).If(none).Append(g.expression(0)).BrTable(addOne(labels)...).End()
	case 10:
		if g.labels > 0 {
			return C{}.Append(g.expression(0)).BrIf(g.rng.Uint32N(g.labels))
		}
	case 11:
		at := C{}.Append(g.expression(0)).I32Const(0x3fff).Op(wasmtest.I32And)
		return C{}.Append(at).Append(g.expression(0)).Mem(wasmtest.I32Store, g.rng.Uint32N(1000))
	case 12:
		mask := C{}.I32Const(0x3ff).Op(wasmtest.I32And)
		c := C{}.Append(g.expression(0)).Append(mask).Append(g.expression(0)).Append(mask).Append(g.expression(0)).Append(mask)
		if g.rng.IntN(2) == 0 {
			return c.MemoryFill()
		}
		return c.MemoryCopy()
	case 13:
		return C{}.I32Const(0).I32Const(int32(g.rng.IntN(50))).I32Const(int32(g.rng.IntN(60))).MemoryInit(0)
	case 14:
		return C{}.I32Const(int32(g.rng.IntN(3))).MemoryGrow().LocalSet(g.local())
	case 15:
		return C{}.Append(g.expression(0)).GlobalSet(0)
	case 16:
		return C{}.RefFunc(g.rng.Uint32N(g.funcs)).I32Const(int32(g.rng.IntN(3))).TableGrow().LocalSet(g.local())
	}
	return C{}.Append(g.expression(0)).LocalSet(g.local())
}

func addOne(labels []uint32) []uint32 {
	for i := range labels {
		labels[i]++ // out of the if
	}
	return labels
}

// expression returns code that pushes one i32.
func (g *generator) expression(depth int) wasmtest.Code {
	type C = wasmtest.Code
	if depth > 3 {
		return C{}.LocalGet(g.local())
	}
	next := func() C { return g.expression(depth + 1) }
	switch g.rng.IntN(12) {
	case 0:
		return C{}.I32Const(int32(g.rng.Uint32()))
	case 1, 2:
		return C{}.Append(next()).Append(next()).Op(wasmtest.I32Add)
	case 3:
		return C{}.Append(next()).Append(next()).Op(wasmtest.I32DivS) // may trap
	case 4:
		return C{}.Append(next()).I32Const(0xffff).Op(wasmtest.I32And).Mem(wasmtest.I32Load8U, g.rng.Uint32N(2000))
	case 5:
		return C{}.Append(next()).Append(next()).Call(g.rng.Uint32N(g.funcs))
	case 6:
		return C{}.Append(next()).Append(next()).Append(next()).I32Const(7).Op(wasmtest.I32And).CallIndirect(randomType)
	case 7:
		return C{}.Append(next()).Append(next()).Append(next()).Op(wasmtest.SelectOp)
	case 8:
		return C{}.GlobalGet(0)
	case 9:
		return C{}.MemorySize()
	}
	return C{}.LocalGet(g.local())
}

func TestRandomModulesBehaveTheSame(t *testing.T) {
	caps := module.DefaultCaps()
	modules, calls := 200, 0
	if testing.Short() {
		modules = 30
	}
	p := newPair(t)
	for seed := range uint64(modules) {
		wasm := randomModule(rand.New(rand.NewPCG(seed, 42)))
		if err := module.CheckStructure(wasm, caps, nil); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if _, err := p.plainRuntime.CompileModule(context.Background(), wasm); err != nil {
			t.Fatalf("seed %d: the generator wrote an invalid module: %v", seed, err)
		}
		calls += p.sameBehaviour(t, wasm, rand.New(rand.NewPCG(seed, 1)))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d modules, %d calls compared", modules, calls)
	if calls < modules {
		t.Errorf("only %d calls were compared", calls)
	}
}

// FuzzCheckAndMeter holds that nothing panics, and that what Check accepts is
// valid metered exactly if it was valid before.
func FuzzCheckAndMeter(f *testing.F) {
	f.Add(wasmtest.Guest{}.Bytes())
	f.Add(exponential())
	f.Add(guest(endless))
	for seed := range uint64(20) {
		f.Add(randomModule(rand.New(rand.NewPCG(seed, 42))))
	}
	caps := module.DefaultCaps()
	caps.BodyBytes, caps.MemoryBytes, caps.BlocksTimesLocals = 4096, 1<<20, 10_000
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	f.Fuzz(func(t *testing.T, wasm []byte) {
		report, err := module.Check(wasm, caps, nil)
		if m, readErr := module.ReadManifest(wasm); err == nil && (readErr != nil || !reflect.DeepEqual(m, report.Manifest)) {
			t.Fatalf("the manifest alone is %+v, %v; Check has %+v", m, readErr, report.Manifest)
		}
		_, _ = module.Meter(wasm, 100)
		if module.CheckStructure(wasm, caps, func(string, string) bool { return true }) != nil {
			return
		}
		metered, err := module.Meter(wasm, 100)
		if err != nil {
			t.Fatalf("Check accepts and Meter refuses: %v", err)
		}
		plainCode, plainErr := r.CompileModule(ctx, wasm)
		meteredCode, meteredErr := r.CompileModule(ctx, metered)
		// Metering drops custom sections, of which wazero refuses some: an empty one at the end is an end of file to it.
		custom := plainErr != nil && strings.Contains(plainErr.Error(), "custom")
		if (plainErr == nil) != (meteredErr == nil) && !custom {
			t.Fatalf("plain: %v, metered: %v", plainErr, meteredErr)
		}
		if plainErr == nil {
			_ = plainCode.Close(ctx)
		}
		if meteredErr == nil {
			_ = meteredCode.Close(ctx)
		}
	})
}
