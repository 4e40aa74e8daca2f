package module_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"

	"github.com/millstream-io/millstream/runtime/module"
	"github.com/millstream-io/millstream/runtime/module/wasmtest"
)

// guest is a module with one exported function "run", () → i32, of this body; its
// locals 0 to 3 are i32.
func guest(body wasmtest.Code, prepare ...func(b *wasmtest.Builder)) []byte {
	b := wasmtest.New()
	b.Memory(1, 100)
	for _, p := range prepare {
		p(b)
	}
	b.Export("run", wasmtest.KindFunc, b.Func(nil, i32s(1), i32s(4), body))
	return b.Bytes()
}

// start instantiates the metered module.
func start(t *testing.T, wasm []byte, maxDepth int) *meteredRun {
	t.Helper()
	metered, err := module.Meter(wasm, maxDepth)
	if err != nil {
		t.Fatal(err)
	}
	run := &meteredRun{}
	run.mod, err = newRuntime(t, run).InstantiateWithConfig(context.Background(), metered,
		wazero.NewModuleConfig().WithStartFunctions())
	if err != nil {
		t.Fatal(err)
	}
	return run
}

var endless = wasmtest.Code{}.Loop(wasmtest.NoResult).Br(0).End().I32Const(0)

// exponential is f(0), which calls f(1) twice, which calls f(2) twice, and so on: 2^60 calls and no loop.
func exponential() []byte {
	b := wasmtest.New()
	const n = 60
	for i := range uint32(n) {
		body := wasmtest.Code{}
		if i < n-1 {
			body = body.Call(i + 1).Call(i + 1)
		}
		b.Func(nil, nil, nil, body)
	}
	b.Export("run", wasmtest.KindFunc, 0)
	return b.Bytes()
}

func TestRunawayGuestsAreStopped(t *testing.T) {
	type C = wasmtest.Code
	tests := []struct {
		name string
		wasm []byte
		want error
	}{
		{"endless loop", guest(endless), errFuel},
		{"endless loop by br_table", guest(C{}.Loop(wasmtest.NoResult).I32Const(7).BrTable(0, 0, 0).End().I32Const(0)), errFuel},
		{"loop with a result", guest(C{}.Loop(wasmtest.Result(wasmtest.I32)).I32Const(1).BrIf(0).I32Const(3).End()), errFuel},
		{"loop in a loop", guest(C{}.Loop(wasmtest.NoResult).Loop(wasmtest.NoResult).I32Const(0).BrIf(0).End().Br(0).End().I32Const(0)), errFuel},
		{"exponential calls", exponential(), errFuel},
		{"fills in a straight line", guest(C{}.Repeat(1000, C{}.I32Const(0).I32Const(1).I32Const(65536).MemoryFill()).I32Const(0)), errFuel},
		{"copies in a straight line", guest(C{}.Repeat(1000, C{}.I32Const(0).I32Const(1).I32Const(65535).MemoryCopy()).I32Const(0)), errFuel},
		{"growing in a loop", guest(C{}.Loop(wasmtest.NoResult).I32Const(1).MemoryGrow().Drop().Br(0).End().I32Const(0)), errFuel},
		{"growing by nothing", guest(C{}.Loop(wasmtest.NoResult).I32Const(0).MemoryGrow().Drop().Br(0).End().I32Const(0)), errFuel},
		{"filling a table", guest(C{}.Loop(wasmtest.NoResult).I32Const(0).RefNull(wasmtest.FuncRef).I32Const(10_000).TableFill().Br(0).End().I32Const(0),
			func(b *wasmtest.Builder) { b.Table(10_000, 10_000) }), errFuel},
		{"recursion", guest(C{}.Call(0)), errDepth},
		{"indirect recursion", guest(C{}.I32Const(0).CallIndirect(0), func(b *wasmtest.Builder) {
			b.Type(nil, i32s(1))
			b.Table(1, 1)
			b.Elem(0, 0)
		}), errDepth},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			run := start(t, test.wasm, 1000)
			_, fuel, err := run.call(run.mod.ExportedFunction("run"), 10_000_000, nil)
			if !errors.Is(err, test.want) {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			again := start(t, test.wasm, 1000)
			if _, second, _ := again.call(again.mod.ExportedFunction("run"), 10_000_000, nil); second != fuel {
				t.Errorf("used %d units, then %d", fuel, second)
			}
		})
	}
}

// TestLargeFramesCountAsDepth keeps the stack small however large the frames are: the
// same cap lets far fewer calls nest if each keeps 2,000 operands.
func TestLargeFramesCountAsDepth(t *testing.T) {
	type C = wasmtest.Code
	recursion := func(operands int) C {
		return C{}.GlobalGet(0).I32Const(1).Op(wasmtest.I32Add).GlobalSet(0).
			Repeat(operands, C{}.I32Const(8).Mem(wasmtest.I32Load, 0)).Call(0).Repeat(operands, C{}.Op(wasmtest.I32Add))
	}
	nested := func(operands int) uint64 {
		run := start(t, guest(recursion(operands), func(b *wasmtest.Builder) {
			b.Global(wasmtest.I32, true, C{}.I32Const(0))
			b.Export("calls", wasmtest.KindGlobal, 0)
		}), 10_000)
		if _, _, err := run.call(run.mod.ExportedFunction("run"), 1<<30, nil); !errors.Is(err, errDepth) {
			t.Fatal(err)
		}
		return run.mod.ExportedGlobal("calls").Get()
	}
	if n := nested(1); n != 10_000 {
		t.Errorf("%d calls with small frames", n)
	}
	if n := nested(2000); n > 700 || n < 500 {
		t.Errorf("%d calls with 16 KB frames", n)
	}
}

// TestFuelOfACallIsExactAndRepeatable holds for any size of slice.
func TestFuelOfACallIsExactAndRepeatable(t *testing.T) {
	count := wasmtest.Code{}.Loop(wasmtest.NoResult).
		LocalGet(0).I32Const(1).Op(wasmtest.I32Add).LocalTee(0).I32Const(10_000).Op(wasmtest.I32Ne).BrIf(0).End().
		LocalGet(0)
	run := start(t, guest(count), 10)
	results, fuel, err := run.call(run.mod.ExportedFunction("run"), 1<<40, nil)
	if err != nil || results[0] != 10_000 {
		t.Fatal(results, err)
	}
	// Seven instructions a turn are two units; entry and end take two more.
	if fuel < 20_000 || fuel > 20_004 {
		t.Errorf("used %d units", fuel)
	}
	if run.yields < int(fuel/slice)-1 || run.yields > int(fuel/slice)+1 {
		t.Errorf("%d yields for %d units in slices of %d", run.yields, fuel, slice)
	}
	if _, _, err := run.call(run.mod.ExportedFunction("run"), fuel-1000, nil); !errors.Is(err, errFuel) {
		t.Errorf("with less fuel: %v", err)
	}
	if _, second, err := run.call(run.mod.ExportedFunction("run"), 1<<40, nil); err != nil || second != fuel {
		t.Errorf("after a stop the same call used %d units (%v), before %d", second, err, fuel)
	}
}

// TestBulkOperationsArePaidByLength compares a short and a long one.
func TestBulkOperationsArePaidByLength(t *testing.T) {
	type C = wasmtest.Code
	tests := []struct {
		name string
		body C
		want int64
	}{
		{"fill", C{}.I32Const(0).I32Const(1).I32Const(60_000).MemoryFill(), 15_000},
		{"copy", C{}.I32Const(0).I32Const(1).I32Const(60_000).MemoryCopy(), 15_000},
		{"init", C{}.I32Const(0).I32Const(0).I32Const(60_000).MemoryInit(0), 15_000},
		{"grow", C{}.I32Const(3).MemoryGrow().Drop(), 3 << 16},
		{"refused grow", C{}.I32Const(1000).MemoryGrow().Drop(), 0},
		{"table.fill", C{}.I32Const(0).RefNull(wasmtest.FuncRef).I32Const(100).TableFill(), 3200},
		{"table.grow", C{}.RefNull(wasmtest.FuncRef).I32Const(50).TableGrow().Drop(), 1600},
		{"refused table.grow", C{}.RefNull(wasmtest.FuncRef).I32Const(5000).TableGrow().Drop(), 0},
	}
	for _, test := range tests {
		run := start(t, guest(test.body.I32Const(0), func(b *wasmtest.Builder) {
			b.PassiveData(make([]byte, 60_000))
			b.Table(100, 200)
		}), 10)
		_, fuel, err := run.call(run.mod.ExportedFunction("run"), 1<<30, nil)
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		if fuel < test.want || fuel > test.want+120 {
			t.Errorf("%s used %d units, want %d and a little", test.name, fuel, test.want)
		}
	}
}

// TestGarbageCollectionDoesNotWaitForARunawayGuest is the reason for slices: native
// code cannot be preempted, so without yields a collection would stand until the guest ends.
func TestGarbageCollectionDoesNotWaitForARunawayGuest(t *testing.T) {
	run := start(t, guest(endless), 10)
	done := make(chan error, 1)
	go func() {
		_, _, err := run.call(run.mod.ExportedFunction("run"), 300_000_000, nil)
		done <- err
	}()
	collections := 0
	for {
		select {
		case err := <-done:
			if !errors.Is(err, errFuel) {
				t.Fatal(err)
			}
			if collections < 2 {
				t.Errorf("only %d collections ran beside the guest", collections)
			}
			return
		default:
			begin := time.Now()
			runtime.GC()
			t.Logf("collection took %v", time.Since(begin))
			collections++
		}
	}
}

func TestMeterDropsCustomSectionsAndKeepsData(t *testing.T) {
	b := wasmtest.Guest{}.Builder()
	b.Custom("name", []byte("anything"))
	b.Data(10, []byte("precious bytes"))
	metered, err := module.Meter(b.Bytes(), 100)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(metered, []byte("anything")) || !bytes.Contains(metered, []byte("precious bytes")) {
		t.Error("custom section kept or data lost")
	}
	again, _ := module.Meter(b.Bytes(), 100)
	if !bytes.Equal(metered, again) {
		t.Error("Meter is not deterministic")
	}
}

func TestMeterOfRubbishIsAnError(t *testing.T) {
	good := wasmtest.Guest{}.Bytes()
	rng := rand.New(rand.NewPCG(1, 1))
	for range 20_000 {
		bad := bytes.Clone(good)
		for range 1 + rng.IntN(4) {
			bad[8+rng.IntN(len(bad)-8)] = byte(rng.Uint32())
		}
		_, _ = module.Meter(bad[:8+rng.IntN(len(bad)-8)], 100) // must not panic
	}
	if _, err := module.Meter(nil, 100); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("nothing: %v", err)
	}
}
