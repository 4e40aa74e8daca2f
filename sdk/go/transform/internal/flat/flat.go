// Package flat is the guest's side of the bytes of ABI version 1
// (sdk/abi/SPEC.md): sizes, names, and the fields of records and entries. It
// works on any byte slice, so that tests run natively what runs in a guest, and
// it allocates nothing.
package flat

// Sizes of the fixed parts, in bytes.
const (
	SetupHeaderBytes  = 32
	BatchHeaderBytes  = 48
	RecordHeaderBytes = 32
	OutputHeaderBytes = 32
	HeaderEntryBytes  = 8
)

// Kinds and flags of output entries.
const (
	KindRecord    = 1
	KindReject    = 2
	FlagTimestamp = 1
)

// Null is the length of a null key or value.
const Null = ^uint32(0)

// RecordHeader is the fixed part of a record.
type RecordHeader struct {
	Size, KeyLength, ValueLength, HeaderCount uint32
	Offset, Timestamp                         int64
}

// OutputHeader is the fixed part of an output entry.
type OutputHeader struct {
	Size, KindFlagsOutput, Index, KeyLength, ValueLength, HeaderCount uint32
	Timestamp                                                         int64
}

// Length is the length field of a key or value: nil is null.
func Length(p []byte) uint32 {
	if p == nil {
		return Null
	}
	return uint32(len(p))
}

// Take returns the part of b that begins at at and has the length of the field
// length, and where it ends. A null part is nil.
func Take(b []byte, at int, length uint32) (part []byte, end int) {
	if length == Null {
		return nil, at
	}
	end = at + int(length)
	return b[at:end:end], end
}
