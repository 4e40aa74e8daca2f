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
)

// fate is what becomes of a hostile module.
type fate string

const (
	refused  fate = "refused"  // before any of its code is compiled in this process
	stopped  fate = "stopped"  // a trap, at its start or in a call
	harmless fate = "harmless" // it runs, and what it did hurts nobody
	unclear  fate = "unclear"  // an error that does not say whose fault it is: never right
)

type hostile struct {
	name string
	want fate
	wasm []byte
}

// TestHostileModules takes each module the whole way, from its bytes to a
// batch, as a deployment does, all in one host: none may end the process, run on
// after its limits, keep memory, or leave the host unable to run a good one.
func TestHostileModules(t *testing.T) {
	const wallTime = 250 * time.Millisecond
	h := newHost(t, host.Options{CacheDir: filepath.Join(t.TempDir(), "cache"), ChildProcess: true})
	limits := host.Limits{
		MemoryBytes: 8 << 20, FuelPerCall: 5_000_000, FuelSetup: 5_000_000, WallTime: wallTime, OutputBytes: 1 << 20,
	}
	corpus := hostileModules()
	if len(corpus) < 60 {
		t.Fatalf("the corpus has %d modules", len(corpus))
	}
	for _, m := range corpus {
		t.Run(m.name, func(t *testing.T) {
			got, err := fateOf(t.Context(), h, m.wasm, limits)
			if got != m.want {
				t.Errorf("it was %s (%v), want %s", got, err, m.want)
			}
			if err != nil && len(err.Error()) > 8<<10 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
	if got, err := fateOf(t.Context(), h, goodModule(), limits); got != harmless {
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
func fateOf(ctx context.Context, h *host.Host, wasm []byte, limits host.Limits) (fate, error) {
	p, err := h.Compile(ctx, wasm, limits)
	if errors.Is(err, module.ErrRefused) {
		return refused, err
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
		return harmless, nil
	case errors.As(err, new(*host.Trap)):
		return stopped, err
	}
	return unclear, err
}
