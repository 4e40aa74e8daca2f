package embedded

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/topic"
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

// fetch is a run of records as views on the batches they were read in. It is
// used again for each Poll, with all its buffers.
type fetch struct {
	raw     []byte                     // batches as read
	aborted []topic.AbortedTransaction // in raw
	records []record.Record            // views on raw and plain
	sizes   []int32                    // of the records in the flat form
	plain   [][]byte                   // decompressed batches, one buffer each
	next    int64                      // behind the fetch
	newest  int64
}

// load decodes the batches in f.raw from offset on. Batches behind one that
// is damaged are left out; if the damaged one is the first, that is the
// error. limitBytes is about how much may be decompressed.
func (f *fetch) load(offset int64, limitBytes int) error {
	f.records, f.sizes = f.records[:0], f.sizes[:0]
	f.next, f.newest = offset, 0
	for i := range f.plain {
		if cap(f.plain[i]) > retainPlainBytes {
			f.plain[i] = nil
		}
	}
	used, plainBytes := 0, 0
	for rest := f.raw; len(rest) > 0; {
		if plainBytes > limitBytes && len(f.records) > 0 {
			break
		}
		h, err := record.ParseHeader(rest)
		if err != nil {
			return f.stop(len(f.records), fmt.Errorf("batch at offset %d: %w", f.next, err))
		}
		batch := rest[:h.Size()]
		rest = rest[h.Size():]
		if !h.Control() && !f.isAborted(&h) {
			if h.Codec() != record.None && used == len(f.plain) {
				f.plain = append(f.plain, nil)
			}
			before := len(f.records)
			if err := f.loadBatch(batch, &h, used, offset); err != nil {
				return f.stop(before, fmt.Errorf("batch at offset %d: %w", h.BaseOffset, err))
			}
			if h.Codec() != record.None {
				plainBytes += len(f.plain[used])
				used++
			}
		}
		f.next = max(f.next, h.LastOffset()+1)
	}
	return nil
}

func (f *fetch) isAborted(h *record.Header) bool {
	return slices.ContainsFunc(f.aborted, func(a topic.AbortedTransaction) bool { return a.Has(h) })
}

// stop keeps the records before a damaged batch and reports it only if there are none.
func (f *fetch) stop(good int, err error) error {
	f.records, f.sizes = f.records[:good], f.sizes[:good]
	if good > 0 {
		return nil
	}
	return err
}

func (f *fetch) loadBatch(batch []byte, h *record.Header, plain int, offset int64) error {
	if err := record.CheckCRC(batch); err != nil {
		return err
	}
	var scratch []byte
	compressed := h.Codec() != record.None
	if compressed {
		scratch = f.plain[plain]
	}
	it, scratch, err := record.Iterate(batch, scratch, maxBatchBytes)
	if compressed {
		f.plain[plain] = scratch
	}
	if err != nil {
		return err
	}
	decoded := len(batch) - record.HeaderBytes
	if compressed {
		decoded = len(scratch)
	}
	if int(h.Count) > decoded/minRecordBytes {
		return fmt.Errorf("%w: %d records in %d bytes", record.ErrCorrupt, h.Count, decoded)
	}
	n := len(f.records)
	f.records = slices.Grow(f.records, int(h.Count))[:n+int(h.Count)]
	f.sizes = slices.Grow(f.sizes, int(h.Count))
	for n < len(f.records) && it.Next(&f.records[n]) {
		r := &f.records[n]
		if r.Offset >= offset {
			size := abi.RecordHeaderBytes + len(r.Key) + len(r.Value)
			if r.HeaderCount > 0 {
				headers, err := flatHeaderBytes(r)
				if err != nil {
					return err
				}
				size += headers
			}
			f.sizes = append(f.sizes, int32(size))
			n++
		}
	}
	f.records = f.records[:n]
	f.newest = max(f.newest, h.MaxTimestamp)
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
func (f *fetch) Len() int { return len(f.records) }

// NextOffset implements engine.Fetch.
func (f *fetch) NextOffset(i int) int64 {
	if i == len(f.records)-1 {
		return f.next
	}
	return f.records[i].Offset + 1
}

// Timestamp implements engine.Fetch.
func (f *fetch) Timestamp(i int) int64 { return f.records[i].Timestamp }

// MaxTimestamp implements engine.Fetch.
func (f *fetch) MaxTimestamp() int64 { return f.newest }

// Record implements engine.Fetch.
func (f *fetch) Record(i int) engine.Record { return viewOf(&f.records[i]) }

func viewOf(r *record.Record) engine.Record {
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
func (f *fetch) Encode(dst []byte, first, most int) (size, n, need int) {
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
	_ = dst[abi.RecordHeaderBytes-1]
	le := binary.LittleEndian
	le.PutUint32(dst[0:], uint32(len(dst)))
	keyLength, valueLength := int32(len(r.Key)), int32(len(r.Value))
	if r.Key == nil {
		keyLength = abi.Null
	}
	if r.Value == nil {
		valueLength = abi.Null
	}
	le.PutUint32(dst[4:], uint32(keyLength))
	le.PutUint32(dst[8:], uint32(valueLength))
	le.PutUint32(dst[12:], uint32(r.HeaderCount))
	le.PutUint64(dst[16:], uint64(r.Offset))
	le.PutUint64(dst[24:], uint64(r.Timestamp))
	at := abi.RecordHeaderBytes
	at += copy(dst[at:], r.Key)
	at += copy(dst[at:], r.Value)
	if r.HeaderCount > 0 {
		putFlatHeaders(dst[at:at], r)
	}
}

func putFlatHeaders(dst []byte, r *record.Record) {
	it := record.IterateHeaders(r)
	for {
		name, value, ok := it.Next()
		if !ok {
			return
		}
		dst = abi.AppendHeader(dst, name, value)
	}
}
