package host_test

import (
	"bytes"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/sdk/abi"
)

func TestGoGuestsThatFail(t *testing.T) {
	tests := []struct {
		mode, value string
		kind        host.TrapKind
		want        string
	}{
		{"panic", "", host.TrapFault, "as it was told"},
		{"spin", "spin", host.TrapFuel, "units of fuel"},
		{"memory", "", host.TrapMemory, "bytes of memory"},
	}
	eachGoGuest(t, func(t *testing.T, wasm []byte) {
		for _, tt := range tests {
			t.Run(tt.mode, func(t *testing.T) {
				limits := host.Limits{MemoryBytes: 16 << 20, FuelPerCall: 1_000_000_000, WallTime: time.Minute}
				i := mustInstantiate(t, wasm, limits, oneOutput(tt.mode), nil)
				_, _, err := run(t.Context(), i, host.Batch{}, value(tt.value))
				// A Go guest that panics ends itself by proc_exit, TinyGo's traps.
				if trap := new(host.Trap); tt.kind == host.TrapFault && asTrap(err, trap) && trap.Kind == host.TrapExit {
					tt.kind = host.TrapExit
				}
				if trap := trapOf(t, err, tt.kind); !strings.Contains(trap.Detail, tt.want) {
					t.Errorf("got %q, want it to say %q", trap.Detail, tt.want)
				}
			})
		}
	})
}

func TestProcessAllocatesNothing(t *testing.T) {
	for _, guest := range []struct {
		name  string
		build func() ([]byte, error)
	}{{"go", buildGo}, {"tinygo", buildTinyGo}, {"c", buildC}} {
		t.Run(guest.name, func(t *testing.T) {
			i := mustInstantiate(t, built(t, guest.build), host.Limits{}, oneOutput("identity"), nil)
			// The output area is smaller than what comes out: flushes are part of it.
			encoded, count := encodedBatch(1200<<10, 100)
			batch := benchBatch(encoded, count)
			ctx := t.Context()
			var o abi.Output
			var failed error
			call := func() {
				view, err := i.Input(ctx, len(encoded))
				if err != nil {
					failed = err
					return
				}
				copy(view, encoded)
				result, err := i.Process(ctx, batch)
				if err != nil {
					failed = err
					return
				}
				for result.Outputs.Next(&o) {
				}
			}
			call()
			call()
			if n := testing.AllocsPerRun(10, call); n != 0 || failed != nil {
				t.Errorf("%v allocations for a batch of %d records (%v)", n, count, failed)
			}
		})
	}
}

var buildLeaking = sync.OnceValues(func() ([]byte, error) {
	return build("leaking.wasm", "testdata/goguest", tinyGoCommand("leaking"))
})

// Without a collector, memory grows with each allocation: a guest whose memory
// stays as it is allocates nothing.
func TestTheSDKAllocatesNothingInTheGuest(t *testing.T) {
	wasm := built(t, buildLeaking)
	for _, mode := range []string{"identity", "headers"} {
		t.Run(mode, func(t *testing.T) {
			i := mustInstantiate(t, wasm, host.Limits{}, oneOutput(mode), nil)
			r := abi.Record{Key: []byte("k"), Value: bytes.Repeat([]byte("v"), 100),
				Headers: abi.AppendHeader(abi.AppendHeader(nil, "a", []byte("1")), "length", []byte("2")), HeaderCount: 2}
			records := make([]abi.Record, 1000)
			for n := range records {
				records[n] = r
			}
			call := func() {
				if _, _, err := run(t.Context(), i, host.Batch{}, records...); err != nil {
					t.Fatal(err)
				}
			}
			call()
			before := i.MemoryBytes()
			for range 100 {
				call()
			}
			if after := i.MemoryBytes(); after != before {
				t.Errorf("memory grew from %d to %d bytes in 100,000 records", before, after)
			}
		})
	}
}

func TestInstancesAreApart(t *testing.T) {
	wasm := built(t, buildGo)
	h := newHost(t, host.Options{CacheDir: cacheDir()})
	p, err := h.Compile(t.Context(), wasm, host.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for _, mode := range []string{"identity", "words", "identity", "words"} {
		group.Go(func() {
			i, err := p.Instantiate(t.Context(), oneOutput(mode), nil)
			if err != nil {
				t.Error(err)
				return
			}
			want := []string{"one two"}
			if mode == "words" {
				want = []string{"one", "two"}
			}
			for range 20 {
				outputs, _, err := run(t.Context(), i, host.Batch{}, value("one two"))
				if err != nil {
					t.Error(err)
					return
				}
				var got []string
				for _, o := range outputs {
					got = append(got, o.value)
				}
				if !reflect.DeepEqual(got, want) {
					t.Errorf("%s: got %q, want %q", mode, got, want)
				}
			}
			if err := i.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}
