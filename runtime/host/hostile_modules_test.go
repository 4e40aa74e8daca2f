package host_test

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/millstream-io/millstream/runtime/module"
	"github.com/millstream-io/millstream/runtime/module/wasmtest"
	"github.com/millstream-io/millstream/sdk/abi"
)

func goodModule() []byte { return wasmtest.Guest{}.Bytes() }

// hostileModules is the corpus; what the pre-check alone refuses has more cases in package module.
func hostileModules() []hostile {
	var all []hostile
	all = append(all, malformedModules()...)
	all = append(all, bombs()...)
	all = append(all, strangeInterfaces()...)
	all = append(all, illTypedModules()...)
	all = append(all, runaways()...)
	return append(all, confusions()...)
}

// claiming is a module of a section of 2^32-1 entries in a few bytes.
func claiming(section byte) []byte {
	return append([]byte(wasmtest.Header), wasmtest.Section(section, wasmtest.Uint(1<<32-1))...)
}

func malformedModules() []hostile {
	good := goodModule()
	list := []hostile{
		{"nothing", refused, nil},
		{"one byte", refused, []byte{0}},
		{"text", refused, []byte("(module)")},
		{"gzip", refused, []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00")},
		{"component", refused, []byte("\x00asm\x0d\x00\x01\x00")},
		{"wasm64", refused, append([]byte(wasmtest.Header), wasmtest.Section(wasmtest.SectionMemory, []byte{1, 4, 1})...)},
		{"header alone", refused, []byte(wasmtest.Header)},
		{"half a module", refused, good[:len(good)/2]},
		{"module and rubbish", refused, append(bytes.Clone(good), "rubbish"...)},
		{"custom section of 4 GiB", refused, append([]byte(wasmtest.Header), append([]byte{0}, wasmtest.Uint(1<<32-1)...)...)},
		{"custom name of 4 GiB", refused, append([]byte(wasmtest.Header), wasmtest.Section(0, wasmtest.Uint(1<<32-1))...)},
		{"body longer than its section", refused, append([]byte(wasmtest.Header), wasmtest.Section(wasmtest.SectionCode, []byte{1, 0x7f})...)},
	}
	for _, section := range []byte{
		wasmtest.SectionType, wasmtest.SectionImport, wasmtest.SectionFunction, wasmtest.SectionTable, wasmtest.SectionMemory,
		wasmtest.SectionGlobal, wasmtest.SectionExport, wasmtest.SectionElement, wasmtest.SectionCode, wasmtest.SectionData,
	} {
		list = append(list, hostile{"section " + string('0'+section/10) + string('0'+section%10) + " claims 4 billion entries", refused, claiming(section)})
	}
	return list
}

// with is a good guest with something more in it.
func with(prepare func(b *wasmtest.Builder)) []byte { return wasmtest.Guest{Prepare: prepare}.Bytes() }

// function is a good guest with one more function, which nobody calls.
func function(locals int, body wasmtest.Code) []byte {
	return with(func(b *wasmtest.Builder) { b.Func([]wasmtest.ValType{wasmtest.I32}, nil, i32s(locals), body) })
}

func i32s(n int) []wasmtest.ValType {
	return slices.Repeat([]wasmtest.ValType{wasmtest.I32}, n)
}

func nest(depth int, open func(wasmtest.Code) wasmtest.Code) wasmtest.Code {
	c := code()
	for range depth {
		c = open(c)
	}
	return c.Repeat(depth, code().End())
}

// bombs are small, and take the compiler or the instance minutes or gigabytes.
func bombs() []hostile {
	block := func(c wasmtest.Code) wasmtest.Code { return c.Block(wasmtest.NoResult) }
	loop := func(c wasmtest.Code) wasmtest.Code { return c.Loop(wasmtest.NoResult) }
	ifs := func(n int) wasmtest.Code {
		return code().Repeat(n, code().LocalGet(0).If(wasmtest.NoResult).End())
	}
	many := func(n, locals int, body wasmtest.Code) []byte {
		return with(func(b *wasmtest.Builder) {
			for range n {
				b.Func([]wasmtest.ValType{wasmtest.I32}, nil, i32s(locals), body)
			}
		})
	}
	branches := func(targets int) wasmtest.Code { return code().LocalGet(0).BrTable(make([]uint32, targets+1)...) }
	return []hostile{
		{"100,000 nested blocks", refused, function(0, nest(100_000, block)[:128<<10-16])},
		{"1,025 nested blocks", refused, function(0, nest(1025, block))},
		{"1,000 nested loops of 2,000 locals", refused, function(2000, nest(1000, loop))},
		{"64 nested loops of 900 locals, 100 times", refused, many(100, 900, nest(64, loop))},
		{"1,000 ifs of 1,000 locals", refused, function(999, ifs(1000))},
		{"50 functions of 1,000 ifs of 256 locals", refused, many(50, 255, ifs(1000))},
		{"br_table of 20,000", refused, function(0, branches(20_000))},
		{"br_table of 4,096, 65 times", refused, many(65, 0, branches(4096))},
		{"100,000 functions", refused, many(100_000, 0, nil)},
		{"20,000 memory.fill in a row", refused, function(0, code().Repeat(20_000, code().LocalGet(0).LocalGet(0).LocalGet(0).MemoryFill()))},
		{"100 tables", refused, with(func(b *wasmtest.Builder) {
			for range 100 {
				b.Table(1<<27, -1)
			}
		})},
		{"table of 10 million", refused, with(func(b *wasmtest.Builder) { b.Table(10_000_000, -1) })},
		{"memory over its limit", refused, wasmtest.Guest{Pages: 1 << 14}.Bytes()},
		{"memory over the deployment's limit", refused, wasmtest.Guest{Pages: 8<<4 + 1}.Bytes()},
		{"custom section of 10 MiB", refused, with(func(b *wasmtest.Builder) { b.Custom("name", make([]byte, 10<<20)) })},
		{"10,000 custom sections", refused, append([]byte(wasmtest.Header), bytes.Repeat([]byte{0, 1, 0}, 10_000)...)},
	}
}

// strangeInterfaces import and export what is not in the ABI, or not so.
func strangeInterfaces() []hostile {
	export := func(name string, kind wasmtest.ExternKind, index uint32) []byte {
		b := wasmtest.Guest{}.Builder()
		b.Export(name, kind, index)
		return b.Bytes()
	}
	imports := func(from, name string, params, results []wasmtest.ValType) []byte {
		return with(func(b *wasmtest.Builder) { b.Import(from, name, params, results) })
	}
	i64 := []wasmtest.ValType{wasmtest.I64}
	return []hostile{
		{"start function", refused, func() []byte {
			b := wasmtest.Guest{}.Builder()
			b.Start(b.Func(nil, nil, nil, unreachable()))
			return b.Bytes()
		}()},
		{"export twice", refused, export("memory", wasmtest.KindMemory, 0)},
		{"export of the fuel", refused, export(module.FuelGlobal, wasmtest.KindFunc, 2)},
		{"import of the meter", refused, imports(module.MeterModule, module.MeterYield, nil, nil)},
		{"import under env", refused, imports("env", "system", nil, nil)},
		{"import of files", refused, imports("wasi_unstable", "path_open", nil, nil)},
		{"import of a memory", refused, with(func(b *wasmtest.Builder) { b.ImportRaw("env", "memory", []byte{2, 0, 1}) })},
		{"import of a table", refused, with(func(b *wasmtest.Builder) { b.ImportRaw("env", "table", []byte{1, 0x70, 0, 1}) })},
		{"import of a global", refused, with(func(b *wasmtest.Builder) { b.ImportRaw("env", "g", []byte{3, 0x7f, 0}) })},
		{"log with another type", refused, imports(abi.ImportModule, abi.ImportLog, i64, i64)},
		{"proc_exit with another type", refused, imports("wasi_snapshot_preview1", "proc_exit", i64, nil)},
		{"name that is no UTF-8", refused, imports("env\xff", "a", nil, nil)},
		{"no memory", refused, func() []byte {
			b := wasmtest.New()
			b.Export(abi.ExportProcess, wasmtest.KindFunc, b.Func(i32s(2), i64, nil, code().I64Const(0)))
			return b.Bytes()
		}()},
	}
}

// illTypedModules have the form of a module, but their code is not valid.
func illTypedModules() []hostile {
	return []hostile{
		{"pop from an empty stack", refused, function(0, code().Drop())},
		{"rest on the stack", refused, function(0, code().I32Const(1))},
		{"add of two types", refused, function(0, code().I32Const(1).I64Const(1).Op(wasmtest.I32Add).Drop())},
		{"local of another type", refused, function(0, code().I64Const(1).LocalSet(0))},
		{"write of a constant global", refused, with(func(b *wasmtest.Builder) {
			b.Global(wasmtest.I32, false, code().I32Const(0))
			b.Func(nil, nil, nil, code().I32Const(1).GlobalSet(0))
		})},
		{"call with too few arguments", refused, function(0, code().Call(wasmtest.LogImport))},
		{"call_indirect without a table", refused, function(0, code().LocalGet(0).CallIndirect(0))},
		{"alignment over the width", refused, function(0, code().LocalGet(0).Op(wasmtest.I32Load, 9, 0).Drop())},
		{"data segment at a global", refused, func() []byte {
			b := wasmtest.Guest{}.Builder()
			b.Raw(wasmtest.Section(wasmtest.SectionData, []byte{1, 0, 0x23, 0, 0x0b, 0}))
			return b.Bytes()
		}()},
		{"block type of 2^31", refused, function(0, code().Op(0x02).Append(wasmtest.Int(1<<31-1)).End())},
	}
}

// processing is a guest with this body before it says that it has handled two records.
func processing(body wasmtest.Code) []byte {
	return wasmtest.Guest{Process: body.Append(answer(2, 0))}.Bytes()
}

// runaways do not come to an end by themselves.
func runaways() []hostile {
	wasi := func(name string, params int, results []wasmtest.ValType, body wasmtest.Code) []byte {
		return wasmtest.Guest{
			Prepare: func(b *wasmtest.Builder) { b.Import("wasi_snapshot_preview1", name, i32s(params), results) },
			Process: body,
		}.Bytes()
	}
	const function, fiveMiB = wasmtest.FlushImport + 1, 5 << 20
	errno := []wasmtest.ValType{wasmtest.I32}
	return []hostile{
		{"endless loop", stopped, processing(forever(code()))},
		{"endless setup", stopped, wasmtest.Guest{Setup: forever(code())}.Bytes()},
		{"endless _initialize", stopped, wasmtest.Guest{Initialize: forever(code())}.Bytes()},
		{"endless alloc", stopped, wasmtest.Guest{Alloc: forever(code())}.Bytes()},
		{"recursion", stopped, recursive().Bytes()},
		{"2^60 calls", stopped, exponential(60).Bytes()},
		{"memory.grow", stopped, processing(forever(code().I32Const(1).MemoryGrow().Drop()))},
		{"memory.fill", stopped, processing(forever(code().I32Const(0).I32Const(0).I32Const(fiveMiB / 2).MemoryFill()))},
		{"memory.copy", stopped, processing(forever(code().I32Const(0).I32Const(1).I32Const(fiveMiB / 2).MemoryCopy()))},
		{"table.grow", stopped, wasmtest.Guest{
			Prepare: func(b *wasmtest.Builder) { b.Table(1, 16384) },
			Process: forever(code().RefNull(wasmtest.FuncRef).I32Const(1000).TableGrow().Drop()),
		}.Bytes()},
		{"log", stopped, processing(forever(code().I32Const(1).I32Const(0).I32Const(1000).Call(wasmtest.LogImport)))},
		{"log of the whole memory", stopped, processing(forever(code().I32Const(1).I32Const(0).I32Const(4 << 20).Call(wasmtest.LogImport)))},
		{"flush of nothing", stopped, processing(forever(code().I32Const(0).I32Const(0).Call(wasmtest.FlushImport)))},
		{"sched_yield", stopped, wasi("sched_yield", 0, errno, forever(code().Call(function).Drop()))},
		{"random_get of everything", stopped, wasi("random_get", 2, errno, forever(code().I32Const(0).I32Const(4<<20).Call(function).Drop()))},
		{"poll_oneoff for a year", stopped, wasi("poll_oneoff", 4, errno,
			forever(code().I32Const(0).I32Const(4096).I32Const(8).I32Const(64).Call(function).Drop()))},
		{"fd_write of everything", stopped, withData(wasmtest.Guest{
			Prepare: func(b *wasmtest.Builder) { b.Import("wasi_snapshot_preview1", "fd_write", i32s(4), errno) },
			Process: forever(code().I32Const(1).I32Const(0).I32Const(1).I32Const(64).Call(function).Drop()),
		}, 0, binary.LittleEndian.AppendUint32(make([]byte, 4), 4<<20)).Bytes()},
		{"trap in every call", stopped, processing(unreachable())},
		{"exit in mid-batch", stopped, wasi("proc_exit", 1, nil, code().I32Const(0).Call(function).Append(answer(2, 0)))},
	}
}

// confusions hand over addresses, sizes and types that are not what they seem.
func confusions() []hostile {
	alloc := func(body wasmtest.Code) []byte { return wasmtest.Guest{Alloc: body}.Bytes() }
	loads := func(address int32, offset uint32) []byte {
		return processing(code().I32Const(address).Mem(wasmtest.I32Load, offset).Drop())
	}
	flush := func(address, size int32) []byte {
		return processing(code().I32Const(address).I32Const(size).Call(wasmtest.FlushImport))
	}
	return []hostile{
		{"alloc of nothing", stopped, alloc(code().I32Const(0))},
		{"alloc outside", stopped, alloc(code().I32Const(1 << 30))},
		{"alloc at -8", stopped, alloc(code().I32Const(-8))},
		{"alloc of one place for all", stopped, alloc(code().I32Const(1 << 20))},
		{"alloc at an odd address", stopped, alloc(code().I32Const(1<<20 + 1))},
		{"alloc grows the memory", harmless, alloc(code().I32Const(1).MemoryGrow().Drop().Append(wasmtest.FixedAreas()))},
		{"memory grows in process", harmless, wasmtest.Guest{
			Process: code().I32Const(8).MemoryGrow().Drop().Append(wasmtest.Identity()),
		}.Bytes()},
		{"load at 4 GiB - 1", stopped, loads(-1, 0)},
		{"load at 8 GiB", stopped, loads(-1, 1<<32-1)},
		{"flush at -1", stopped, flush(-1, 1)},
		{"flush of 4 GiB", stopped, flush(0, -1)},
		{"flush of zeros", stopped, flush(0, 64)},
		{"log level -1", harmless, processing(code().I32Const(-1).I32Const(0).I32Const(3).Call(wasmtest.LogImport))},
		{"log of bytes that are no text", harmless, wasmtest.Guest{
			Prepare: func(b *wasmtest.Builder) { b.Data(0, []byte("\xff\xfe\x1b[2J\r\n\x00")) },
			Process: code().I32Const(1).I32Const(0).I32Const(10).Call(wasmtest.LogImport).Append(answer(2, 0)),
		}.Bytes()},
		{"answer of 4 billion records", stopped, wasmtest.Guest{Process: answer(-1, 0)}.Bytes()},
		{"answer of 4 GiB", stopped, wasmtest.Guest{Process: answer(2, -1)}.Bytes()},
		{"setup message outside", stopped, wasmtest.Guest{Setup: answer(-1, -1)}.Bytes()},
		{"call of a null function", stopped, indirect(1)},
		{"call of a function of another type", stopped, indirect(0)},
		{"call past the table", stopped, indirect(1 << 20)},
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
