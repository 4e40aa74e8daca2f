package topic

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/vfs"
)

// reseal makes the checksum right again.
func reseal(b []byte) []byte {
	binary.BigEndian.PutUint32(b[crcAt:], crc32.Checksum(b[attributesAt:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

func TestAppendRefuses(t *testing.T) {
	topics := open(t, vfs.NewMem())
	create(t, topics, "plain", 1, map[string]string{"max.message.bytes": "5000", "message.timestamp.before.max.ms": "3600000"})
	create(t, topics, "compacted", 1, map[string]string{"cleanup.policy": "compact"})
	now := time.Now().UnixMilli()
	set := func(at int, v ...byte) func([]byte) []byte {
		return func(b []byte) []byte { copy(b[at:], v); return reseal(b) }
	}
	const lastDeltaAt, countAt, producerAt = 23, 57, 43
	keyless := func() []byte {
		var b record.Builder
		b.Reset(nil, record.None)
		for i := range 4 {
			b.Append(now, [][]byte{nil, []byte("k")}[i%2], []byte("v"), nil, 0)
		}
		return b.Finish()
	}
	for _, c := range []struct {
		name, topic string
		change      func([]byte) []byte
		want        error
	}{
		{"as it should be", "plain", func(b []byte) []byte { return b }, nil},
		{"damaged", "plain", func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, record.ErrCorrupt},
		{"cut short", "plain", func(b []byte) []byte { return b[:len(b)-1] }, record.ErrTruncated},
		{"nothing", "plain", func([]byte) []byte { return nil }, record.ErrTruncated},
		{"two batches", "plain", func(b []byte) []byte { return append(b, b...) }, ErrInvalidBatch},
		{"bytes behind", "plain", func(b []byte) []byte { return append(b, 0) }, ErrInvalidBatch},
		{"no records", "plain", set(countAt, 0, 0, 0, 0), ErrInvalidBatch},
		{"count too high", "plain", func(b []byte) []byte { b[countAt+3]++; b[lastDeltaAt+3]++; return reseal(b) }, ErrInvalidBatch},
		{"count too low", "plain", func(b []byte) []byte { b[countAt+3]--; b[lastDeltaAt+3]--; return reseal(b) }, ErrInvalidBatch},
		{"count without end", "plain", set(countAt, 0x7f, 0xff, 0xff, 0xff), record.ErrCorrupt},
		{"last offset delta", "plain", set(lastDeltaAt+3, 9), ErrInvalidBatch},
		{"control bit", "plain", set(attributesAt+1, 0x20), ErrInvalidBatch},
		{"codec 7", "plain", set(attributesAt+1, 7), ErrInvalidBatch},
		{"codec that it is not", "plain", set(attributesAt+1, 1), ErrInvalidBatch},
		{"transactional without producer", "plain", set(attributesAt+1, 0x10), ErrInvalidBatch},
		{"producer without epoch", "plain", set(producerAt, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff), ErrInvalidBatch},
		{"offset delta of a record", "plain", set(record.HeaderBytes+3, 8), ErrInvalidBatch},
		{"length of a record", "plain", set(record.HeaderBytes, 0x7e), ErrInvalidBatch},
		{"negative length of a record", "plain", set(record.HeaderBytes, 1), ErrInvalidBatch},
		{"length of a key", "plain", set(record.HeaderBytes+4, 0x7e), ErrInvalidBatch},
		{"from the future", "plain", func([]byte) []byte { return batch(record.None, now, now+2*3600_000) }, ErrInvalidTimestamp},
		{"from the past", "plain", func([]byte) []byte { return batch(record.Gzip, now-2*3600_000, now) }, ErrInvalidTimestamp},
		{"without timestamp", "plain", func([]byte) []byte { return batch(record.None, -1) }, nil},
		{"too large", "plain", func([]byte) []byte { return fresh(1000) }, ErrMessageTooLarge},
		{"no keys", "compacted", func([]byte) []byte { return keyless() }, ErrInvalidBatch},
	} {
		p, err := topics.Partition(c.topic, 0)
		if err != nil {
			t.Fatal(err)
		}
		before := p.Offsets()
		_, err = p.Append(t.Context(), c.change(batch(record.None, now, now, now)), FromClient)
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if err != nil && p.Offsets() != before {
			t.Errorf("%s: the log went from %+v to %+v", c.name, before, p.Offsets())
		}
		var invalid *InvalidRecordsError
		if c.name == "no keys" && (!errors.As(err, &invalid) || len(invalid.Indexes) != 2 || invalid.Indexes[1] != 2) {
			t.Errorf("%s: records %+v", c.name, invalid)
		}
	}
}

func TestAppendTakesEveryCodec(t *testing.T) {
	p := create(t, open(t, vfs.NewMem()), "notes", 1, nil)
	now := time.Now().UnixMilli()
	for i, codec := range []record.Codec{record.None, record.Gzip, record.Snappy, record.LZ4, record.Zstd} {
		at, err := p.Append(t.Context(), batch(codec, now, now+1, now), FromClient)
		if err != nil || at.BaseOffset != int64(3*i) || at.LastOffset != int64(3*i+2) || !at.LogAppendTime.IsZero() {
			t.Errorf("codec %d: %+v, %v", codec, at, err)
		}
	}
}

// The topic's timestamp type decides, whatever the client's bit says, and the checksum is right.
func TestTimestampType(t *testing.T) {
	topics := open(t, vfs.NewMem())
	create(t, topics, "create", 1, nil)
	create(t, topics, "append", 1, map[string]string{ConfigTimestampType: "LogAppendTime"})
	for name, appendTime := range map[string]bool{"create": false, "append": true} {
		for _, from := range []Origin{FromClient, FromBroker} {
			p, err := topics.Partition(name, 0)
			if err != nil {
				t.Fatal(err)
			}
			sent := batch(record.Snappy, 1000, 5000, 3000)
			if from == FromClient { // a client that lies
				sent[attributesAt+1] |= timestampBit
				binary.BigEndian.PutUint64(sent[maxTimestampAt:], 77)
				reseal(sent)
			}
			at, err := p.Append(t.Context(), sent, from)
			if err != nil {
				t.Fatal(err)
			}
			b, err := p.Read(nil, ReadOptions{Offset: at.BaseOffset, MaxBytes: 1})
			if err != nil {
				t.Fatal(err)
			}
			h, err := record.ParseHeader(b)
			if err != nil || record.CheckCRC(b) != nil {
				t.Fatal(err, record.CheckCRC(b))
			}
			want := int64(5000)
			if appendTime {
				want = at.LogAppendTime.UnixMilli()
			}
			if h.LogAppendTime() != appendTime || h.MaxTimestamp != want || at.LogAppendTime.IsZero() == appendTime {
				t.Errorf("%s: bit %v, maximum %d, want %d", name, h.LogAppendTime(), h.MaxTimestamp, want)
			}
		}
	}
}

func TestPlainWalkDoesNotAllocate(t *testing.T) {
	c, s := newChecker(), &settings{maxMessageBytes: 1 << 20, afterMaxMillis: 1 << 40, beforeMaxMillis: 1 << 62}
	b := fresh(1000)
	if n := testing.AllocsPerRun(20, func() {
		if _, err := c.clientBatch(b, s, time.Now()); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for a batch", n)
	}
}

func BenchmarkCheck(b *testing.B) {
	c, s := newChecker(), &settings{maxMessageBytes: 1 << 20, afterMaxMillis: 1 << 40, beforeMaxMillis: 1 << 62}
	var w record.Builder
	w.Reset(nil, record.None)
	for range 1000 {
		w.Append(time.Now().UnixMilli(), nil, make([]byte, 100), nil, 0)
	}
	for name, batch := range map[string][]byte{"100 B": w.Finish(), "key, value, header": fresh(1000)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := c.clientBatch(batch, s, time.Now()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/record")
		})
	}
}

// Whatever a client sends is taken or refused; what is taken can be read by record's own iterator.
func FuzzClientBatch(f *testing.F) {
	for codec := record.None; codec <= record.Zstd; codec++ {
		f.Add(batch(codec, 1000, 2000))
	}
	c := newChecker()
	s := &settings{maxMessageBytes: 1 << 20, afterMaxMillis: 1 << 62, beforeMaxMillis: 1 << 62}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > record.HeaderBytes {
			reseal(b)
		}
		h, err := c.clientBatch(b, s, time.UnixMilli(10_000))
		if err != nil {
			return
		}
		it, _, err := record.Iterate(b, nil, maxUnpackedBytes)
		if err != nil {
			t.Fatalf("accepted, but: %v", err)
		}
		n := int32(0)
		for r := (record.Record{}); it.Next(&r); n++ {
			if r.Offset-h.BaseOffset != int64(n) || r.Timestamp > h.MaxTimestamp {
				t.Fatalf("record %d: %+v in %+v", n, r, h)
			}
		}
		if it.Err() != nil || n != h.Count {
			t.Fatalf("accepted %d records, %d can be read: %v", h.Count, n, it.Err())
		}
	})
}
