package batch

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/sdk/abi"
)

// batchOf is a batch of records with these values, from an offset on.
func batchOf(codec record.Codec, base int64, values ...string) []byte {
	var b record.Builder
	b.Reset(nil, codec)
	for i, v := range values {
		b.Append(int64(100+i), nil, []byte(v), nil, 0)
	}
	batch := b.Finish()
	record.PutBase(batch, base, 0)
	return batch
}

func add(t *testing.T, f *Fetch, batch []byte) error {
	t.Helper()
	h, err := record.ParseHeader(batch)
	if err != nil {
		t.Fatal(err)
	}
	return f.Append(batch, &h)
}

func TestFetchSpansBatches(t *testing.T) {
	var f Fetch
	for range 2 { // it is used again
		f.Begin(6)
		for _, batch := range [][]byte{batchOf(record.Gzip, 5, "five", "six"), batchOf(record.None, 9, "nine"), batchOf(record.Zstd, 10, "ten")} {
			if err := add(t, &f, batch); err != nil {
				t.Fatal(err)
			}
		}
		f.End(15)
		if f.Len() != 3 || string(f.Record(0).Value) != "six" || f.NextOffset(0) != 7 || f.NextOffset(1) != 10 || f.NextOffset(2) != 15 {
			t.Errorf("%d records, the first is %q, positions %d %d %d", f.Len(), f.Record(0).Value, f.NextOffset(0), f.NextOffset(1), f.NextOffset(2))
		}
		if f.MaxTimestamp() != 101 || f.Timestamps()[1] != 100 {
			t.Errorf("timestamps %d, %d", f.MaxTimestamp(), f.Timestamps()[1])
		}
	}
}

// TestDamagedBatch: what was appended before stays, the damaged batch adds nothing.
func TestDamagedBatch(t *testing.T) {
	var f Fetch
	f.Begin(0)
	if err := add(t, &f, batchOf(record.None, 0, "good")); err != nil {
		t.Fatal(err)
	}
	bad := batchOf(record.Gzip, 1, "bad", "worse")
	bad[len(bad)-3] ^= 1
	if err := add(t, &f, bad); !errors.Is(err, record.ErrCorrupt) {
		t.Errorf("the damaged batch gives %v", err)
	}
	lying := batchOf(record.None, 1, "one")
	binary.BigEndian.PutUint32(lying[57:], 1<<30)
	binary.BigEndian.PutUint32(lying[23:], 1<<30-1) // the last offset delta agrees
	binary.BigEndian.PutUint32(lying[17:], crc32.Checksum(lying[21:], crc32.MakeTable(crc32.Castagnoli)))
	if err := add(t, &f, lying); !errors.Is(err, record.ErrCorrupt) {
		t.Errorf("a batch that says it has a billion records gives %v", err)
	}
	if f.Len() != 1 || f.NextOffset(0) != 1 {
		t.Errorf("%d records up to %d, want the one before the damage", f.Len(), f.NextOffset(0))
	}
}

func TestFetchAllocatesNothingPerRecord(t *testing.T) {
	values := make([]string, 1000)
	for i := range values {
		values[i] = "a value"
	}
	batch := batchOf(record.None, 0, values...)
	var f Fetch
	dst := make([]byte, 1<<20)
	allocs := testing.AllocsPerRun(20, func() {
		f.Begin(0)
		if err := add(t, &f, batch); err != nil {
			t.Fatal(err)
		}
		if _, n, _ := f.Encode(dst, 0, f.Len()); n != len(values) {
			t.Fatalf("%d records were encoded", n)
		}
	})
	if allocs > 2 {
		t.Errorf("%.0f allocations for a thousand records", allocs)
	}
}

// FuzzAppend: whatever bytes a batch has, its records are views within them or an error.
func FuzzAppend(f *testing.F) {
	f.Add(batchOf(record.None, 0, "v", ""), int64(0))
	f.Add(batchOf(record.Snappy, 3, "v"), int64(4))
	f.Fuzz(func(t *testing.T, b []byte, from int64) {
		h, err := record.ParseHeader(b)
		if err != nil {
			return
		}
		b = b[:h.Size()]
		binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli))) // else every mutation ends here
		var x Fetch
		x.Begin(from)
		if x.Append(b, &h) != nil {
			if x.Len() != 0 || len(x.Timestamps()) != 0 {
				t.Fatalf("%d records and %d timestamps of a batch that was refused", x.Len(), len(x.Timestamps()))
			}
			return
		}
		for i, timestamp := range x.Timestamps() {
			if timestamp != x.Record(i).Timestamp {
				t.Fatalf("record %d of %d is of %d, its event time %d", i, x.Len(), x.Record(i).Timestamp, timestamp)
			}
		}
		dst := make([]byte, 1<<20)
		for first := 0; first < x.Len(); {
			size, n, need := x.Encode(dst, first, x.Len())
			if n == 0 {
				if need <= len(dst) {
					t.Fatalf("nothing was encoded, need %d of %d", need, len(dst))
				}
				return
			}
			for rest := dst[:size]; len(rest) > 0; {
				var r abi.Record
				used, err := abi.ReadRecord(rest, &r)
				if err != nil {
					t.Fatal(err)
				}
				rest = rest[used:]
			}
			first += n
		}
	})
}

// TestPartitionOf compares with the vectors of Kafka's own test (UtilsTest.testMurmur2).
func TestPartitionOf(t *testing.T) {
	for key, hash := range map[string]int32{"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "abc": 479470107} {
		if got, want := PartitionOf([]byte(key), 10), int(uint32(hash)&0x7fffffff)%10; got != want {
			t.Errorf("key %q goes to partition %d, want %d", key, got, want)
		}
	}
}
