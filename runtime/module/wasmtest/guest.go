package wasmtest

import "github.com/millstream-io/millstream/sdk/abi"

// Guest describes a guest of the native ABI, version 1. Its zero value is a
// good guest that passes every record through; tests replace what they need.
//
// Areas lie at fixed addresses, AreaBytes each: setup at AreaBytes, input at 2
// * AreaBytes, output at 3 * AreaBytes. The page below AreaBytes is free for
// the test.
type Guest struct {
	Pages    uint32 // of memory; 0 = 64 (4 MiB)
	MaxPages int64  // 0 or less declares none

	// Bodies, without the final End; nil takes the good one. Each function's two
	// parameters (none for Initialize) are locals 0 and 1; locals 2 to 5 are i32,
	// 6 and 7 are i64.
	Initialize Code // () → ()
	Alloc      Code // (area, size) → i32
	Setup      Code // (address, size) → i64
	Process    Code // (address, size) → i64

	// Prepare, if set, runs first: it may add imports, globals, functions. LogImport
	// and FlushImport give the function indices of the host's functions, which are
	// always imported as 0 and 1.
	Prepare func(b *Builder)
}

// AreaBytes is the size of each area of a Guest.
const AreaBytes = 1 << 20

// Function indices of the host's functions in a Guest.
const (
	LogImport   = 0
	FlushImport = 1
)

// Builder returns the guest as a module under construction.
func (g Guest) Builder() *Builder {
	b := New()
	b.Import(abi.ImportModule, abi.ImportLog, []ValType{I32, I32, I32}, nil)
	b.Import(abi.ImportModule, abi.ImportFlush, []ValType{I32, I32}, nil)
	if g.Prepare != nil {
		g.Prepare(b)
	}
	pages := g.Pages
	if pages == 0 {
		pages = 64
	}
	maxPages := g.MaxPages
	if maxPages <= 0 {
		maxPages = -1
	}
	b.Memory(pages, maxPages)
	b.Export("memory", KindMemory, 0)

	scratch := []ValType{I32, I32, I32, I32, I64, I64}
	add := func(name string, params, results []ValType, body, good Code) {
		if body == nil {
			body = good
		}
		b.Export(name, KindFunc, b.Func(params, results, scratch, body))
	}
	two := []ValType{I32, I32}
	add("_initialize", nil, nil, g.Initialize, Code{})
	add(abi.ExportAlloc, two, []ValType{I32}, g.Alloc, FixedAreas())
	add(abi.ExportSetup, two, []ValType{I64}, g.Setup, Code{}.I64Const(0))
	add(abi.ExportProcess, two, []ValType{I64}, g.Process, Identity())
	return b
}

// Bytes returns the guest's module.
func (g Guest) Bytes() []byte { return g.Builder().Bytes() }

// FixedAreas is a body for Alloc: (area + 1) * AreaBytes, or 0 if size is over AreaBytes.
func FixedAreas() Code {
	return Code{}.
		LocalGet(1).I32Const(AreaBytes).Op(I32GtU).
		If(NoResult).I32Const(0).Return().End().
		LocalGet(0).I32Const(1).Op(I32Add).I32Const(20).Op(I32Shl)
}

// Identity is a body for Process that passes every record through to output 0.
// It uses locals 2 (source), 3 (destination), 4 (index) and 5 (size of the record).
func Identity() Code {
	const src, dst, i, size = 2, 3, 4, 5
	field := func(c Code, to, from uint32) Code {
		return c.LocalGet(dst).LocalGet(src).Mem(I32Load, from).Mem(I32Store, to)
	}
	c := Code{}.
		LocalGet(0).I32Const(abi.BatchHeaderBytes).Op(I32Add).LocalSet(src).
		I32Const((abi.AreaOutput+1)*AreaBytes).LocalSet(dst).
		Block(NoResult).Loop(NoResult).
		LocalGet(i).LocalGet(0).Mem(I32Load, 0).Op(I32GeU).BrIf(1).
		LocalGet(src).Mem(I32Load, 0).LocalSet(size)
	c = field(c, 0, 0) // size
	c = c.LocalGet(dst).I32Const(abi.KindRecord).Mem(I32Store, 4)
	c = c.LocalGet(dst).LocalGet(i).Mem(I32Store, 8)
	c = field(c, 12, 4)  // key length
	c = field(c, 16, 8)  // value length
	c = field(c, 20, 12) // header count
	c = c.LocalGet(dst).LocalGet(src).Mem(I64Load, 24).Mem(I64Store, 24)
	c = c.LocalGet(dst).I32Const(abi.OutputHeaderBytes).Op(I32Add).
		LocalGet(src).I32Const(abi.RecordHeaderBytes).Op(I32Add).
		LocalGet(size).I32Const(abi.RecordHeaderBytes).Op(I32Sub).
		MemoryCopy()
	c = c.LocalGet(src).LocalGet(size).Op(I32Add).LocalSet(src).
		LocalGet(dst).LocalGet(size).Op(I32Add).LocalSet(dst).
		LocalGet(i).I32Const(1).Op(I32Add).LocalSet(i).
		Br(0).End().End()
	return c.Append(PackedResult(Code{}.LocalGet(i),
		Code{}.LocalGet(dst).I32Const((abi.AreaOutput+1)*AreaBytes).Op(I32Sub)))
}

// PackedResult is the code of high<<32 | low, both i32, as Process and Setup return it.
func PackedResult(high, low Code) Code {
	return Code{}.Append(high).Op(I64ExtendI32).I64Const(32).Op(I64Shl).
		Append(low).Op(I64ExtendI32, I64Or)
}
