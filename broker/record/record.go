// Package record knows the bytes of one Kafka record batch, version 2 (the
// RecordBatch of the Kafka protocol's "Message format"): header, checksum,
// iteration, building, compression. It allocates nothing per record and
// never keeps a slice that it was given.
package record

import "errors"

// Sizes and limits of the format.
const (
	// HeaderBytes is the size of a batch header, up to and with the record count.
	HeaderBytes = 61
	// LengthOverhead is what the length field of a batch does not count: base offset and the length itself.
	LengthOverhead = 12
)

// Errors of this package are of the "bad bytes" family.
var (
	// ErrTruncated says that the buffer ends before the batch does.
	ErrTruncated = errors.New("record batch is cut short")
	// ErrCorrupt says that the bytes are no valid batch; it is wrapped with what is wrong.
	ErrCorrupt = errors.New("record batch is corrupt")
	// ErrTooLarge says that a batch decompresses to more than the caller's cap.
	ErrTooLarge = errors.New("record batch is too large")
)

// Codec is a compression type (bits 0-2 of the attributes).
type Codec int8

// The codecs of the Kafka protocol.
const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd
)

// Header is the decoded header of a batch.
type Header struct {
	BaseOffset           int64
	Length               int32 // bytes after the length field
	PartitionLeaderEpoch int32
	Magic                int8
	CRC                  uint32
	Attributes           int16
	LastOffsetDelta      int32
	BaseTimestamp        int64 // ms
	MaxTimestamp         int64 // ms
	ProducerID           int64
	ProducerEpoch        int16
	BaseSequence         int32
	Count                int32
}

// Size returns the bytes of the whole batch.
func (h *Header) Size() int { return int(h.Length) + LengthOverhead }

// LastOffset returns the offset of the last record.
func (h *Header) LastOffset() int64 { return h.BaseOffset + int64(h.LastOffsetDelta) }

// Codec returns the compression of the records.
func (h *Header) Codec() Codec { return Codec(h.Attributes & 7) }

// LogAppendTime reports whether timestamps are the broker's (attribute bit 3).
func (h *Header) LogAppendTime() bool { return h.Attributes&8 != 0 }

// Transactional reports attribute bit 4, Control bit 5.
func (h *Header) Transactional() bool { return h.Attributes&16 != 0 }

// Control reports whether the batch holds a transaction marker (attribute bit 5).
func (h *Header) Control() bool { return h.Attributes&32 != 0 }

// Record is a view on one record; its slices alias the batch. Nil and empty
// keys and values differ. Headers holds the encoded headers; HeaderIter walks them.
type Record struct {
	Offset      int64
	Timestamp   int64 // ms
	Key, Value  []byte
	Headers     []byte // encoded headers as in the batch, without their count
	HeaderCount int
}
