//go:build wasm

package flat

import "unsafe"

// Wasm is little endian and reads at any address; the compilers do not all see
// through four shifted bytes.

// Load32 reads the u32 at b[at].
func Load32(b []byte, at int) uint32 {
	_ = b[at+3]
	return *(*uint32)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(b)), at))
}

// Load64 reads the u64 at b[at].
func Load64(b []byte, at int) uint64 {
	_ = b[at+7]
	return *(*uint64)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(b)), at))
}

// Store32 writes the u32 at b[at].
func Store32(b []byte, at int, v uint32) {
	_ = b[at+3]
	*(*uint32)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(b)), at)) = v
}

// Store64 writes the u64 at b[at].
func Store64(b []byte, at int, v uint64) {
	_ = b[at+7]
	*(*uint64)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(b)), at)) = v
}
