package module

import "fmt"

// immediate says what follows an opcode.
type immediate byte

const (
	immUnknown immediate = iota
	immNone
	immBlock // block, loop, if: a block type
	immElse
	immEnd
	immLabel
	immLabels // br_table
	immReturn
	immFunc
	immCallIndirect
	immLocal
	immGlobal
	immTable
	immMemory // alignment and offset
	immMemoryIndex
	immI32
	immI64
	imm4
	imm8
	immRefType
	immSelectTypes
	immRefFunc
	immPrefixFC
	immPrefixFD
	immException
	immTailCall
	immGC
	immThreads
	// Only behind a prefix:
	immMemoryInit
	immDataDrop
	immMemoryCopy
	immMemoryFill
	immTableInit
	immElemDrop
	immTableCopy
	immTableGrow
	immTableSize
	immTableFill
	imm16
	immLane
	immMemoryLane
)

// Opcodes that the walk names.
const (
	opUnreachable  = 0x00
	opBlock        = 0x02
	opLoop         = 0x03
	opIf           = 0x04
	opElse         = 0x05
	opEnd          = 0x0b
	opBr           = 0x0c
	opBrIf         = 0x0d
	opBrTable      = 0x0e
	opReturn       = 0x0f
	opCall         = 0x10
	opCallIndirect = 0x11
	opLocalGet     = 0x20
	opLocalSet     = 0x21
	opLocalTee     = 0x22
	opGlobalGet    = 0x23
	opGlobalSet    = 0x24
	opMemorySize   = 0x3f
	opMemoryGrow   = 0x40
	opI32Const     = 0x41
	opI64Const     = 0x42
	opF32Const     = 0x43
	opF64Const     = 0x44
	opRefNull      = 0xd0
	opRefFunc      = 0xd2

	opI32Ne      = 0x47
	opI32GtU     = 0x4b
	opI64LtS     = 0x53
	opI32Add     = 0x6a
	opI32Sub     = 0x6b
	opI64Sub     = 0x7d
	opI64Shl     = 0x86
	opI64ShrU    = 0x88
	opI64ExtendU = 0xad

	prefixFC     = 0xfc
	prefixFD     = 0xfd
	opV128Const  = 0xfd0c
	typeEmpty    = 0x40
	typeFuncRef  = 0x70
	typeExtern   = 0x6f
	typeFunction = 0x60
	typeI32      = 0x7f
	typeI64      = 0x7e
	typeV128     = 0x7b
)

// immediates of the one-byte opcodes of core 2.0, and names for those of proposals.
var immediates = func() (t [256]immediate) {
	set := func(from, to int, i immediate) {
		for op := from; op <= to; op++ {
			t[op] = i
		}
	}
	set(0x00, 0x01, immNone)
	set(0x02, 0x04, immBlock)
	t[opElse] = immElse
	set(0x06, 0x0a, immException)
	t[opEnd] = immEnd
	set(0x0c, 0x0d, immLabel)
	t[opBrTable] = immLabels
	t[opReturn] = immReturn
	t[opCall] = immFunc
	t[opCallIndirect] = immCallIndirect
	set(0x12, 0x13, immTailCall)
	t[0x14] = immGC
	t[0x15] = immTailCall
	set(0x18, 0x19, immException)
	set(0x1a, 0x1b, immNone)
	t[0x1c] = immSelectTypes
	t[0x1f] = immException
	set(0x20, 0x22, immLocal)
	set(0x23, 0x24, immGlobal)
	set(0x25, 0x26, immTable)
	set(0x28, 0x3e, immMemory)
	set(0x3f, 0x40, immMemoryIndex)
	t[opI32Const] = immI32
	t[opI64Const] = immI64
	t[opF32Const] = imm4
	t[opF64Const] = imm8
	set(0x45, 0xc4, immNone)
	t[opRefNull] = immRefType
	t[0xd1] = immNone
	t[opRefFunc] = immRefFunc
	set(0xd3, 0xd6, immGC)
	t[0xfb] = immGC
	t[prefixFC] = immPrefixFC
	t[prefixFD] = immPrefixFD
	t[0xfe] = immThreads
	return t
}()

// immediatesFC of the opcodes behind 0xFC.
var immediatesFC = [18]immediate{
	immNone, immNone, immNone, immNone, immNone, immNone, immNone, immNone,
	immMemoryInit, immDataDrop, immMemoryCopy, immMemoryFill,
	immTableInit, immElemDrop, immTableCopy, immTableGrow, immTableSize, immTableFill,
}

// immediatesFD of the opcodes behind 0xFD, core SIMD.
var immediatesFD = func() (t [256]immediate) {
	for op := range t {
		t[op] = immNone
	}
	for op := 0; op <= 11; op++ {
		t[op] = immMemory
	}
	t[12], t[13] = imm16, imm16 // v128.const, i8x16.shuffle
	for op := 21; op <= 34; op++ {
		t[op] = immLane
	}
	for op := 84; op <= 91; op++ {
		t[op] = immMemoryLane
	}
	t[92], t[93] = immMemory, immMemory
	for _, hole := range []int{0x9a, 0xa2, 0xa5, 0xa6, 0xaf, 0xb0, 0xb2, 0xb3, 0xb4, 0xbb, 0xc2, 0xc5, 0xc6, 0xcf, 0xd0, 0xd2, 0xd3, 0xd4, 0xe2, 0xee} {
		t[hole] = immUnknown
	}
	return t
}()

// instruction is one decoded instruction; its bytes are start to the reader's position.
type instruction struct {
	op    uint16 // one byte, or prefix<<8 | second opcode
	imm   immediate
	start int
	// x and y are the index immediates in the order of the text format's binary:
	// block: x is the type index if hasType; br_table: x is the largest label, y the
	// number of targets without the default.
	x, y    uint32
	hasType bool
	// fixed is the first byte behind the opcode.
	fixed int
}

// next decodes the instruction at r.pos. It returns false on a fault.
func (r *reader) next(in *instruction) bool {
	in.start = r.pos
	op := r.byte()
	in.op = uint16(op)
	in.imm = immediates[op]
	in.fixed = r.pos
	switch in.imm {
	case immNone, immElse, immEnd, immReturn:
	case immLabel, immFunc, immLocal, immGlobal, immTable, immRefFunc:
		in.x = r.u32()
	case immI32:
		r.signed(32)
	case immI64:
		r.signed(64)
	case immMemory:
		r.memoryArgument()
	case immBlock:
		r.blockType(in)
	case immCallIndirect:
		in.x = r.u32()
		in.y = r.u32()
	default:
		r.rare(in)
	}
	return r.fault == nil
}

// rare decodes what is too seldom to be worth a place in next.
func (r *reader) rare(in *instruction) {
	switch in.imm {
	case immLabels:
		r.labels(in)
	case immMemoryIndex:
		r.memoryIndex()
	case imm4:
		r.skip(4)
	case imm8:
		r.skip(8)
	case immRefType:
		if t := r.byte(); t != typeFuncRef && t != typeExtern {
			r.failAt(in.start, "ref.null of unknown type 0x%02x (the garbage collection proposal is not enabled)", t)
		}
	case immSelectTypes:
		if n := r.u32(); n != 1 {
			r.failAt(in.start, "select with %d types", n)
		}
		r.valueType()
	case immPrefixFC:
		r.prefixedFC(in)
	case immPrefixFD:
		r.prefixedFD(in)
	default:
		r.failAt(in.start, "%s", unknownOpcode(in))
	}
}

func unknownOpcode(in *instruction) string {
	switch in.imm {
	case immException:
		return fmt.Sprintf("opcode 0x%02x needs the exception handling proposal, which is not enabled", in.op)
	case immTailCall:
		return fmt.Sprintf("opcode 0x%02x needs the tail call proposal, which is not enabled", in.op)
	case immGC:
		return fmt.Sprintf("opcode 0x%02x needs the garbage collection or typed references proposal, which is not enabled", in.op)
	case immThreads:
		return "atomic instructions need the threads proposal, which is not enabled"
	}
	return fmt.Sprintf("unknown opcode 0x%02x", in.op)
}

func (r *reader) blockType(in *instruction) {
	in.hasType = false
	if r.pos < r.end {
		if c := r.b[r.pos]; c == typeEmpty || isValueType(c) {
			r.pos++
			return
		}
	}
	start := r.pos
	v := r.signed(33)
	if v < 0 {
		r.failAt(start, "unknown block type %d", v)
		return
	}
	in.hasType = true
	in.x = uint32(v)
}

func (r *reader) labels(in *instruction) {
	start := r.pos
	n := r.u32()
	if int64(n) >= int64(r.end-r.pos) {
		r.failAt(start, "br_table claims %d targets in %d bytes", n, r.end-r.pos)
		return
	}
	in.y = n
	in.x = 0
	for range int(n) + 1 {
		in.x = max(in.x, r.u32())
	}
}

func (r *reader) memoryArgument() {
	if align := r.u32(); align >= 32 {
		r.failAt(r.pos-1, "memory access with alignment 2^%d (the multi-memory proposal is not enabled)", align)
	}
	r.u32()
}

func (r *reader) memoryIndex() {
	if i := r.byte(); i != 0 {
		r.failAt(r.pos-1, "memory index %d: the multi-memory proposal is not enabled", i)
	}
}

func (r *reader) prefixedFC(in *instruction) {
	sub := r.u32()
	if sub >= uint32(len(immediatesFC)) {
		r.failAt(in.start, "unknown opcode 0xfc %d", sub)
		return
	}
	in.op = prefixFC<<8 | uint16(sub)
	in.imm = immediatesFC[sub]
	in.fixed = r.pos
	switch in.imm {
	case immMemoryInit:
		in.x = r.u32()
		r.memoryIndex()
	case immDataDrop, immElemDrop, immTableGrow, immTableSize, immTableFill:
		in.x = r.u32()
	case immMemoryCopy:
		r.memoryIndex()
		r.memoryIndex()
	case immMemoryFill:
		r.memoryIndex()
	case immTableInit, immTableCopy:
		in.x = r.u32()
		in.y = r.u32()
	}
}

func (r *reader) prefixedFD(in *instruction) {
	sub := r.u32()
	if sub >= uint32(len(immediatesFD)) {
		r.failAt(in.start, "opcode 0xfd %d needs the relaxed SIMD proposal, which is not enabled", sub)
		return
	}
	in.op = prefixFD<<8 | uint16(sub)
	in.imm = immediatesFD[sub]
	in.fixed = r.pos
	switch in.imm {
	case immUnknown:
		r.failAt(in.start, "unknown opcode 0xfd %d", sub)
	case immMemory:
		r.memoryArgument()
	case imm16:
		r.skip(16)
	case immLane:
		r.skip(1)
	case immMemoryLane:
		r.memoryArgument()
		r.skip(1)
	}
}

func isValueType(c byte) bool {
	return c >= 0x7b && c <= 0x7f || c == typeFuncRef || c == typeExtern
}

func (r *reader) valueType() byte {
	c := r.byte()
	if r.fault == nil && !isValueType(c) {
		r.failAt(r.pos-1, "unknown value type 0x%02x%s", c, typeProposal(c))
	}
	return c
}

func typeProposal(c byte) string {
	switch {
	case c == 0x69:
		return " (exception references are not enabled)"
	case c >= 0x63 && c <= 0x74:
		return " (the garbage collection and typed references proposals are not enabled)"
	}
	return ""
}
