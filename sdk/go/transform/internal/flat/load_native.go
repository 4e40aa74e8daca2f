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
