//go:build wasm

package transform

import "unsafe"

// The areas that the host writes to and reads from. They are global, so that
// the collector keeps them.
var (
	instance  guest
	setupArea []byte
	inputArea []byte
	message   []byte
)

const (
	areaSetup  = 0
	areaInput  = 1
	areaOutput = 2
)

//go:wasmexport millstream_v1_alloc
func wasmAlloc(area, size uint32) uint32 {
	// Words make it aligned.
	words := make([]uint64, (size+7)/8+1)
	b := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), size)
	switch area {
	case areaSetup:
		setupArea = b
	case areaInput:
		inputArea = b
	case areaOutput:
		instance.context.area = b
	default:
		return 0
	}
	return address(b)
}

//go:wasmexport millstream_v1_setup
func wasmSetup(_, size uint32) uint64 {
	instance.handlers = registered
	text := instance.setup(setupArea[:size])
	if text == "" {
		return 0
	}
	message = []byte(text)
	return uint64(address(message))<<32 | uint64(len(message))
}

//go:wasmexport millstream_v1_process
func wasmProcess(_, size uint32) uint64 {
	records, entries := instance.process(inputArea[:size])
	return uint64(records)<<32 | uint64(entries)
}

func address(b []byte) uint32 { return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }

//go:wasmimport millstream_v1 log
func wasmLog(level uint32, address unsafe.Pointer, size uint32)

//go:wasmimport millstream_v1 flush
func wasmFlush(address unsafe.Pointer, size uint32)

// port is the way to the host.
type port struct{}

func (port) log(level uint32, p []byte) {
	wasmLog(level, unsafe.Pointer(unsafe.SliceData(p)), uint32(len(p)))
}

func (port) flush(p []byte) { wasmFlush(unsafe.Pointer(unsafe.SliceData(p)), uint32(len(p))) }
