package record

import (
	"fmt"
	"hash/crc32"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sys/unix"
)

// reportCPU adds the process's CPU time per record, which repeats better than
// wall time on a machine that is shared.
func reportCPU(b *testing.B) (stop func()) {
	clock := func() int64 {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts); err != nil {
			b.Fatal(err)
		}
		return ts.Nano()
	}
	start := clock()
	return func() { b.ReportMetric(float64(clock()-start)/float64(b.N), "cpu-ns/op") }
}

// BenchmarkCodecs compresses and decompresses batches of 200 records of 1 KiB; the time is per record.
func BenchmarkCodecs(b *testing.B) {
	const n = 200
	entries := sampleEntries(n, 1024)
	for _, codec := range codecs {
		batch := build(codec, entries)
		b.Run(fmt.Sprintf("op=build/codec=%s", codec), func(b *testing.B) {
			var w Builder
			var out []byte
			defer reportCPU(b)()
			for i := 0; i < b.N; i += n {
				w.Reset(out[:0], codec)
				for j := range entries {
					w.Append(entries[j].timestamp, nil, entries[j].value, nil, 0)
				}
				out = w.Finish()
			}
		})
		b.Run(fmt.Sprintf("op=iterate/codec=%s", codec), func(b *testing.B) {
			var scratch []byte
			var r Record
			defer reportCPU(b)()
			for i := 0; i < b.N; i += n {
				it, grown, err := Iterate(batch, scratch, 1<<20)
				if err != nil {
					b.Fatal(err)
				}
				for scratch = grown; it.Next(&r); {
				}
			}
		})
	}
}

// BenchmarkAgainstKmsg compares, within one run, walking and encoding a batch with franz-go's decoder and encoder.
func BenchmarkAgainstKmsg(b *testing.B) {
	const n = 1000
	entries := sampleEntries(n, 100)
	batch := build(None, entries)
	b.Run("decode/impl=kmsg", func(b *testing.B) {
		var r kmsg.Record
		defer reportCPU(b)()
		for i := 0; i < b.N; i += n {
			rest := batch[HeaderBytes:]
			for len(rest) > 0 {
				if err := r.UnsafeReadFrom(rest); err != nil {
					b.Fatal(err)
				}
				rest = rest[varintBytes(int64(r.Length))+int(r.Length):]
			}
		}
	})
	b.Run("decode/impl=ours", func(b *testing.B) {
		var r Record
		defer reportCPU(b)()
		for i := 0; i < b.N; i += n {
			it, _, err := Iterate(batch, nil, 0)
			if err != nil {
				b.Fatal(err)
			}
			for it.Next(&r) {
			}
		}
	})
	b.Run("encode/impl=kmsg", func(b *testing.B) {
		var out []byte
		defer reportCPU(b)()
		for i := 0; i < b.N; i += n {
			out = out[:0]
			for j := range entries {
				r := kmsg.Record{Value: entries[j].value, OffsetDelta: int32(j), TimestampDelta64: int64(j), Length: 107}
				out = r.AppendTo(out)
			}
			crc32.Checksum(out, castagnoli)
		}
	})
	b.Run("encode/impl=ours", func(b *testing.B) {
		var w Builder
		var out []byte
		defer reportCPU(b)()
		for i := 0; i < b.N; i += n {
			w.Reset(out[:0], None)
			for j := range entries {
				w.Append(entries[j].timestamp, entries[j].key, entries[j].value, nil, 0)
			}
			out = w.Finish()
		}
	})
}
