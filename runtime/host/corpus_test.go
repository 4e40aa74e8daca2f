package host_test

import (
	"context"
	"errors"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/runtime/module"
	"github.com/millstream-io/millstream/runtime/module/wasmtest/hostile"
)

// unclear is an error that does not say whose fault it is: never right.
const unclear hostile.Fate = "unclear"

// TestHostileModules takes each module the whole way, from its bytes to a
// batch, as a deployment does, all in one host: none may end the process, run on
// after its limits, keep memory, or leave the host unable to run a good one.
func TestHostileModules(t *testing.T) {
	const wallTime = 250 * time.Millisecond
	h := newHost(t, host.Options{CacheDir: filepath.Join(t.TempDir(), "cache"), ChildProcess: true})
	limits := host.Limits{
		MemoryBytes: 8 << 20, FuelPerCall: 5_000_000, FuelSetup: 5_000_000, WallTime: wallTime, OutputBytes: 1 << 20,
	}
	corpus := hostile.Modules()
	if len(corpus) < 100 {
		t.Fatalf("the corpus has %d modules", len(corpus))
	}
	for _, m := range corpus {
		t.Run(m.Name, func(t *testing.T) {
			got, err := fateOf(t.Context(), h, m.Wasm, limits)
			if got != m.Want {
				t.Errorf("it was %s (%v), want %s", got, err, m.Want)
			}
			if err != nil && len(err.Error()) > 8<<10 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
	if got, err := fateOf(t.Context(), h, hostile.Good(), limits); got != hostile.Harmless {
		t.Errorf("a good module was %s afterwards: %v", got, err)
	}
	var after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&after)
	if after.HeapAlloc > 256<<20 {
		t.Errorf("%d MiB of heap are in use after the corpus", after.HeapAlloc>>20)
	}
}

// fateOf runs two records through a module.
func fateOf(ctx context.Context, h *host.Host, wasm []byte, limits host.Limits) (hostile.Fate, error) {
	p, err := h.Compile(ctx, wasm, limits)
	if errors.Is(err, module.ErrRefused) {
		return hostile.Refused, err
	}
	if err != nil {
		return unclear, err
	}
	defer p.Close(ctx) //nolint:errcheck // closed anew with the host
	i, err := p.Instantiate(ctx, oneOutput("identity"), nil)
	if err == nil {
		defer i.Close(ctx) //nolint:errcheck // the same
		_, _, err = run(ctx, i, host.Batch{}, value("a"), value("b"))
	}
	switch {
	case err == nil:
		return hostile.Harmless, nil
	case errors.As(err, new(*host.Trap)):
		return hostile.Stopped, err
	}
	return unclear, err
}
