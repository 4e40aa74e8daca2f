// Package wasmtest assembles WebAssembly modules from Go, so that tests need no
// binaries: valid guests of the native ABI, and hostile or malformed modules
// byte by byte.
//
// A Builder writes exactly what it is told and checks nothing; that is its use.
// Function indices count imports first, so every Import comes before the first
// Func. A Builder belongs to one goroutine.
package wasmtest

import "encoding/binary"

// ValType is a value type in its binary form.
type ValType byte

// The value types of core WebAssembly 2.0.
const (
	I32       ValType = 0x7f
	I64       ValType = 0x7e
	F32       ValType = 0x7d
	F64       ValType = 0x7c
	V128      ValType = 0x7b
	FuncRef   ValType = 0x70
	ExternRef ValType = 0x6f
)

// ExternKind is the kind of an import or export.
type ExternKind byte

// The kinds of imports and exports.
const (
	KindFunc   ExternKind = 0
	KindTable  ExternKind = 1
	KindMemory ExternKind = 2
	KindGlobal ExternKind = 3
)

// Section ids, in the order of core 2.0 (DataCount stands before Code).
const (
	SectionCustom    = 0
	SectionType      = 1
	SectionImport    = 2
	SectionFunction  = 3
	SectionTable     = 4
	SectionMemory    = 5
	SectionGlobal    = 6
	SectionExport    = 7
	SectionStart     = 8
	SectionElement   = 9
	SectionCode      = 10
	SectionData      = 11
	SectionDataCount = 12
)

// Header is the magic number and version of a core module.
const Header = "\x00asm\x01\x00\x00\x00"

// Builder collects the sections of one module.
type Builder struct {
	entries map[byte][][]byte
	// raw sections are written after the regular ones, as they were given.
	raw       []byte
	customs   []byte
	imported  uint32
	defined   uint32
	start     []byte
	dataCount bool
}

// New returns an empty module.
func New() *Builder { return &Builder{entries: make(map[byte][][]byte)} }

func (b *Builder) add(section byte, entry []byte) uint32 {
	b.entries[section] = append(b.entries[section], entry)
	return uint32(len(b.entries[section]) - 1)
}

// Type returns the index of the function type, which it adds unless the module has it.
func (b *Builder) Type(params, results []ValType) uint32 {
	entry := FuncType(params, results)
	for i, e := range b.entries[SectionType] {
		if string(e) == string(entry) {
			return uint32(i)
		}
	}
	return b.add(SectionType, entry)
}

// Import adds an imported function and returns its function index.
func (b *Builder) Import(module, name string, params, results []ValType) uint32 {
	desc := append([]byte{byte(KindFunc)}, Uint(uint64(b.Type(params, results)))...)
	b.ImportRaw(module, name, desc)
	b.imported++
	return b.imported - 1
}

// ImportRaw adds an import with the given description (kind and what follows it).
// It does not count as a function.
func (b *Builder) ImportRaw(module, name string, desc []byte) {
	b.add(SectionImport, append(append(Name(module), Name(name)...), desc...))
}

// Func adds a function and returns its index. The body needs no final End.
func (b *Builder) Func(params, results, locals []ValType, body Code) uint32 {
	b.add(SectionFunction, Uint(uint64(b.Type(params, results))))
	b.add(SectionCode, Body(locals, body))
	b.defined++
	return b.imported + b.defined - 1
}

// Memory adds a memory of min pages of 64 KiB; max < 0 declares none.
func (b *Builder) Memory(min uint32, max int64) {
	b.add(SectionMemory, Limits(min, max))
}

// Table adds a table of function references and returns its index; max < 0 declares none.
func (b *Builder) Table(min uint32, max int64) uint32 {
	return b.add(SectionTable, append([]byte{byte(FuncRef)}, Limits(min, max)...))
}

// Global adds a global and returns its index. init is a constant expression without its End.
func (b *Builder) Global(t ValType, mutable bool, init Code) uint32 {
	entry := []byte{byte(t), 0}
	if mutable {
		entry[1] = 1
	}
	return b.add(SectionGlobal, append(append(entry, init...), opEnd))
}

// Export adds an export.
func (b *Builder) Export(name string, kind ExternKind, index uint32) {
	b.add(SectionExport, append(append(Name(name), byte(kind)), Uint(uint64(index))...))
}

// Elem adds an active segment of functions to table 0 at offset and returns its index.
func (b *Builder) Elem(offset int32, funcs ...uint32) uint32 {
	entry := append([]byte{0}, Code{}.I32Const(offset).End()...)
	entry = append(entry, Uint(uint64(len(funcs)))...)
	for _, f := range funcs {
		entry = append(entry, Uint(uint64(f))...)
	}
	return b.ElemRaw(entry)
}

// ElemRaw adds an element segment, flag byte first, and returns its index.
func (b *Builder) ElemRaw(entry []byte) uint32 { return b.add(SectionElement, entry) }

// Data adds an active data segment at offset and returns its index.
func (b *Builder) Data(offset int32, content []byte) uint32 {
	entry := append([]byte{0}, Code{}.I32Const(offset).End()...)
	entry = append(entry, Uint(uint64(len(content)))...)
	return b.add(SectionData, append(entry, content...))
}

// PassiveData adds a passive data segment and the data count section, and returns its index.
func (b *Builder) PassiveData(content []byte) uint32 {
	b.dataCount = true
	entry := append([]byte{1}, Uint(uint64(len(content)))...)
	return b.add(SectionData, append(entry, content...))
}

// DataCount asks for the data count section, which memory.init and data.drop need.
func (b *Builder) DataCount() { b.dataCount = true }

// Start names the start function.
func (b *Builder) Start(f uint32) { b.start = Uint(uint64(f)) }

// Custom adds a custom section in front of the others.
func (b *Builder) Custom(name string, content []byte) {
	b.customs = append(b.customs, Section(SectionCustom, append(Name(name), content...))...)
}

// Raw appends bytes behind the regular sections, for instance a Section with a false count.
func (b *Builder) Raw(p []byte) { b.raw = append(b.raw, p...) }

// Bytes returns the module.
func (b *Builder) Bytes() []byte {
	out := append([]byte(Header), b.customs...)
	order := []byte{SectionType, SectionImport, SectionFunction, SectionTable, SectionMemory, SectionGlobal,
		SectionExport, SectionStart, SectionElement, SectionDataCount, SectionCode, SectionData}
	for _, id := range order {
		switch {
		case id == SectionStart && b.start != nil:
			out = append(out, Section(id, b.start)...)
		case id == SectionDataCount && b.dataCount:
			out = append(out, Section(id, Uint(uint64(len(b.entries[SectionData]))))...)
		case len(b.entries[id]) > 0:
			out = append(out, Section(id, Vector(b.entries[id]...))...)
		}
	}
	return append(out, b.raw...)
}

// Uint returns v as unsigned LEB128.
func Uint(v uint64) []byte { return binary.AppendUvarint(nil, v) }

// Int returns v as signed LEB128.
func Int(v int64) []byte {
	var p []byte
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if (v == 0 && c&0x40 == 0) || (v == -1 && c&0x40 != 0) {
			return append(p, c)
		}
		p = append(p, c|0x80)
	}
}

// Name returns s with its length in front.
func Name(s string) []byte { return append(Uint(uint64(len(s))), s...) }

// Vector returns the entries with their count in front.
func Vector(entries ...[]byte) []byte {
	p := Uint(uint64(len(entries)))
	for _, e := range entries {
		p = append(p, e...)
	}
	return p
}

// Section returns a section with its id and size.
func Section(id byte, content []byte) []byte {
	return append(append([]byte{id}, Uint(uint64(len(content)))...), content...)
}

// FuncType returns the entry of a function type.
func FuncType(params, results []ValType) []byte {
	p := []byte{0x60}
	for _, list := range [][]ValType{params, results} {
		p = append(p, Uint(uint64(len(list)))...)
		for _, t := range list {
			p = append(p, byte(t))
		}
	}
	return p
}

// Body returns the entry of the code section: size, locals one by one, code, End.
func Body(locals []ValType, code Code) []byte {
	p := Uint(uint64(len(locals)))
	for _, t := range locals {
		p = append(p, 1, byte(t))
	}
	p = append(append(p, code...), opEnd)
	return append(Uint(uint64(len(p))), p...)
}

// Limits returns the limits of a memory or table; max < 0 declares none.
func Limits(min uint32, max int64) []byte {
	if max < 0 {
		return append([]byte{0}, Uint(uint64(min))...)
	}
	return append(append([]byte{1}, Uint(uint64(min))...), Uint(uint64(max))...)
}
