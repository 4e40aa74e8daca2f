package isolation_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millstream-io/millstream/runtime"
	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/runtime/isolation"
	"github.com/millstream-io/millstream/runtime/module"
	"github.com/millstream-io/millstream/runtime/module/wasmtest"
	"github.com/millstream-io/millstream/runtime/module/wasmtest/hostile"
)

func TestProofsHaveTheErrorsOfThisProcess(t *testing.T) {
	n := newNursery(t, "good", func(o *isolation.Options) {
		o.CacheDir = filepath.Join(t.TempDir(), "cache")
		o.Limits.MemoryBytes = 256 << 20
	})
	setup := host.Setup{Deployment: "d", Inputs: []string{"in"}, Outputs: []string{"out"}, Config: map[string]string{"a": "b"}}
	prove := func(wasm []byte, l host.Limits) error {
		return n.Prove(t.Context(), runtime.Proof{Wasm: wasm, Setup: setup, Limits: l})
	}
	if err := prove(hostile.Good(), host.Limits{}); err != nil {
		t.Errorf("a good module: %v", err)
	}
	err := prove(wasmtest.Guest{Setup: hostile.Forever(wasmtest.Code{})}.Bytes(), host.Limits{FuelSetup: 1_000_000})
	if trap, ok := errors.AsType[*host.Trap](err); !ok || trap.Kind != host.TrapFuel {
		t.Errorf("an endless setup: %v", err)
	}
	message := wasmtest.Guest{
		Prepare: func(b *wasmtest.Builder) { b.Data(64, []byte("no such language")) },
		Setup:   wasmtest.Code{}.I64Const(64<<32 | 16),
	}
	if refusal, ok := errors.AsType[*host.SetupError](prove(message.Bytes(), host.Limits{})); !ok || refusal.Message != "no such language" {
		t.Errorf("a setup that refuses: %v", refusal)
	}
	if err := prove([]byte("\x00asm"), host.Limits{}); !errors.Is(err, module.ErrRefused) {
		t.Errorf("half a module: %v", err)
	}
	if underRace {
		return
	}
	hoard := wasmtest.Guest{Setup: wasmtest.Code{}.I32Const(6000).MemoryGrow().Drop().
		I32Const(1 << 20).I32Const(1).I32Const(360 << 20).MemoryFill().Append(hostile.Forever(wasmtest.Code{}))}
	err = prove(hoard.Bytes(), host.Limits{MemoryBytes: 500 << 20, FuelSetup: 1 << 50})
	if trap, ok := errors.AsType[*host.Trap](err); !ok || trap.Kind != host.TrapMemory || !strings.Contains(err.Error(), "its limit is 256 MiB") {
		t.Errorf("more memory than the process may have: %v", err)
	}
}
