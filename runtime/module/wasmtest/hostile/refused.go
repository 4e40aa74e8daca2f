package hostile

import (
	"bytes"
	"slices"

	"github.com/millstream-io/millstream/runtime/module"
	"github.com/millstream-io/millstream/runtime/module/wasmtest"
	"github.com/millstream-io/millstream/sdk/abi"
)

// claiming is a module of a section of 2^32-1 entries in a few bytes.
func claiming(section byte) []byte {
	return append([]byte(wasmtest.Header), wasmtest.Section(section, wasmtest.Uint(1<<32-1))...)
}

func malformedModules() []Module {
	good := Good()
	list := []Module{
		{"nothing", Refused, nil},
		{"one byte", Refused, []byte{0}},
		{"text", Refused, []byte("(module)")},
		{"gzip", Refused, []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00")},
		{"component", Refused, []byte("\x00asm\x0d\x00\x01\x00")},
		{"wasm64", Refused, append([]byte(wasmtest.Header), wasmtest.Section(wasmtest.SectionMemory, []byte{1, 4, 1})...)},
		{"header alone", Refused, []byte(wasmtest.Header)},
		{"half a module", Refused, good[:len(good)/2]},
		{"module and rubbish", Refused, append(bytes.Clone(good), "rubbish"...)},
		{"custom section of 4 GiB", Refused, append([]byte(wasmtest.Header), append([]byte{0}, wasmtest.Uint(1<<32-1)...)...)},
		{"custom name of 4 GiB", Refused, append([]byte(wasmtest.Header), wasmtest.Section(0, wasmtest.Uint(1<<32-1))...)},
		{"body longer than its section", Refused, append([]byte(wasmtest.Header), wasmtest.Section(wasmtest.SectionCode, []byte{1, 0x7f})...)},
	}
	for _, section := range []byte{
		wasmtest.SectionType, wasmtest.SectionImport, wasmtest.SectionFunction, wasmtest.SectionTable, wasmtest.SectionMemory,
		wasmtest.SectionGlobal, wasmtest.SectionExport, wasmtest.SectionElement, wasmtest.SectionCode, wasmtest.SectionData,
	} {
		list = append(list, Module{"section " + string('0'+section/10) + string('0'+section%10) + " claims 4 billion entries", Refused, claiming(section)})
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
func bombs() []Module {
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
	return []Module{
		{"100,000 nested blocks", Refused, function(0, nest(100_000, block)[:128<<10-16])},
		{"1,025 nested blocks", Refused, function(0, nest(1025, block))},
		{"1,000 nested loops of 2,000 locals", Refused, function(2000, nest(1000, loop))},
		{"64 nested loops of 900 locals, 100 times", Refused, many(100, 900, nest(64, loop))},
		{"1,000 ifs of 1,000 locals", Refused, function(999, ifs(1000))},
		{"50 functions of 1,000 ifs of 256 locals", Refused, many(50, 255, ifs(1000))},
		{"br_table of 20,000", Refused, function(0, branches(20_000))},
		{"br_table of 4,096, 65 times", Refused, many(65, 0, branches(4096))},
		{"100,000 functions", Refused, many(100_000, 0, nil)},
		{"20,000 memory.fill in a row", Refused, function(0, code().Repeat(20_000, code().LocalGet(0).LocalGet(0).LocalGet(0).MemoryFill()))},
		{"100 tables", Refused, with(func(b *wasmtest.Builder) {
			for range 100 {
				b.Table(1<<27, -1)
			}
		})},
		{"table of 10 million", Refused, with(func(b *wasmtest.Builder) { b.Table(10_000_000, -1) })},
		{"memory over its limit", Refused, wasmtest.Guest{Pages: 1 << 14}.Bytes()},
		{"memory over the deployment's limit", Refused, wasmtest.Guest{Pages: 8<<4 + 1}.Bytes()},
		{"custom section of 10 MiB", Refused, with(func(b *wasmtest.Builder) { b.Custom("name", make([]byte, 10<<20)) })},
		{"10,000 custom sections", Refused, append([]byte(wasmtest.Header), bytes.Repeat([]byte{0, 1, 0}, 10_000)...)},
	}
}

// strangeInterfaces import and export what is not in the ABI, or not so.
func strangeInterfaces() []Module {
	export := func(name string, kind wasmtest.ExternKind, index uint32) []byte {
		b := wasmtest.Guest{}.Builder()
		b.Export(name, kind, index)
		return b.Bytes()
	}
	imports := func(from, name string, params, results []wasmtest.ValType) []byte {
		return with(func(b *wasmtest.Builder) { b.Import(from, name, params, results) })
	}
	i64 := []wasmtest.ValType{wasmtest.I64}
	return []Module{
		{"start function", Refused, func() []byte {
			b := wasmtest.Guest{}.Builder()
			b.Start(b.Func(nil, nil, nil, unreachable()))
			return b.Bytes()
		}()},
		{"export twice", Refused, export("memory", wasmtest.KindMemory, 0)},
		{"export of the fuel", Refused, export(module.FuelGlobal, wasmtest.KindFunc, 2)},
		{"import of the meter", Refused, imports(module.MeterModule, module.MeterYield, nil, nil)},
		{"import under env", Refused, imports("env", "system", nil, nil)},
		{"import of files", Refused, imports("wasi_unstable", "path_open", nil, nil)},
		{"import of a memory", Refused, with(func(b *wasmtest.Builder) { b.ImportRaw("env", "memory", []byte{2, 0, 1}) })},
		{"import of a table", Refused, with(func(b *wasmtest.Builder) { b.ImportRaw("env", "table", []byte{1, 0x70, 0, 1}) })},
		{"import of a global", Refused, with(func(b *wasmtest.Builder) { b.ImportRaw("env", "g", []byte{3, 0x7f, 0}) })},
		{"log with another type", Refused, imports(abi.ImportModule, abi.ImportLog, i64, i64)},
		{"proc_exit with another type", Refused, imports("wasi_snapshot_preview1", "proc_exit", i64, nil)},
		{"name that is no UTF-8", Refused, imports("env\xff", "a", nil, nil)},
		{"no memory", Refused, func() []byte {
			b := wasmtest.New()
			b.Export(abi.ExportProcess, wasmtest.KindFunc, b.Func(i32s(2), i64, nil, code().I64Const(0)))
			return b.Bytes()
		}()},
	}
}

// illTypedModules have the form of a module, but their code is not valid.
func illTypedModules() []Module {
	return []Module{
		{"pop from an empty stack", Refused, function(0, code().Drop())},
		{"rest on the stack", Refused, function(0, code().I32Const(1))},
		{"add of two types", Refused, function(0, code().I32Const(1).I64Const(1).Op(wasmtest.I32Add).Drop())},
		{"local of another type", Refused, function(0, code().I64Const(1).LocalSet(0))},
		{"write of a constant global", Refused, with(func(b *wasmtest.Builder) {
			b.Global(wasmtest.I32, false, code().I32Const(0))
			b.Func(nil, nil, nil, code().I32Const(1).GlobalSet(0))
		})},
		{"call with too few arguments", Refused, function(0, code().Call(wasmtest.LogImport))},
		{"call_indirect without a table", Refused, function(0, code().LocalGet(0).CallIndirect(0))},
		{"alignment over the width", Refused, function(0, code().LocalGet(0).Op(wasmtest.I32Load, 9, 0).Drop())},
		{"data segment at a global", Refused, func() []byte {
			b := wasmtest.Guest{}.Builder()
			b.Raw(wasmtest.Section(wasmtest.SectionData, []byte{1, 0, 0x23, 0, 0x0b, 0}))
			return b.Bytes()
		}()},
		{"block type of 2^31", Refused, function(0, code().Op(0x02).Append(wasmtest.Int(1<<31-1)).End())},
	}
}
