package host_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/sdk/abi"
)

// encodedBatch is sizeBytes of records with values of valueBytes.
func encodedBatch(sizeBytes, valueBytes int) (encoded []byte, count int) {
	r := abi.Record{Timestamp: 1_700_000_000_000, Value: bytes.Repeat([]byte("a"), valueBytes)}
	for len(encoded)+r.Size() <= sizeBytes {
		r.Offset = int64(count)
		encoded = abi.AppendRecord(encoded, &r)
		count++
	}
	return encoded, count
}

// roundTrip is what a worker does with a batch: copy it in, call, walk the outputs.
func roundTrip(b testing.TB, i *host.Instance, encoded []byte, batch host.Batch) host.Result {
	view, err := i.Input(b.Context(), len(encoded))
	if err != nil {
		b.Fatal(err)
	}
	copy(view, encoded)
	result, err := i.Process(b.Context(), batch)
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	var o abi.Output
	for result.Outputs.Next(&o) {
		n += len(o.Value)
	}
	if result.OutputCount != batch.Count || n == 0 {
		b.Fatalf("%d outputs of %d records, %d bytes", result.OutputCount, batch.Count, n)
	}
	return result
}

func benchBatch(encoded []byte, count int) host.Batch {
	return host.Batch{
		Count: count, SizeBytes: len(encoded), Now: time.UnixMilli(1_700_000_000_000),
		Timestamps: slices.Repeat([]int64{1_700_000_000_000}, count),
	}
}

func BenchmarkProcess(b *testing.B) {
	for _, guest := range []struct {
		name, mode string
		build      func() ([]byte, error)
	}{
		{"c/identity", "identity", buildC},
		{"c/upper", "upper", buildC},
		{"tinygo/identity", "identity", buildTinyGo},
		{"tinygo/headers", "headers", buildTinyGo},
		{"go/identity", "identity", buildGo},
	} {
		for _, size := range []struct {
			name              string
			valueBytes, batch int
		}{{"100B", 100, 128 << 10}, {"1KiB", 1 << 10, 128 << 10}} {
			b.Run(guest.name+"/"+size.name, func(b *testing.B) {
				i := mustInstantiate(b, built(b, guest.build), host.Limits{}, oneOutput(guest.mode), nil)
				encoded, count := encodedBatch(size.batch, size.valueBytes)
				batch := benchBatch(encoded, count)
				b.ReportAllocs()
				var fuel int64
				for b.Loop() {
					if guest.mode == "headers" {
						view, _ := i.Input(b.Context(), len(encoded))
						copy(view, encoded)
						r, err := i.Process(b.Context(), batch)
						if err != nil {
							b.Fatal(err)
						}
						fuel = r.Fuel
						continue
					}
					fuel = roundTrip(b, i, encoded, batch).Fuel
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(count), "ns/record")
				b.ReportMetric(float64(fuel)/float64(count), "fuel/record")
			})
		}
	}
}
