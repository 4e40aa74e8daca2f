package embedded

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/millstream-io/millstream/broker/vfs"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/sdk/abi"
	"golang.org/x/sys/unix"
)

// flatCopy walks flat input records as outputs: what an identity guest leaves behind.
type flatCopy struct {
	rest  []byte
	input int
}

// Next implements abi.Outputs.
func (c *flatCopy) Next(o *abi.Output) bool {
	if len(c.rest) == 0 {
		return false
	}
	le := binary.LittleEndian
	size, keyLength, valueLength := le.Uint32(c.rest), int32(le.Uint32(c.rest[4:])), int32(le.Uint32(c.rest[8:]))
	body := c.rest[abi.RecordHeaderBytes:size:size]
	o.Input, o.Index, o.Timestamp = c.input, 0, int64(le.Uint64(c.rest[24:]))
	o.Key, o.Value = nil, nil
	if keyLength >= 0 {
		o.Key, body = body[:keyLength], body[keyLength:]
	}
	if valueLength >= 0 {
		o.Value, body = body[:valueLength], body[valueLength:]
	}
	o.Headers, o.HeaderCount = body, int(le.Uint32(c.rest[12:]))
	c.rest = c.rest[size:]
	c.input++
	return true
}

// copier takes batches from a session's input to its output, without a guest.
type copier struct {
	s    engine.Session
	area []byte
	from flatCopy
	open bool
}

// step copies one fetch, commits and returns its records.
func (c *copier) step(ctx context.Context, maxBytes int) (int, error) {
	f, err := c.fill(ctx, maxBytes)
	if err != nil {
		return 0, err
	}
	c.open = false
	return f.Len(), c.s.Commit(ctx, f.NextOffset(f.Len()-1))
}

// fill copies one fetch without committing it.
func (c *copier) fill(ctx context.Context, maxBytes int) (engine.Fetch, error) {
	f, err := c.s.Poll(ctx, maxBytes)
	if err != nil {
		return nil, err
	}
	if !c.open {
		if err := c.s.Begin([]string{"out"}); err != nil {
			return nil, err
		}
		c.open = true
	}
	for first := 0; first < f.Len(); {
		size, n, need := f.Encode(c.area, first, f.Len())
		if n == 0 {
			c.area = make([]byte, need)
			continue
		}
		c.from.rest, c.from.input = c.area[:size], first
		if err := c.s.Produce(ctx, &c.from); err != nil {
			return nil, err
		}
		first += n
	}
	return f, nil
}

// startCopy fills topic "in" with batches of about 100 KiB and joins.
func startCopy(tb testing.TB, l *log, delivery engine.Delivery, valueBytes, records int, key []byte) (*copier, engine.Member) {
	tb.Helper()
	ctx := context.Background()
	for _, name := range []string{"in", "out"} {
		// The records are old, and a benchmark that reads them again and again must not lose them.
		if err := l.engine.EnsureTopic(ctx, name, 1, map[string]string{"retention.ms": "-1"}); err != nil {
			tb.Fatal(err)
		}
	}
	value := bytes.Repeat([]byte("x"), valueBytes)
	perBatch := max(1, 100<<10/(valueBytes+10))
	batch := make([]engine.Record, perBatch)
	for i := range batch {
		batch[i] = engine.Record{Timestamp: 1_700_000_000_000 + int64(i), Key: key, Value: value}
	}
	for done := 0; done < records; done += perBatch {
		l.produce(tb, "in", 0, "none", batch)
	}
	m, err := l.engine.Join(ctx, engine.Group{Name: "copy", Inputs: []string{"in"},
		Start: engine.Start{Kind: engine.StartEarliest}, Delivery: delivery})
	if err != nil {
		tb.Fatal(err)
	}
	for {
		sessions, err := m.Next(ctx)
		if err != nil {
			tb.Fatal(err)
		}
		if len(sessions) == 1 {
			return &copier{s: sessions[0], area: make([]byte, 256<<10)}, m
		}
	}
}

func cpuNanos() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		return 0
	}
	return t.Nano()
}

// BenchmarkCopy is the whole way of a record but for the guest: log → flat
// form → outputs → log, with offsets committed. One op is one record. Without
// sync the flushes do nothing, so that what a delivery costs itself can be compared.
func BenchmarkCopy(b *testing.B) {
	for _, sync := range []bool{false, true} {
		for name, delivery := range deliveries {
			for _, valueBytes := range []int{100, 1024} {
				for _, perCommit := range []int{1000, 100_000} {
					b.Run(fmt.Sprintf("sync=%v/delivery=%s/value=%d/commit=%d", sync, name, valueBytes, perCommit), func(b *testing.B) {
						benchmarkCopy(b, sync, delivery, valueBytes, perCommit)
					})
				}
			}
		}
	}
}

func benchmarkCopy(b *testing.B, sync bool, delivery engine.Delivery, valueBytes, perCommit int) {
	var fs vfs.FS = vfs.OS{}
	if !sync {
		fs = &vfs.Fault{FS: fs, Decide: func(op vfs.Op) error {
			if op.Kind == vfs.OpSync {
				return vfs.Ignore
			}
			return nil
		}}
	}
	l := openLog(b, fs, b.TempDir())
	defer l.close(b)
	records := 16 << 20 / valueBytes
	c, m := startCopy(b, l, delivery, valueBytes, records, nil)
	defer m.Leave(context.Background())
	b.SetBytes(int64(valueBytes))
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuNanos()
	uncommitted := 0
	for done, at := 0, 0; done < b.N; {
		if at >= records {
			c.s.SeekTo(0)
			at = 0
		}
		f, err := c.fill(b.Context(), 128<<10)
		if err != nil {
			b.Fatal(err)
		}
		done, at, uncommitted = done+f.Len(), at+f.Len(), uncommitted+f.Len()
		if uncommitted >= perCommit || done >= b.N {
			if err := c.s.Commit(b.Context(), f.NextOffset(f.Len()-1)); err != nil {
				b.Fatal(err)
			}
			uncommitted, c.open = 0, false
		}
	}
	b.ReportMetric(float64(cpuNanos()-before)/float64(b.N), "cpu-ns/op")
}

// BenchmarkEncode is the part from the stored batch to the guest's input area.
func BenchmarkEncode(b *testing.B) {
	for _, valueBytes := range []int{100, 1024} {
		b.Run(fmt.Sprintf("value=%d", valueBytes), func(b *testing.B) {
			records := make([]engine.Record, 100<<10/valueBytes)
			for i := range records {
				records[i] = engine.Record{Timestamp: 1, Value: make([]byte, valueBytes)}
			}
			var f fetch
			f.raw = batchOf("none", records)
			dst := make([]byte, 256<<10)
			b.ReportAllocs()
			for done := 0; done < b.N; done += len(records) {
				if err := f.load(0, 1<<20); err != nil {
					b.Fatal(err)
				}
				if _, n, _ := f.Encode(dst, 0, f.Len()); n != len(records) {
					b.Fatal(n)
				}
			}
		})
	}
}
