package embedded

import (
	"bytes"
	"context"
	"errors"
	"math"
	"testing"

	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/engine/batch"
	"github.com/millstream-io/millstream/sdk/abi"
)

// FuzzOutputs: whatever a guest leaves behind and the checker passes becomes batches that are whole, no larger than
// their topic allows, and hold just that.
func FuzzOutputs(f *testing.F) {
	var entries []byte
	for i, o := range []abi.Output{
		{Value: []byte("v")}, {Key: []byte("k"), Index: 1}, {Index: 1},
		{Input: 1, Timestamp: math.MaxInt64, Key: []byte{}, Value: bytes.Repeat([]byte("x"), 60), Headers: abi.AppendHeader(nil, "a", nil), HeaderCount: 1},
		{Input: 2, Value: bytes.Repeat([]byte("x"), 60)}, {Input: 2, Value: bytes.Repeat([]byte("y"), 60)}, {Input: 2, Value: bytes.Repeat([]byte("z"), 75)}, {Input: 3, Value: bytes.Repeat([]byte("x"), 500)},
	} {
		entries = abi.AppendOutput(entries, &o, i == 3)
	}
	f.Add(entries, int64(1), int64(1<<40))
	f.Add(abi.AppendReject(entries, 3, "no"), int64(-1), int64(math.MinInt64))
	f.Fuzz(func(t *testing.T, entries []byte, stamp, other int64) {
		var c abi.OutputChecker
		if c.Reset(4, 2); c.Check(entries) != nil {
			return
		}
		o := newOutputs(nil, 0, nil, nil)
		o.ahead = 8 << 20
		partitions := []*outputPartition{{}, {}, {}}
		o.byIndex = []*outputTopic{
			{name: "small", partitions: partitions[:2], unkeyed: partitions[0], maxMessageBytes: 200, fresh: true},
			{name: "compacted", partitions: partitions[2:], unkeyed: partitions[2], maxMessageBytes: 4 << 20, compact: true, fresh: true},
		}
		var it abi.OutputIterator
		it.Reset(entries, nil, c.Verdicts)
		it.Stamp([]int64{stamp, other, stamp}, 7)
		put := map[*outputPartition][]abi.Output{}
		for r := (abi.Output{}); it.Next(&r); {
			topic := o.byIndex[r.Index]
			p := topic.unkeyed
			if r.Key != nil {
				p = topic.keyed(r.Key)
			}
			switch err := o.add(context.Background(), &r); {
			case err == nil:
				put[p] = append(put[p], r)
			case errors.Is(err, engine.ErrTooLarge), topic.compact && r.Key == nil && errors.Is(err, engine.ErrInvalidRecord):
			default:
				t.Fatal(err)
			}
		}
		for i, p := range partitions {
			p.finish()
			wantOutputs(t, p.buffer, o.byIndex[i/2].maxMessageBytes, put[p])
		}
	})
}

// wantOutputs reads batches.
func wantOutputs(t *testing.T, batches []byte, maxMessageBytes int, want []abi.Output) {
	t.Helper()
	var got batch.Fetch
	got.Begin(0)
	for len(batches) > 0 {
		h, err := record.ParseHeader(batches)
		if err != nil {
			t.Fatal(err)
		}
		if h.Size() > maxMessageBytes {
			t.Errorf("a batch has %d bytes, the topic takes %d", h.Size(), maxMessageBytes)
		}
		if err := got.Append(batches[:h.Size()], &h); err != nil {
			t.Fatal(err)
		}
		batches = batches[h.Size():]
	}
	if got.Len() != len(want) || len(got.Timestamps()) != len(want) {
		t.Fatalf("%d records with %d timestamps were put out, want %d", got.Len(), len(got.Timestamps()), len(want))
	}
	for i, w := range want {
		r := got.Record(i)
		if !bytes.Equal(r.Key, w.Key) || (r.Key == nil) != (w.Key == nil) || !bytes.Equal(r.Value, w.Value) || (r.Value == nil) != (w.Value == nil) ||
			r.Timestamp != w.Timestamp || got.Timestamps()[i] != w.Timestamp || len(r.Headers) != w.HeaderCount {
			t.Errorf("record %d is %+v, want %+v", i, r, w)
		}
	}
}
