package record

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

var codecs = []Codec{None, Gzip, Snappy, LZ4, Zstd}

type pair struct{ name, value []byte }

// entry is a record as a test wants it.
type entry struct {
	timestamp  int64
	key, value []byte
	headers    []pair
}

func build(codec Codec, entries []entry) []byte {
	var w Builder
	w.Reset(nil, codec)
	for _, e := range entries {
		var headers []byte
		for _, h := range e.headers {
			headers = AppendHeader(headers, h.name, h.value)
		}
		w.Append(e.timestamp, e.key, e.value, headers, len(e.headers))
	}
	return w.Finish()
}

// collect copies the records of a batch out.
func collect(b []byte, maxBytes int) ([]entry, []int64, error) {
	it, _, err := Iterate(b, nil, maxBytes)
	if err != nil {
		return nil, nil, err
	}
	var out []entry
	var offsets []int64
	var r Record
	for it.Next(&r) {
		e := entry{timestamp: r.Timestamp, key: bytes.Clone(r.Key), value: bytes.Clone(r.Value)}
		headers := IterateHeaders(&r)
		for name, value, ok := headers.Next(); ok; name, value, ok = headers.Next() {
			e.headers = append(e.headers, pair{bytes.Clone(name), bytes.Clone(value)})
		}
		if headers.Err() != nil {
			return nil, nil, headers.Err()
		}
		out = append(out, e)
		offsets = append(offsets, r.Offset)
	}
	return out, offsets, it.Err()
}

func same(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

func genBytes(t *rapid.T, label string) []byte {
	return rapid.OneOf(rapid.Just[[]byte](nil), rapid.Just([]byte{}), rapid.SliceOfN(rapid.Byte(), 1, 200)).Draw(t, label)
}

func genEntries(t *rapid.T) []entry {
	base := rapid.Int64Range(-1, 1<<41).Draw(t, "base")
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) entry {
		e := entry{timestamp: base + rapid.Int64Range(-10_000, 1<<33).Draw(t, "ts"), key: genBytes(t, "key"), value: genBytes(t, "value")}
		for range rapid.IntRange(0, 3).Draw(t, "headers") {
			e.headers = append(e.headers, pair{[]byte(rapid.String().Draw(t, "name")), genBytes(t, "header")})
		}
		return e
	}), 1, 40).Draw(t, "entries")
}

// TestAgainstKmsg compares what we build with what franz-go's decoder reads, and what it encodes with what we read.
func TestAgainstKmsg(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entries := genEntries(t)
		codec := rapid.SampledFrom(codecs).Draw(t, "codec")
		b := build(codec, entries)
		if err := CheckCRC(b); err != nil {
			t.Fatal(err)
		}
		var rb kmsg.RecordBatch
		if err := rb.ReadFrom(b); err != nil {
			t.Fatalf("kmsg does not read the batch: %v", err)
		}
		h, err := ParseHeader(b)
		if err != nil {
			t.Fatal(err)
		}
		want := Header{
			BaseOffset: rb.FirstOffset, Length: rb.Length, PartitionLeaderEpoch: rb.PartitionLeaderEpoch, Magic: rb.Magic,
			CRC: uint32(rb.CRC), Attributes: rb.Attributes, LastOffsetDelta: rb.LastOffsetDelta, BaseTimestamp: rb.FirstTimestamp,
			MaxTimestamp: rb.MaxTimestamp, ProducerID: rb.ProducerID, ProducerEpoch: rb.ProducerEpoch, BaseSequence: rb.FirstSequence, Count: rb.NumRecords,
		}
		if h != want {
			t.Fatalf("header %+v, kmsg reads %+v", h, want)
		}
		raw, err := kgo.DefaultDecompressor().Decompress(rb.Records, kgo.CompressionCodecType(codec))
		if err != nil {
			t.Fatalf("kgo does not decompress: %v", err)
		}
		for i, e := range entries {
			var r kmsg.Record
			if err := r.ReadFrom(raw); err != nil {
				t.Fatal(err)
			}
			raw = raw[varintBytes(int64(r.Length))+int(r.Length):]
			if int(r.OffsetDelta) != i || rb.FirstTimestamp+r.TimestampDelta64 != e.timestamp || !same(r.Key, e.key) || !same(r.Value, e.value) || len(r.Headers) != len(e.headers) {
				t.Fatalf("record %d: kmsg reads %+v, want %+v", i, r, e)
			}
			for j, header := range r.Headers {
				if header.Key != string(e.headers[j].name) || !same(header.Value, e.headers[j].value) {
					t.Fatalf("record %d header %d: %+v", i, j, header)
				}
			}
		}
		checkEntries(t, b, entries)
	})
}

func checkEntries(t interface{ Fatalf(string, ...any) }, b []byte, entries []entry) {
	got, offsets, err := collect(b, 1<<20)
	if err != nil {
		t.Fatalf("iterate: %v", err)
	}
	if len(got) != len(entries) {
		t.Fatalf("%d records, want %d", len(got), len(entries))
	}
	for i, e := range entries {
		g := got[i]
		if offsets[i] != int64(i) || g.timestamp != e.timestamp || !same(g.key, e.key) || !same(g.value, e.value) || len(g.headers) != len(e.headers) {
			t.Fatalf("record %d: %+v at offset %d, want %+v", i, g, offsets[i], e)
		}
		for j := range e.headers {
			if !bytes.Equal(g.headers[j].name, e.headers[j].name) || !same(g.headers[j].value, e.headers[j].value) {
				t.Fatalf("record %d header %d: %+v, want %+v", i, j, g.headers[j], e.headers[j])
			}
		}
	}
}

// TestReadsOtherCompressors reads what kgo compresses, and Java's framed snappy.
func TestReadsOtherCompressors(t *testing.T) {
	entries := sampleEntries(300, 100)
	plain := build(None, entries)
	raw := plain[HeaderBytes:]
	batch := func(codec Codec, records []byte) []byte {
		h, err := ParseHeader(plain)
		if err != nil {
			t.Fatal(err)
		}
		h.Attributes = int16(codec)
		h.Length = int32(HeaderBytes - LengthOverhead + len(records))
		b := make([]byte, HeaderBytes, HeaderBytes+len(records))
		h.put(b)
		b = append(b, records...)
		putCRC(b)
		return b
	}
	for _, codec := range codecs[1:] {
		compressors := []kgo.CompressionCodec{kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}
		c, err := kgo.DefaultCompressor(compressors[codec-1])
		if err != nil {
			t.Fatal(err)
		}
		out, used := c.Compress(&bytes.Buffer{}, raw)
		if used != kgo.CompressionCodecType(codec) {
			t.Fatalf("kgo compressed with %d", used)
		}
		t.Run("kgo/"+codec.String(), func(t *testing.T) { checkEntries(t, batch(codec, out), entries) })
	}
	t.Run("xerial", func(t *testing.T) {
		checkEntries(t, batch(Snappy, xerial(raw, 1000)), entries)
		framed := xerial(raw, 1000)
		for _, cut := range []int{17, 18, 40, len(framed) - 1} {
			if _, _, err := collect(batch(Snappy, framed[:cut]), 1<<20); !errors.Is(err, ErrCorrupt) {
				t.Errorf("cut at %d: %v, want ErrCorrupt", cut, err)
			}
		}
	})
}

func xerial(raw []byte, block int) []byte {
	out := append(xerialMagic[:], 0, 0, 0, 1, 0, 0, 0, 1)
	var c compressor
	for len(raw) > 0 {
		n := min(block, len(raw))
		b, _ := c.compress(nil, raw[:n], Snappy)
		out = append(out, byte(len(b)>>24), byte(len(b)>>16), byte(len(b)>>8), byte(len(b)))
		out = append(out, b...)
		raw = raw[n:]
	}
	return out
}

func sampleEntries(n, size int) []entry {
	rng := rand.New(rand.NewPCG(1, 2))
	out := make([]entry, n)
	for i := range out {
		v := make([]byte, size)
		for j := range v {
			v[j] = 'a' + byte(rng.UintN(26))
		}
		out[i] = entry{timestamp: 1_700_000_000_000 + int64(i), value: v}
	}
	return out
}

func TestParseHeaderRefuses(t *testing.T) {
	good := build(None, sampleEntries(3, 10))
	mutate := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(good)) }
	for _, c := range []struct {
		name string
		b    []byte
		want error
	}{
		{"empty", nil, ErrTruncated},
		{"header cut", good[:60], ErrTruncated},
		{"records cut", good[:len(good)-1], ErrTruncated},
		{"magic", mutate(func(b []byte) []byte { b[posMagic] = 1; return b }), ErrCorrupt},
		{"short length", mutate(func(b []byte) []byte { copy(b[posLength:], []byte{0, 0, 0, 48}); return b }), ErrCorrupt},
		{"negative length", mutate(func(b []byte) []byte { b[posLength] = 0x80; return b }), ErrCorrupt},
		{"negative count", mutate(func(b []byte) []byte { b[posCount] = 0x80; return b }), ErrCorrupt},
		{"more records than offsets", mutate(func(b []byte) []byte { b[posCount+3] = 4; return b }), ErrCorrupt},
		{"negative base offset", mutate(func(b []byte) []byte { b[0] = 0x80; return b }), ErrCorrupt},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := ParseHeader(c.b); !errors.Is(err, c.want) {
				t.Errorf("ParseHeader: %v, want %v", err, c.want)
			}
			if err := CheckCRC(c.b); !errors.Is(err, c.want) {
				t.Errorf("CheckCRC: %v, want %v", err, c.want)
			}
		})
	}
}

// TestEveryFlippedBitIsSeen: all bits but those of base offset, length and leader epoch are under the checksum.
func TestEveryFlippedBitIsSeen(t *testing.T) {
	good := build(None, sampleEntries(2, 20))
	for i := posMagic; i < len(good); i++ {
		for bit := range 8 {
			b := bytes.Clone(good)
			b[i] ^= 1 << bit
			if CheckCRC(b) == nil {
				t.Fatalf("bit %d of byte %d flipped, not seen", bit, i)
			}
		}
	}
}

func TestPutBaseKeepsChecksum(t *testing.T) {
	b := build(None, sampleEntries(3, 10))
	PutBase(b, 1<<40, 7)
	if err := CheckCRC(b); err != nil {
		t.Fatal(err)
	}
	h, _ := ParseHeader(b)
	if h.BaseOffset != 1<<40 || h.PartitionLeaderEpoch != 7 || h.LastOffset() != 1<<40+2 {
		t.Fatalf("%+v", h)
	}
}

func TestLogAppendTime(t *testing.T) {
	for _, codec := range codecs {
		b := build(codec, sampleEntries(3, 10))
		if err := SetLogAppendTime(b, 42); err != nil {
			t.Fatal(err)
		}
		if err := CheckCRC(b); err != nil {
			t.Fatal(err)
		}
		got, _, err := collect(b, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range got {
			if e.timestamp != 42 {
				t.Fatalf("%s: timestamp %d, want 42", codec, e.timestamp)
			}
		}
	}
}

func TestResetFromKeepsWhatReadersSee(t *testing.T) {
	b := build(Snappy, sampleEntries(5, 10))
	PutBase(b, 100, 3)
	h, err := ParseHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	it, _, err := Iterate(b, nil, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var w Builder
	w.ResetFrom(nil, h)
	var r Record
	for it.Next(&r) {
		if r.Offset%2 == 1 {
			w.AppendAt(&r)
		}
	}
	out := w.Finish()
	if err := CheckCRC(out); err != nil {
		t.Fatal(err)
	}
	got, offsets, err := collect(out, 1<<20)
	if err != nil || len(got) != 2 || offsets[0] != 101 || offsets[1] != 103 || got[1].timestamp != 1_700_000_000_003 {
		t.Fatalf("%v %v %v", got, offsets, err)
	}
	nh, _ := ParseHeader(out)
	if nh.BaseOffset != 100 || nh.LastOffset() != 104 || nh.PartitionLeaderEpoch != 3 || nh.MaxTimestamp != 1_700_000_000_003 || nh.BaseTimestamp != h.BaseTimestamp {
		t.Fatalf("header %+v", nh)
	}

	w.ResetFrom(out[:0], h)
	out = w.Finish()
	nh, err = ParseHeader(out)
	if err != nil || nh.Count != 0 || nh.LastOffset() != 104 || CheckCRC(out) != nil {
		t.Fatalf("emptied batch: %+v, %v", nh, err)
	}
	if got, _, err := collect(out, 1<<20); err != nil || len(got) != 0 {
		t.Fatalf("emptied batch holds %v, %v", got, err)
	}
}

func TestFinishWithoutRecords(t *testing.T) {
	var w Builder
	w.Reset([]byte("before"), LZ4)
	if out := w.Finish(); string(out) != "before" {
		t.Fatalf("%q", out)
	}
}

func TestProducerAndControl(t *testing.T) {
	var w Builder
	w.Reset(nil, None)
	w.SetProducer(9, 2, 17, true)
	w.SetControl()
	w.Append(5, []byte("k"), nil, nil, 0)
	h, err := ParseHeader(w.Finish())
	if err != nil || h.ProducerID != 9 || h.ProducerEpoch != 2 || h.BaseSequence != 17 || !h.Transactional() || !h.Control() {
		t.Fatalf("%+v %v", h, err)
	}
}

// TestBombs: what would decompress to more than the cap is refused without the memory being taken.
func TestBombs(t *testing.T) {
	zeros := make([]byte, 64<<20)
	for _, codec := range codecs[1:] {
		b := build(codec, []entry{{value: zeros}})
		if len(b) > 4<<20 {
			t.Fatalf("%s: the bomb has %d bytes", codec, len(b))
		}
		_, grown, err := Iterate(b, nil, 1<<20)
		if !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v, want ErrTooLarge", codec, err)
		}
		if cap(grown) > 3<<20 {
			t.Errorf("%s: scratch grew to %d bytes", codec, cap(grown))
		}
		if _, _, err := Iterate(b, nil, 0); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s, no bytes allowed: %v, want ErrTooLarge", codec, err)
		}
	}
	claim := append(build(None, sampleEntries(1, 1))[:HeaderBytes:HeaderBytes], 0xff, 0xff, 0xff, 0xff, 0x0f, 0)
	h, _ := ParsePrefix(claim)
	h.Attributes, h.Length = int16(Snappy), int32(len(claim)-LengthOverhead)
	h.put(claim)
	if _, grown, err := Iterate(claim, nil, math.MaxInt); !errors.Is(err, ErrCorrupt) || cap(grown) > 1<<20 {
		t.Errorf("six bytes that claim 4 GiB: %v, scratch %d", err, cap(grown))
	}
}

func TestNoAllocationPerRecord(t *testing.T) {
	entries := sampleEntries(100, 100)
	for i := range entries {
		entries[i].headers = []pair{{[]byte("h"), []byte("v")}}
	}
	for _, codec := range []Codec{None, Snappy, Zstd} {
		b := build(codec, entries)
		var scratch []byte
		var w Builder
		var out, header []byte
		header = AppendHeader(header, []byte("h"), []byte("v"))
		round := func() {
			it, grown, err := Iterate(b, scratch, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			scratch = grown
			w.Reset(out[:0], codec)
			var r Record
			for it.Next(&r) {
				headers := IterateHeaders(&r)
				for _, _, ok := headers.Next(); ok; _, _, ok = headers.Next() {
				}
				w.Append(r.Timestamp, r.Key, r.Value, header, 1)
			}
			out = w.Finish()
			if CheckCRC(out) != nil {
				t.Fatal("bad checksum")
			}
		}
		round()
		// A pool may be emptied at any time (under the race detector it often is), and a decompressor be made again.
		if n := testing.AllocsPerRun(50, round); n > 20 {
			t.Errorf("%s: %v allocations a batch of %d records", codec, n, len(entries))
		}
	}
}

// sameWalk walks a batch with and without the short path: both must see the same.
func sameWalk(t *testing.T, b []byte) {
	both, _, err := Iterate(b, nil, 1<<16)
	if err != nil {
		return
	}
	slow := both
	var r, s Record
	for {
		ok := both.Next(&r)
		if slow.nextAny(&s) != ok {
			t.Fatalf("the short path says %v at %+v", ok, s)
		}
		if !ok {
			break
		}
		if !same(r.Key, s.Key) || !same(r.Value, s.Value) || !bytes.Equal(r.Headers, s.Headers) || r.HeaderCount != s.HeaderCount || r.Offset != s.Offset || r.Timestamp != s.Timestamp {
			t.Fatalf("the short path reads %+v, the other %+v", r, s)
		}
	}
	if (both.Err() == nil) != (slow.Err() == nil) {
		t.Fatalf("the short path ends with %v, the other with %v", both.Err(), slow.Err())
	}
}

func FuzzBatch(f *testing.F) {
	for _, codec := range codecs {
		f.Add(build(codec, sampleEntries(3, 30)))
	}
	f.Add(build(None, []entry{{timestamp: -1, key: []byte{}, headers: []pair{{[]byte("a"), nil}}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, offsets, err := collect(b, 1<<16)
		_ = CheckCRC(b)
		sameWalk(t, b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTruncated) && !errors.Is(err, ErrTooLarge) {
				t.Fatalf("error of no family: %v", err)
			}
			return
		}
		h, err := ParseHeader(b)
		if err != nil || len(entries) != int(h.Count) {
			t.Fatalf("%d records of %d, %v", len(entries), h.Count, err)
		}
		if len(entries) > 0 && offsets[len(offsets)-1] > h.LastOffset() {
			t.Fatalf("offset %d after the last one %d", offsets[len(offsets)-1], h.LastOffset())
		}
		again, _, err := collect(build(None, entries), 1<<20)
		if err != nil || len(again) != len(entries) {
			t.Fatalf("round trip: %d of %d records, %v", len(again), len(entries), err)
		}
	})
}
