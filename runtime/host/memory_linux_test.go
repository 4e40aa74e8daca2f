package host_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"runtime/debug"
	"strconv"
	"testing"
	"time"

	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/runtime/module/wasmtest"
	"github.com/millstream-io/millstream/runtime/module/wasmtest/hostile"
)

// A guest that takes its memory step by step, and touches all of it, costs the
// process that memory and little more, and nothing when it is closed.
func TestGrowingCostsNoMoreThanTheLimit(t *testing.T) {
	const limit, slack = 64 << 20, 32 << 20
	hoard := hostile.Forever(code().
		I32Const(16).MemoryGrow().LocalTee(0).I32Const(-1).Op(wasmtest.I32Eq).If(wasmtest.NoResult).Op(wasmtest.Unreachable).End().
		LocalGet(0).I32Const(16).Op(wasmtest.I32Shl).I32Const(255).I32Const(1 << 20).MemoryFill())
	h := newHost(t, host.Options{})
	limits := host.DefaultLimits()
	limits.MemoryBytes, limits.FuelPerCall, limits.WallTime = limit, 1<<40, time.Minute
	p, err := h.Compile(t.Context(), wasmtest.Guest{Process: hoard}.Bytes(), limits)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close(context.Background()) //nolint:errcheck // nothing depends on it
	for round := range 3 {
		i, err := p.Instantiate(t.Context(), host.Setup{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		debug.FreeOSMemory()
		// Linux begins the peak anew (proc(5), clear_refs).
		if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
			t.Skipf("NOT RUN: the peak of memory cannot be reset here: %v", err)
		}
		before := residentBytes(t, "VmRSS")
		if _, err := i.Input(t.Context(), 16); err != nil {
			t.Fatal(err)
		}
		if _, err := i.Process(t.Context(), host.Batch{Count: 1, SizeBytes: 16}); err == nil {
			t.Fatal("a guest without bounds came to an end")
		}
		peak := residentBytes(t, "VmHWM") - before
		if peak < limit*3/4 || peak > limit+slack {
			t.Errorf("round %d: the guest took %d MiB, its limit is %d", round, peak>>20, limit>>20)
		}
		if err := i.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if kept := residentBytes(t, "VmRSS") - before; kept > slack {
			t.Errorf("round %d: %d MiB are still there", round, kept>>20)
		}
	}
}

// residentBytes is a figure of /proc/self/status.
func residentBytes(t *testing.T, name string) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(fmt.Sprintf(`(?m)^%s:\s+(\d+) kB$`, name)).FindSubmatch(status)
	if m == nil {
		t.Fatalf("%s is not in /proc/self/status", name)
	}
	kB, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kB << 10
}
