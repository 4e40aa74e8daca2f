package topic

import (
	"math/rand/v2"
	"testing"

	"github.com/millstream-io/millstream/broker/record"
)

// The short way over a record finds what the long way finds, or nothing.
func TestUsualRecordAgrees(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	sizes := []int{-1, 0, 1, 63, 64, 300, 8191, 8192, 20_000}
	field := func() []byte {
		n := sizes[random.IntN(len(sizes))]
		if n < 0 {
			return nil
		}
		return make([]byte, n)
	}
	usual, changed := 0, 0
	for range 20_000 {
		var w record.Builder
		w.Reset(nil, record.None)
		index := []int{0, 1, 63, 64, 8191, 8192}[random.IntN(6)]
		h := record.Header{LastOffsetDelta: int32(index), BaseTimestamp: 1000}
		w.ResetFrom(nil, h)
		var headers []byte
		count := random.IntN(3)
		for range count {
			headers = record.AppendHeader(headers, make([]byte, random.IntN(100)), field())
		}
		w.AppendAt(&record.Record{Offset: int64(index), Timestamp: 1000 + random.Int64N(1<<random.IntN(24)), Key: field(), Value: field(), Headers: headers, HeaderCount: count})
		b := w.Finish()[record.HeaderBytes:]
		if random.IntN(2) == 0 {
			b[random.IntN(min(len(b), 24))] = byte(random.Uint32())
			changed++
		}
		next, delta, keyless := usualRecord(b, 0, index)
		if next == 0 {
			continue
		}
		usual++
		length, from := varint(b, 0)
		if from < 0 || length < 0 || next != from+int(length) || next > len(b) {
			t.Fatalf("ends at %d, the length says %d behind %d", next, length, from)
		}
		wantDelta, wantKeyless, ok := plainRecord(b[from:next], index)
		if !ok || wantDelta != delta || wantKeyless != keyless {
			t.Fatalf("%x: delta %d, keyless %v; want %d, %v, %v", b[:min(len(b), 40)], delta, keyless, wantDelta, wantKeyless, ok)
		}
	}
	if usual < 5000 || changed < 5000 {
		t.Errorf("only %d records of the usual form, %d changed", usual, changed)
	}
}
