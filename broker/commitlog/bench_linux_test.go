package commitlog

import (
	"fmt"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/segment"
	"github.com/millstream-io/millstream/broker/vfs"
)

// reportCPU adds the process's CPU time per operation, which repeats better
// than wall time on a machine that is shared.
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

// fill builds one batch of about size bytes of 100-byte values.
func fill(size int) []byte {
	var w record.Builder
	w.Reset(nil, record.None)
	value := make([]byte, 100)
	for i := range value {
		value[i] = 'a' + byte(i%26)
	}
	for w.SizeBytes() < size-110 {
		w.Append(1_700_000_000_000, nil, value, nil, 0)
	}
	return w.Finish()
}

func openBench(b *testing.B, c Config) *Log {
	b.Helper()
	l, err := Open(b.Context(), Options{FS: vfs.OS{}, Dir: b.TempDir() + "/log", Config: c})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Remove() })
	return l
}

// BenchmarkAppend appends to the page cache; impl=file is the bare write of the same bytes.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{4 << 10, 128 << 10, 256 << 10} {
		data := fill(size)
		b.Run(fmt.Sprintf("bytes=%d/impl=log", size), func(b *testing.B) {
			l := openBench(b, Config{SegmentBytes: 256 << 20})
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			defer reportCPU(b)()
			for b.Loop() {
				if _, err := l.Append(data, 0); err != nil {
					b.Fatal(err)
				}
				trim(b, l)
			}
		})
		b.Run(fmt.Sprintf("bytes=%d/impl=file", size), func(b *testing.B) {
			f, err := vfs.OS{}.Create(b.TempDir() + "/file")
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			b.SetBytes(int64(len(data)))
			at := int64(0)
			defer reportCPU(b)()
			for b.Loop() {
				if _, err := f.WriteAt(data, at); err != nil {
					b.Fatal(err)
				}
				if at += int64(len(data)); at > 256<<20 {
					f.Truncate(0)
					at = 0
				}
			}
		})
	}
}

// trim keeps the disk from filling up.
func trim(b *testing.B, l *Log) {
	if segments := *l.segments.Load(); len(segments) > 4 {
		l.SetConfig(Config{SegmentBytes: 256 << 20, DeleteDelay: 1})
		if err := l.AdvanceStart(segments[2].BaseOffset()); err != nil {
			b.Fatal(err)
		}
		if _, err := l.RemoveDropped(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRead reads a log of 64 MiB in a row from the page cache; impl=file is the bare read.
func BenchmarkRead(b *testing.B) {
	for _, batchBytes := range []int{4 << 10, 100 << 10} {
		data := fill(batchBytes)
		l := openBench(b, Config{})
		for l.SizeBytes() < 64<<20 {
			if _, err := l.Append(data, 0); err != nil {
				b.Fatal(err)
			}
		}
		end := l.Bounds().End
		for _, size := range []int{64 << 10, 256 << 10} {
			b.Run(fmt.Sprintf("batch=%d/bytes=%d/impl=log", batchBytes, size), func(b *testing.B) {
				buf := make([]byte, 0, 512<<10)
				b.ReportAllocs()
				offset, n := int64(0), int64(0)
				defer reportCPU(b)()
				for b.Loop() {
					out, err := l.Read(buf[:0], offset, size, end)
					if err != nil {
						b.Fatal(err)
					}
					n += int64(len(out))
					if offset = nextOffset(b, out); offset >= end {
						offset = 0
					}
				}
				b.SetBytes(n / int64(b.N))
			})
			b.Run(fmt.Sprintf("batch=%d/bytes=%d/impl=file", batchBytes, size), func(b *testing.B) {
				f, err := vfs.OS{}.Open(l.Dir() + "/" + segment.FileName(0, segment.LogSuffix))
				if err != nil {
					b.Fatal(err)
				}
				defer f.Close()
				buf := make([]byte, size)
				b.SetBytes(int64(size))
				at := int64(0)
				defer reportCPU(b)()
				for b.Loop() {
					if _, err := f.ReadAt(buf, at); err != nil {
						b.Fatal(err)
					}
					if at += int64(size); at+int64(size) > l.SizeBytes() {
						at = 0
					}
				}
			})
		}
	}
}

func nextOffset(b *testing.B, data []byte) int64 {
	for {
		h, err := record.ParseHeader(data)
		if err != nil {
			b.Fatal(err)
		}
		if data = data[h.Size():]; len(data) == 0 {
			return h.LastOffset() + 1
		}
	}
}

// BenchmarkGroupCommit appends 4 KiB and waits for the disk, from several goroutines at once.
func BenchmarkGroupCommit(b *testing.B) {
	for _, writers := range []int{1, 16} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			l := openBench(b, Config{})
			var wg sync.WaitGroup
			b.SetBytes(4 << 10)
			for w := range writers {
				wg.Go(func() {
					data := fill(4 << 10)
					for i := w; i < b.N; i += writers {
						a, err := l.Append(data, 0)
						if err == nil {
							err = l.WaitDurable(b.Context(), a.LastOffset+1)
						}
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}
