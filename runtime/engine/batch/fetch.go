// Package batch stands between record batches and the guest's flat form: it
// decodes batches into an engine.Fetch without making an object of a record, and
// knows in which partition a key belongs. Whatever bytes come in, what goes
// out are views within them or an error; nothing is kept but buffers for the next time.
package batch

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/sdk/abi"
)

// maxBatchBytes bounds what one batch may decompress to: far above what a
// producer's batch holds, far below what harms the process.
const maxBatchBytes = 128 << 20

// minRecordBytes is the smallest record: length, attributes, two deltas, two
// lengths and the header count, a byte each.
const minRecordBytes = 7

// retainPlainBytes is how large a buffer for decompressed records may stay between fetches.
const retainPlainBytes = 4 << 20

// Fetch is a run of records as views on the batches they were read in. It is
// used again and again: Begin, Append for each batch, End. It implements
// engine.Fetch. The batches must not change as long as the records are used.
type Fetch struct {
	records []record.Record // views on the batches and plain
	sizes   []int32         // of the records in the flat form
	stamps  []int64         // of the records
	plain   [][]byte        // decompressed batches, one buffer each
	used    int             // of plain
	bytes   int
	from    int64
	next    int64 // behind the fetch
	newest  int64
}

var _ engine.Fetch = (*Fetch)(nil)

// Begin empties the fetch; records below offset from will be left out.
func (f *Fetch) Begin(from int64) {
	f.records, f.sizes, f.stamps = f.records[:0], f.sizes[:0], f.stamps[:0]
	f.from, f.next, f.newest = from, from, 0
	f.used, f.bytes = 0, 0
	for i := range f.plain {
		if cap(f.plain[i]) > retainPlainBytes {
			f.plain[i] = nil
		}
	}
}

// Append adds the records of a whole batch, whose header is h. With an error, which wraps one of
// package record's, the fetch is as it was before.
func (f *Fetch) Append(batch []byte, h *record.Header) error {
	before, used := len(f.records), f.used
	if err := f.decode(batch, h); err != nil {
		f.records, f.sizes, f.stamps, f.used = f.records[:before], f.sizes[:before], f.stamps[:before], used
		return fmt.Errorf("batch at offset %d: %w", h.BaseOffset, err)
	}
	f.next = max(f.next, h.LastOffset()+1)
	f.newest = max(f.newest, h.MaxTimestamp)
	return nil
}

// End sets where to read on behind the fetch.
func (f *Fetch) End(next int64) { f.next = max(f.next, next) }

// Bytes tells how large the batches are so far, decompressed.
func (f *Fetch) Bytes() int { return f.bytes }

func (f *Fetch) decode(batch []byte, h *record.Header) error {
	if err := record.CheckCRC(batch); err != nil {
		return err
	}
	var scratch []byte
	compressed := h.Codec() != record.None
	if compressed {
		if f.used == len(f.plain) {
			f.plain = append(f.plain, nil)
		}
		scratch = f.plain[f.used]
	}
	it, scratch, err := record.Iterate(batch, scratch, maxBatchBytes)
	decoded := len(batch) - record.HeaderBytes
	if compressed {
		f.plain[f.used] = scratch
		f.used++
		decoded = len(scratch)
	}
	if err != nil {
		return err
	}
	if int(h.Count) > decoded/minRecordBytes {
		return fmt.Errorf("%w: %d records in %d bytes", record.ErrCorrupt, h.Count, decoded)
	}
	had, count := len(f.records), int(h.Count)
	f.records = slices.Grow(f.records, count)
	f.sizes = slices.Grow(f.sizes, count)
	f.stamps = slices.Grow(f.stamps, count)
	records, sizes, stamps := f.records[had:had+count], f.sizes[had:had+count], f.stamps[had:had+count]
	n := 0
	for n < len(records) && it.Next(&records[n]) {
		r := &records[n]
		if r.Offset < f.from {
			continue
		}
		size := abi.RecordHeaderBytes + len(r.Key) + len(r.Value)
		if r.HeaderCount > 0 {
			headers, err := flatHeaderBytes(r)
			if err != nil {
				return err
			}
			size += headers
		}
		sizes[n], stamps[n] = int32(size), r.Timestamp
		n++
	}
	f.records, f.sizes, f.stamps = f.records[:had+n], f.sizes[:had+n], f.stamps[:had+n]
	f.bytes += decoded
	return it.Err()
}

// flatHeaderBytes is how long the headers of r are in the flat form; it also proves that they are well formed.
func flatHeaderBytes(r *record.Record) (int, error) {
	size := 0
	it := record.IterateHeaders(r)
	for {
		name, value, ok := it.Next()
		if !ok {
			return size, it.Err()
		}
		size += abi.RecordHeaderEntryBytes + len(name) + len(value)
	}
}

// Len implements engine.Fetch.
func (f *Fetch) Len() int { return len(f.records) }

// NextOffset implements engine.Fetch.
func (f *Fetch) NextOffset(i int) int64 {
	if i == len(f.records)-1 {
		return f.next
	}
	return f.records[i].Offset + 1
}

// Timestamps implements engine.Fetch.
func (f *Fetch) Timestamps() []int64 { return f.stamps }

// MaxTimestamp implements engine.Fetch.
func (f *Fetch) MaxTimestamp() int64 { return f.newest }

// Record implements engine.Fetch.
func (f *Fetch) Record(i int) engine.Record {
	r := &f.records[i]
	v := engine.Record{Offset: r.Offset, Timestamp: r.Timestamp, Key: r.Key, Value: r.Value}
	if r.HeaderCount == 0 {
		return v
	}
	v.Headers = make([]engine.Header, 0, r.HeaderCount)
	for it := record.IterateHeaders(r); ; {
		name, value, ok := it.Next()
		if !ok {
			return v
		}
		v.Headers = append(v.Headers, engine.Header{Name: string(name), Value: value})
	}
}

// Encode implements engine.Fetch.
func (f *Fetch) Encode(dst []byte, first, most int) (size, n, need int) {
	last := len(f.records)
	if most < last-first {
		last = first + most
	}
	for i := first; i < last; i++ {
		recordBytes := int(f.sizes[i])
		if recordBytes > len(dst)-size {
			if n == 0 {
				need = recordBytes
			}
			break
		}
		putFlat(dst[size:size+recordBytes], &f.records[i])
		size += recordBytes
		n++
	}
	return size, n, need
}

// putFlat writes r in the flat form of package abi; dst is exactly as long as that is.
func putFlat(dst []byte, r *record.Record) {
	h := (*[abi.RecordHeaderBytes]byte)(dst)
	le := binary.LittleEndian
	keyLength, valueLength := int32(len(r.Key)), int32(len(r.Value))
	if r.Key == nil {
		keyLength = abi.Null
	}
	if r.Value == nil {
		valueLength = abi.Null
	}
	le.PutUint64(h[0:], uint64(len(dst))|uint64(uint32(keyLength))<<32)
	le.PutUint64(h[8:], uint64(uint32(valueLength))|uint64(r.HeaderCount)<<32)
	le.PutUint64(h[16:], uint64(r.Offset))
	le.PutUint64(h[24:], uint64(r.Timestamp))
	at := abi.RecordHeaderBytes
	if len(r.Key) > 0 {
		at += copy(dst[at:], r.Key)
	}
	at += copy(dst[at:], r.Value)
	if r.HeaderCount > 0 {
		dst = dst[at:at]
		for it := record.IterateHeaders(r); ; {
			name, value, ok := it.Next()
			if !ok {
				return
			}
			dst = abi.AppendHeader(dst, name, value)
		}
	}
}
