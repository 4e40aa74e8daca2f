// Package abi holds the constants of the native guest ABI, version 1, and the
// codec of its blocks, as SPEC.md in this directory defines them byte for
// byte. Hosts and tests use it; guests in Go have their own copy in
// sdk/go/transform, which depends on nothing.
//
// Parsers trust nothing: no input makes them panic, read outside their slice or
// allocate by a count that is merely claimed. Records and output entries are
// written and read without allocation; what parsers return are views.
package abi

import "math"

// Names of what a guest exports. Every guest also exports its memory as
// "memory" and, being a reactor, "_initialize".
const (
	// ExportAlloc (area i32, size i32) → i32: address of an area of at least
	// size bytes, 8-byte aligned, that stays valid until the next call for the
	// same area; 0 = refused. The areas must not overlap.
	ExportAlloc = "millstream_v1_alloc"
	// ExportSetup (address i32, size i32) → i64: takes the setup block; 0 = ready,
	// else address<<32 | length of a UTF-8 message that says why not.
	ExportSetup = "millstream_v1_setup"
	// ExportProcess (address i32, size i32) → i64: handles one batch block; the
	// result is records<<32 | output bytes, where records must equal the batch's
	// count and the output bytes lie at the start of the output area.
	ExportProcess = "millstream_v1_process"
)

// The import module and its functions.
const (
	ImportModule = "millstream_v1"
	// ImportLog (level i32, address i32, size i32): one log line, UTF-8.
	ImportLog = "log"
	// ImportFlush (address i32, size i32): hands over size bytes of whole output
	// entries, which the host copies before it returns. They may lie anywhere in
	// memory, so an entry larger than the output area can be built elsewhere.
	// Allowed only inside ExportProcess.
	ImportFlush = "flush"
)

// Areas for ExportAlloc.
const (
	AreaSetup  = 0
	AreaInput  = 1
	AreaOutput = 2
)

// Log levels for ImportLog.
const (
	LevelDebug = 0
	LevelInfo  = 1
	LevelWarn  = 2
	LevelError = 3
)

// Sizes of the fixed parts, in bytes. All integers are little endian.
const (
	// SetupHeaderBytes: size u32 (whole block), revision u32, deployment name length u32,
	// input count u32, output count u32, config count u32, asset count u32, reserved u32.
	SetupHeaderBytes = 32
	// BatchHeaderBytes: count u32, input u32, partition i32, flags u32, now i64 (ms),
	// seed u64, watermark i64 (ms, math.MinInt64 = unknown), reserved u64.
	BatchHeaderBytes = 48
	// RecordHeaderBytes: size u32 (whole record), key length i32 (-1 = null), value length i32
	// (-1 = null), header count u32, offset i64, timestamp i64 (ms); then key, value, headers.
	RecordHeaderBytes = 32
	// OutputHeaderBytes: size u32 (whole entry), kind u8, flags u8, output index u16, input index
	// u32, key length i32, value length i32, header count u32, timestamp i64; then key, value, headers.
	// A reject entry has the same header: value length and value are the reason, the rest is 0 and key length -1.
	OutputHeaderBytes = 32
	// Each record header: name length u32, value length i32 (-1 = null), name, value.
	RecordHeaderEntryBytes = 8
)

// Kinds of output entries.
const (
	KindRecord = 1
	// KindReject: the input failed; all outputs of the same input index in this
	// call are dropped. It is the last entry of its input.
	KindReject = 2
)

// Revision is the revision of ABI version 1 that the setup block names. A
// revision only adds: a guest ignores what it does not know.
const Revision = 1

// WatermarkUnknown is the watermark of a batch whose input has none.
const WatermarkUnknown = math.MinInt64

// FlagTimestamp says that an output sets its timestamp; without it the host takes the input's.
const FlagTimestamp = 1

// NoTimestamp is the Timestamp of an Output that sets none, before the host has
// filled in its input's.
const NoTimestamp = math.MinInt64
