package hostile

import (
	"encoding/binary"

	"github.com/millstream-io/millstream/runtime/module/wasmtest"
)

// processing is a guest with this body before it says that it has handled two records.
func processing(body wasmtest.Code) []byte {
	return wasmtest.Guest{Process: body.Append(answer(2, 0))}.Bytes()
}

// runaways do not come to an end by themselves.
func runaways() []Module {
	wasi := func(name string, params int, results []wasmtest.ValType, body wasmtest.Code) []byte {
		return wasmtest.Guest{
			Prepare: func(b *wasmtest.Builder) { b.Import("wasi_snapshot_preview1", name, i32s(params), results) },
			Process: body,
		}.Bytes()
	}
	const function, fiveMiB = wasmtest.FlushImport + 1, 5 << 20
	errno := []wasmtest.ValType{wasmtest.I32}
	return []Module{
		{"endless loop", Stopped, processing(Forever(code()))},
		{"endless setup", Stopped, wasmtest.Guest{Setup: Forever(code())}.Bytes()},
		{"endless _initialize", Stopped, wasmtest.Guest{Initialize: Forever(code())}.Bytes()},
		{"endless alloc", Stopped, wasmtest.Guest{Alloc: Forever(code())}.Bytes()},
		{"recursion", Stopped, Recursive().Bytes()},
		{"2^60 calls", Stopped, Exponential(60).Bytes()},
		{"memory.grow", Stopped, processing(Forever(code().I32Const(1).MemoryGrow().Drop()))},
		{"memory.fill", Stopped, processing(Forever(code().I32Const(0).I32Const(0).I32Const(fiveMiB / 2).MemoryFill()))},
		{"memory.copy", Stopped, processing(Forever(code().I32Const(0).I32Const(1).I32Const(fiveMiB / 2).MemoryCopy()))},
		{"table.grow", Stopped, wasmtest.Guest{
			Prepare: func(b *wasmtest.Builder) { b.Table(1, 16384) },
			Process: Forever(code().RefNull(wasmtest.FuncRef).I32Const(1000).TableGrow().Drop()),
		}.Bytes()},
		{"log", Stopped, processing(Forever(code().I32Const(1).I32Const(0).I32Const(1000).Call(wasmtest.LogImport)))},
		{"log of the whole memory", Stopped, processing(Forever(code().I32Const(1).I32Const(0).I32Const(4 << 20).Call(wasmtest.LogImport)))},
		{"flush of nothing", Stopped, processing(Forever(code().I32Const(0).I32Const(0).Call(wasmtest.FlushImport)))},
		{"sched_yield", Stopped, wasi("sched_yield", 0, errno, Forever(code().Call(function).Drop()))},
		{"random_get of everything", Stopped, wasi("random_get", 2, errno, Forever(code().I32Const(0).I32Const(4<<20).Call(function).Drop()))},
		{"poll_oneoff for a year", Stopped, wasi("poll_oneoff", 4, errno,
			Forever(code().I32Const(0).I32Const(4096).I32Const(8).I32Const(64).Call(function).Drop()))},
		{"fd_write of everything", Stopped, withData(wasmtest.Guest{
			Prepare: func(b *wasmtest.Builder) { b.Import("wasi_snapshot_preview1", "fd_write", i32s(4), errno) },
			Process: Forever(code().I32Const(1).I32Const(0).I32Const(1).I32Const(64).Call(function).Drop()),
		}, 0, binary.LittleEndian.AppendUint32(make([]byte, 4), 4<<20)).Bytes()},
		{"trap in every call", Stopped, processing(unreachable())},
		{"exit in mid-batch", Stopped, wasi("proc_exit", 1, nil, code().I32Const(0).Call(function).Append(answer(2, 0)))},
	}
}

// Recursive calls itself for ever.
func Recursive() wasmtest.Guest {
	var f uint32
	return wasmtest.Guest{
		Prepare: func(b *wasmtest.Builder) {
			f = wasmtest.FlushImport + 1 // the first function that is not imported
			b.Func(nil, nil, nil, code().Call(f))
		},
		Process: code().Call(wasmtest.FlushImport + 1).Append(answer(2, 0)),
	}
}

// Exponential has no loop: each function calls the next one twice.
func Exponential(depth int) wasmtest.Guest {
	const first = wasmtest.FlushImport + 1
	return wasmtest.Guest{
		Prepare: func(b *wasmtest.Builder) {
			for n := range uint32(depth) {
				body := code().Call(first + n + 1).Call(first + n + 1)
				if n == uint32(depth)-1 {
					body = code()
				}
				b.Func(nil, nil, nil, body)
			}
		},
		Process: code().Call(first).Append(answer(2, 0)),
	}
}
