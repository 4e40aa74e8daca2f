//go:build !wasm

package flat

import "encoding/binary"

// Load32 reads the u32 at b[at].
func Load32(b []byte, at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }

// Load64 reads the u64 at b[at].
func Load64(b []byte, at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }

// Store32 writes the u32 at b[at].
func Store32(b []byte, at int, v uint32) { binary.LittleEndian.PutUint32(b[at:], v) }

// Store64 writes the u64 at b[at].
func Store64(b []byte, at int, v uint64) { binary.LittleEndian.PutUint64(b[at:], v) }

// LoadRecordHeader reads the fixed part of the record at the beginning of b.
func LoadRecordHeader(b []byte) RecordHeader {
	_ = b[RecordHeaderBytes-1]
	return RecordHeader{
		Size: Load32(b, 0), KeyLength: Load32(b, 4), ValueLength: Load32(b, 8), HeaderCount: Load32(b, 12),
		Offset: int64(Load64(b, 16)), Timestamp: int64(Load64(b, 24)),
	}
}

// StoreOutput writes an entry to b, which is at least as long.
func StoreOutput(b []byte, h *OutputHeader, key, value, headers []byte) {
	Store32(b, 0, h.Size)
	Store32(b, 4, h.KindFlagsOutput)
	Store32(b, 8, h.Index)
	Store32(b, 12, h.KeyLength)
	Store32(b, 16, h.ValueLength)
	Store32(b, 20, h.HeaderCount)
	Store64(b, 24, uint64(h.Timestamp))
	at := OutputHeaderBytes + copy(b[OutputHeaderBytes:], key)
	at += copy(b[at:], value)
	copy(b[at:], headers)
}

// Rest is b from at on, which is in it.
func Rest(b []byte, at int) []byte { return b[at:] }
