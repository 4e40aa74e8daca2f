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

// The fixed parts have the layout of their structs, so one check of the bounds does for all fields.

// LoadRecordHeader reads the fixed part of the record at the beginning of b.
func LoadRecordHeader(b []byte) RecordHeader {
	_ = b[RecordHeaderBytes-1]
	return *(*RecordHeader)(unsafe.Pointer(unsafe.SliceData(b)))
}

// StoreOutput writes an entry to b, which is at least as long. It checks
// nothing: TinyGo keeps a list of the pointers of every function that could panic.
func StoreOutput(b []byte, h *OutputHeader, key, value, headers []byte) {
	p := unsafe.Pointer(unsafe.SliceData(b))
	*(*OutputHeader)(p) = *h
	p = move(unsafe.Add(p, OutputHeaderBytes), key)
	p = move(p, value)
	move(p, headers)
}

// Rest is b from at on, which is in it.
func Rest(b []byte, at int) []byte {
	n := uintptr(len(b) - at)
	s := slice{unsafe.Add(unsafe.Pointer(unsafe.SliceData(b)), at), n, n}
	return *(*[]byte)(unsafe.Pointer(&s))
}

// slice is a slice as both compilers lay it out.
type slice struct {
	data          unsafe.Pointer
	length, limit uintptr
}

// move copies src to dst and returns the address behind it. A copy of nothing costs a call all the same.
func move(dst unsafe.Pointer, src []byte) unsafe.Pointer {
	n := uintptr(len(src))
	if n == 0 {
		return dst
	}
	s := slice{dst, n, n}
	copy(*(*[]byte)(unsafe.Pointer(&s)), src)
	return unsafe.Add(dst, n)
}
