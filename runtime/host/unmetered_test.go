package host_test

import (
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/millstream-io/millstream/runtime/abi/native"
	"github.com/millstream-io/millstream/runtime/abi/wasi"
	"github.com/millstream-io/millstream/sdk/abi"
)

// BenchmarkUnmetered is BenchmarkProcess without fuel: what metering is measured against.
func BenchmarkUnmetered(b *testing.B) {
	for _, guest := range []struct {
		name, mode string
		build      func() ([]byte, error)
	}{
		{"c/identity", "identity", buildC},
		{"c/upper", "upper", buildC},
		{"tinygo/identity", "identity", buildTinyGo},
		{"go/identity", "identity", buildGo},
	} {
		for _, size := range []struct {
			name       string
			valueBytes int
		}{{"100B", 100}, {"1KiB", 1 << 10}} {
			b.Run(guest.name+"/"+size.name, func(b *testing.B) {
				benchUnmetered(b, built(b, guest.build), guest.mode, size.valueBytes)
			})
		}
	}
}

func benchUnmetered(b *testing.B, wasm []byte, mode string, valueBytes int) {
	ctx := b.Context()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler())
	defer r.Close(ctx)
	if err := native.Instantiate(ctx, r); err != nil {
		b.Fatal(err)
	}
	if err := wasi.Instantiate(ctx, r); err != nil {
		b.Fatal(err)
	}
	var guest native.Guest
	system := wasi.System{Write: func(int, []byte) {}, Charge: func(int64) {}}
	ctx = native.WithGuest(wasi.WithSystem(ctx, &system), &guest)
	m, err := r.InstantiateWithConfig(ctx, wasm, wazero.NewModuleConfig().WithName("").WithStartFunctions("_initialize"))
	if err != nil {
		b.Fatal(err)
	}
	if err := guest.Attach(m, native.Hooks{Log: func(uint32, []byte) {}, Charge: func(int64) {}}); err != nil {
		b.Fatal(err)
	}
	setup := oneOutput(mode)
	if _, err := guest.Setup(ctx, &setup); err != nil {
		b.Fatal(err)
	}
	encoded, count := encodedBatch(128<<10, valueBytes)
	var o abi.Output
	n := 0
	for b.Loop() {
		view, err := guest.Input(ctx, len(encoded))
		if err != nil {
			b.Fatal(err)
		}
		copy(view, encoded)
		if err := guest.Process(ctx, &abi.BatchHeader{Count: count}, len(encoded), 8<<20); err != nil {
			b.Fatal(err)
		}
		for outputs := abi.Outputs(guest.Outputs()); outputs.Next(&o); {
			n += len(o.Value)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(count), "ns/record")
}
