package abi

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrMalformed marks bytes that are not what SPEC.md says.
var ErrMalformed = errors.New("malformed")

// Null is the length that stands for a null key or value.
const Null = -1

// BatchHeader is the fixed part of a batch block.
type BatchHeader struct {
	Count     int // records that follow
	Input     int // index of their topic in the setup block's inputs
	Partition int32
	Now       int64 // ms since the epoch; the only clock of the guest during the call
	Seed      uint64
	Watermark int64 // ms since the epoch, or WatermarkUnknown
}

// Put writes h into the first BatchHeaderBytes of dst.
func (h *BatchHeader) Put(dst []byte) {
	_ = dst[BatchHeaderBytes-1]
	le := binary.LittleEndian
	le.PutUint32(dst[0:], uint32(h.Count))
	le.PutUint32(dst[4:], uint32(h.Input))
	le.PutUint32(dst[8:], uint32(h.Partition))
	le.PutUint32(dst[12:], 0)
	le.PutUint64(dst[16:], uint64(h.Now))
	le.PutUint64(dst[24:], h.Seed)
	le.PutUint64(dst[32:], uint64(h.Watermark))
	le.PutUint64(dst[40:], 0)
}

// ParseBatchHeader reads the fixed part of a batch block. Errors: ErrMalformed.
func ParseBatchHeader(b []byte) (BatchHeader, error) {
	if len(b) < BatchHeaderBytes {
		return BatchHeader{}, fmt.Errorf("%w: batch block of %d bytes, its header alone has %d", ErrMalformed, len(b), BatchHeaderBytes)
	}
	le := binary.LittleEndian
	return BatchHeader{
		Count:     int(le.Uint32(b[0:])),
		Input:     int(le.Uint32(b[4:])),
		Partition: int32(le.Uint32(b[8:])),
		Now:       int64(le.Uint64(b[16:])),
		Seed:      le.Uint64(b[24:]),
		Watermark: int64(le.Uint64(b[32:])),
	}, nil
}

// Record is one input record; its slices are views. A nil key or value is null.
type Record struct {
	Offset    int64
	Timestamp int64 // ms since the epoch
	Key       []byte
	Value     []byte
	// Headers are HeaderCount headers in the flat form; see AppendHeader and NextHeader.
	Headers     []byte
	HeaderCount int
}

// Size returns the size of r in a batch block, in bytes.
func (r *Record) Size() int {
	return RecordHeaderBytes + len(r.Key) + len(r.Value) + len(r.Headers)
}

// AppendRecord appends r to dst. It allocates only if dst lacks the room.
func AppendRecord(dst []byte, r *Record) []byte {
	start := len(dst)
	dst = BeginRecord(dst, r.Key, r.Value, r.Offset, r.Timestamp)
	dst = append(dst, r.Headers...)
	EndRecord(dst, start, r.HeaderCount)
	return dst
}

// BeginRecord appends a record without headers to dst. The caller may then
// append headers with AppendHeader and must call EndRecord.
func BeginRecord(dst, key, value []byte, offset, timestamp int64) []byte {
	le := binary.LittleEndian
	var h [RecordHeaderBytes]byte
	le.PutUint32(h[4:], uint32(lengthOf(key)))
	le.PutUint32(h[8:], uint32(lengthOf(value)))
	le.PutUint64(h[16:], uint64(offset))
	le.PutUint64(h[24:], uint64(timestamp))
	dst = append(dst, h[:]...)
	dst = append(dst, key...)
	return append(dst, value...)
}

// EndRecord completes the record that begins at dst[start] and ends with dst.
func EndRecord(dst []byte, start, headerCount int) {
	r := dst[start:]
	binary.LittleEndian.PutUint32(r, uint32(len(r)))
	binary.LittleEndian.PutUint32(r[12:], uint32(headerCount))
}

// ReadRecord reads the record at the start of b and returns its size in bytes.
// Errors: ErrMalformed.
func ReadRecord(b []byte, r *Record) (size int, err error) {
	if len(b) < RecordHeaderBytes {
		return 0, fmt.Errorf("%w: %d bytes are left where a record's header has %d", ErrMalformed, len(b), RecordHeaderBytes)
	}
	le := binary.LittleEndian
	size = int(le.Uint32(b))
	if size < RecordHeaderBytes || size > len(b) {
		return 0, fmt.Errorf("%w: record says it has %d bytes, %d are left", ErrMalformed, size, len(b))
	}
	body := b[RecordHeaderBytes:size:size]
	keyLen, valueLen := int32(le.Uint32(b[4:])), int32(le.Uint32(b[8:]))
	key, value, headers, ok := splitBody(body, keyLen, valueLen)
	if !ok {
		return 0, fmt.Errorf("%w: key of %d and value of %d bytes in a record body of %d", ErrMalformed, keyLen, valueLen, len(body))
	}
	*r = Record{
		Offset:      int64(le.Uint64(b[16:])),
		Timestamp:   int64(le.Uint64(b[24:])),
		Key:         key,
		Value:       value,
		Headers:     headers,
		HeaderCount: int(le.Uint32(b[12:])),
	}
	if err := CheckHeaders(headers, r.HeaderCount); err != nil {
		return 0, err
	}
	return size, nil
}

// splitBody cuts key and value off the front of body; what is left are the headers.
func splitBody(body []byte, keyLen, valueLen int32) (key, value, headers []byte, ok bool) {
	k, v := max(int(keyLen), 0), max(int(valueLen), 0)
	if keyLen < Null || valueLen < Null || k+v > len(body) {
		return nil, nil, nil, false
	}
	if keyLen != Null {
		key = body[:k:k]
	}
	if valueLen != Null {
		value = body[k : k+v : k+v]
	}
	return key, value, body[k+v:], true
}

func lengthOf(b []byte) int32 {
	if b == nil {
		return Null
	}
	return int32(len(b))
}

// AppendHeader appends one header in the flat form to dst. A nil value is null.
func AppendHeader[S string | []byte](dst []byte, name S, value []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(name)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(lengthOf(value)))
	dst = append(dst, name...)
	return append(dst, value...)
}

// NextHeader takes the first header off flat, which must have passed
// CheckHeaders; ok is false when there is none. A nil value is null.
func NextHeader(flat []byte) (name, value, rest []byte, ok bool) {
	if len(flat) < RecordHeaderEntryBytes {
		return nil, nil, nil, false
	}
	nameLen := binary.LittleEndian.Uint32(flat)
	valueLen := int32(binary.LittleEndian.Uint32(flat[4:]))
	body := flat[RecordHeaderEntryBytes:]
	if uint64(nameLen) > uint64(len(body)) {
		return nil, nil, nil, false
	}
	name, body = body[:nameLen:nameLen], body[nameLen:]
	if valueLen == Null {
		return name, nil, body, true
	}
	if valueLen < 0 || int(valueLen) > len(body) {
		return nil, nil, nil, false
	}
	return name, body[:valueLen:valueLen], body[valueLen:], true
}

// CheckHeaders tells whether flat is exactly count headers. Errors: ErrMalformed.
func CheckHeaders(flat []byte, count int) error {
	left := flat
	for i := 0; i < count; i++ {
		_, _, rest, ok := NextHeader(left)
		if !ok {
			return fmt.Errorf("%w: header %d of %d does not fit into the %d bytes left", ErrMalformed, i, count, len(left))
		}
		left = rest
	}
	if len(left) != 0 {
		return fmt.Errorf("%w: %d bytes behind %d headers", ErrMalformed, len(left), count)
	}
	return nil
}
