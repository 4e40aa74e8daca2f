package workertest

import (
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/sdk/abi"
)

type fetch struct {
	records []engine.Record
	next    int64 // behind all of it
}

// NewFetch returns records that ascend by offset, read up to next.
func NewFetch(records []engine.Record, next int64) engine.Fetch {
	return &fetch{records: records, next: next}
}

func (f *fetch) Len() int                   { return len(f.records) }
func (f *fetch) Record(i int) engine.Record { return f.records[i] }

func (f *fetch) NextOffset(i int) int64 {
	if i == len(f.records)-1 {
		return f.next
	}
	return f.records[i].Offset + 1
}

func (f *fetch) Timestamps() []int64 {
	timestamps := make([]int64, len(f.records))
	for i, r := range f.records {
		timestamps[i] = r.Timestamp
	}
	return timestamps
}

func (f *fetch) MaxTimestamp() int64 {
	newest := f.records[0].Timestamp
	for _, r := range f.records {
		newest = max(newest, r.Timestamp)
	}
	return newest
}

func (f *fetch) Encode(dst []byte, first, limit int) (size, n, need int) {
	for ; n < limit && first+n < len(f.records); n++ {
		r := f.records[first+n]
		flat := abi.Record{Offset: r.Offset, Timestamp: r.Timestamp, Key: r.Key, Value: r.Value, HeaderCount: len(r.Headers)}
		for _, h := range r.Headers {
			flat.Headers = abi.AppendHeader(flat.Headers, h.Name, h.Value)
		}
		if size+flat.Size() > len(dst) {
			return size, n, flat.Size()
		}
		abi.AppendRecord(dst[:size], &flat)
		size += flat.Size()
	}
	return size, n, 0
}
