package hostile

import (
	"bytes"
	"math"

	"github.com/millstream-io/millstream/runtime/module/wasmtest"
	"github.com/millstream-io/millstream/sdk/abi"
)

const outputArea = (abi.AreaOutput + 1) * wasmtest.AreaBytes

// answering is a guest that has these entries in its output area and says that it has handled two records.
func answering(entries []byte) []byte {
	return withData(wasmtest.Guest{Process: answer(2, int32(len(entries)))}, outputArea, entries).Bytes()
}

// flushing is a guest that flushes these entries, however many, and says that it has handled two records.
func flushing(entries []byte) []byte {
	return withData(wasmtest.Guest{
		Process: code().I32Const(outputArea).I32Const(int32(len(entries))).Call(wasmtest.FlushImport).Append(answer(2, 0)),
	}, outputArea, entries).Bytes()
}

// flooding is a guest that flushes the entry without end.
func flooding(entry []byte) []byte {
	return withData(wasmtest.Guest{
		Process: Forever(code().I32Const(outputArea).I32Const(int32(len(entry))).Call(wasmtest.FlushImport)),
	}, outputArea, entry).Bytes()
}

func output(o abi.Output) []byte { return abi.AppendOutput(nil, &o, o.Timestamp != 0) }

// floods put out more than anybody wants, or what nobody can use.
func floods() []Module {
	var headers []byte
	const many = 10_000
	for range many {
		headers = abi.AppendHeader(headers, "\xff", nil)
	}
	odd := []byte("\xff\xfe\x00\x1b[2J{\"a\":")
	return []Module{
		{"outputs without end", Stopped, flooding(output(abi.Output{Value: []byte("v")}))},
		{"outputs of 900 KiB without end", Stopped, flooding(output(abi.Output{Value: make([]byte, 900<<10)}))},
		{"rejects without end", Stopped, flooding(abi.AppendReject(nil, 0, "no"))},
		{"reason of 900 KiB", Harmless, flushing(abi.AppendReject(nil, 0, string(bytes.Repeat([]byte("\xffno"), 300<<10))))},
		{"10,000 headers", Harmless, flushing(output(abi.Output{Headers: headers, HeaderCount: many}))},
		{"more headers than there are", Stopped, answering(output(abi.Output{Headers: headers[:8], HeaderCount: many}))},
		{"values that are no text", Harmless, answering(output(abi.Output{Key: odd, Value: odd}))},
		{"end of time", Harmless, answering(output(abi.Output{Timestamp: math.MaxInt64}))},
		{"time before 1970", Stopped, answering(output(abi.Output{Timestamp: -2}))},
		{"input that is not in the batch", Stopped, answering(output(abi.Output{Input: 2}))},
		{"output that does not exist", Stopped, answering(output(abi.Output{Index: 1}))},
	}
}

// trespassers call where they were not called from.
func trespassers() []Module {
	// Behind the two imports: _initialize, alloc, setup, process.
	const initialize, alloc, setup, process = wasmtest.FlushImport + 1, wasmtest.FlushImport + 2, wasmtest.FlushImport + 3, wasmtest.FlushImport + 4
	two := func(f uint32) wasmtest.Code { return code().LocalGet(0).LocalGet(1).Call(f) }
	exiting := func(g wasmtest.Guest) []byte {
		g.Prepare = func(b *wasmtest.Builder) { b.Import("wasi_snapshot_preview1", "proc_exit", i32s(1), nil) }
		return g.Bytes()
	}
	const exit = wasmtest.FlushImport + 1
	return []Module{
		{"alloc in alloc", Stopped, wasmtest.Guest{Alloc: two(alloc)}.Bytes()},
		{"process in alloc", Stopped, wasmtest.Guest{Alloc: two(process).Op(wasmtest.I32WrapI64)}.Bytes()},
		{"setup in process", Stopped, wasmtest.Guest{Setup: code().I64Const(0), Process: two(setup)}.Bytes()},
		{"_initialize in every call", Harmless, wasmtest.Guest{Process: code().Call(initialize).Append(answer(2, 0))}.Bytes()},
		{"exit in _initialize", Stopped, exiting(wasmtest.Guest{Initialize: code().I32Const(0).Call(exit)})},
		{"exit in alloc", Stopped, exiting(wasmtest.Guest{Alloc: code().I32Const(0).Call(exit).I32Const(0)})},
		{"flush in alloc", Stopped, wasmtest.Guest{Alloc: code().I32Const(0).I32Const(0).Call(wasmtest.FlushImport).Append(wasmtest.FixedAreas())}.Bytes()},
		{"memory that cannot grow asked for all there is", Harmless, processing(code().I32Const(-1).MemoryGrow().Drop())},
	}
}

// crowds have more of something than a module needs.
func crowds() []Module {
	each := func(n int, add func(b *wasmtest.Builder, i int)) []byte {
		return with(func(b *wasmtest.Builder) {
			for i := range n {
				add(b, i)
			}
		})
	}
	return []Module{
		{"1,001 types", Refused, each(1001, func(b *wasmtest.Builder, i int) { b.Type(i32s(i%32), i32s(i/32)) })},
		{"101 imports", Refused, each(101, func(b *wasmtest.Builder, _ int) { b.Import(abi.ImportModule, abi.ImportFlush, i32s(2), nil) })},
		{"1,001 globals", Refused, each(1001, func(b *wasmtest.Builder, _ int) { b.Global(wasmtest.I32, true, code().I32Const(0)) })},
		{"100,001 data segments", Refused, each(100_001, func(b *wasmtest.Builder, _ int) { b.Data(0, nil) })},
		{"elements past the table", Refused, with(func(b *wasmtest.Builder) { b.Table(1, 1); b.Elem(1, 0) })},
		{"data past the memory", Refused, with(func(b *wasmtest.Builder) { b.Data(64*64<<10-1, []byte("ab")) })},
		{"data at -1", Refused, with(func(b *wasmtest.Builder) { b.Data(-1, []byte("a")) })},
		{"2,001 bulk operations", Refused, function(0, code().Repeat(2001, code().LocalGet(0).LocalGet(0).LocalGet(0).MemoryCopy()))},
	}
}
