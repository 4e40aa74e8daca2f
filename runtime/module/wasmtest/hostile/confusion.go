package hostile

import (
	"github.com/millstream-io/millstream/runtime/module/wasmtest"
)

// confusions hand over addresses, sizes and types that are not what they seem.
func confusions() []Module {
	alloc := func(body wasmtest.Code) []byte { return wasmtest.Guest{Alloc: body}.Bytes() }
	loads := func(address int32, offset uint32) []byte {
		return processing(code().I32Const(address).Mem(wasmtest.I32Load, offset).Drop())
	}
	flush := func(address, size int32) []byte {
		return processing(code().I32Const(address).I32Const(size).Call(wasmtest.FlushImport))
	}
	return []Module{
		{"alloc of nothing", Stopped, alloc(code().I32Const(0))},
		{"alloc outside", Stopped, alloc(code().I32Const(1 << 30))},
		{"alloc at -8", Stopped, alloc(code().I32Const(-8))},
		{"alloc of one place for all", Stopped, alloc(code().I32Const(1 << 20))},
		{"alloc at an odd address", Stopped, alloc(code().I32Const(1<<20 + 1))},
		{"alloc grows the memory", Harmless, alloc(code().I32Const(1).MemoryGrow().Drop().Append(wasmtest.FixedAreas()))},
		{"memory grows in process", Harmless, wasmtest.Guest{
			Process: code().I32Const(8).MemoryGrow().Drop().Append(wasmtest.Identity()),
		}.Bytes()},
		{"load at 4 GiB - 1", Stopped, loads(-1, 0)},
		{"load at 8 GiB", Stopped, loads(-1, 1<<32-1)},
		{"flush at -1", Stopped, flush(-1, 1)},
		{"flush of 4 GiB", Stopped, flush(0, -1)},
		{"flush of zeros", Stopped, flush(0, 64)},
		{"log level -1", Harmless, processing(code().I32Const(-1).I32Const(0).I32Const(3).Call(wasmtest.LogImport))},
		{"log of bytes that are no text", Harmless, wasmtest.Guest{
			Prepare: func(b *wasmtest.Builder) { b.Data(0, []byte("\xff\xfe\x1b[2J\r\n\x00")) },
			Process: code().I32Const(1).I32Const(0).I32Const(10).Call(wasmtest.LogImport).Append(answer(2, 0)),
		}.Bytes()},
		{"answer of 4 billion records", Stopped, wasmtest.Guest{Process: answer(-1, 0)}.Bytes()},
		{"answer of 4 GiB", Stopped, wasmtest.Guest{Process: answer(2, -1)}.Bytes()},
		{"setup message outside", Stopped, wasmtest.Guest{Setup: answer(-1, -1)}.Bytes()},
		{"call of a null function", Stopped, indirect(1)},
		{"call of a function of another type", Stopped, indirect(0)},
		{"call past the table", Stopped, indirect(1 << 20)},
	}
}

// indirect calls entry n of a table whose entry 0 has another type and entry 1 is null.
func indirect(n int32) []byte {
	const noParameters = 2 // the third type, behind those of the host's functions
	return wasmtest.Guest{
		Prepare: func(b *wasmtest.Builder) {
			b.Type(nil, nil)
			b.Table(2, 2)
			b.Elem(0, b.Func([]wasmtest.ValType{wasmtest.I64}, nil, nil, nil))
		},
		Process: code().I32Const(n).CallIndirect(noParameters).Append(answer(2, 0)),
	}.Bytes()
}
