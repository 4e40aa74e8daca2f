package wasmtest

import (
	"encoding/binary"
	"math"
)

// Code is a sequence of instructions. Its methods append one instruction and
// return the longer sequence, so that bodies read like text:
//
//	wasmtest.Code{}.LocalGet(0).I32Const(1).Op(wasmtest.I32Add)
type Code []byte

// Instructions without immediates, for Code.Op. Others are methods.
const (
	opEnd = 0x0b

	Unreachable  = 0x00
	Nop          = 0x01
	ElseOp       = 0x05
	ReturnOp     = 0x0f
	DropOp       = 0x1a
	SelectOp     = 0x1b
	I32Eqz       = 0x45
	I32Eq        = 0x46
	I32Ne        = 0x47
	I32LtS       = 0x48
	I32LtU       = 0x49
	I32GtU       = 0x4b
	I32GeU       = 0x4f
	I64Eqz       = 0x50
	I64LtS       = 0x53
	I32Add       = 0x6a
	I32Sub       = 0x6b
	I32Mul       = 0x6c
	I32DivS      = 0x6d
	I32And       = 0x71
	I32Xor       = 0x73
	I32Shl       = 0x74
	I64Add       = 0x7c
	I64Sub       = 0x7d
	I64Mul       = 0x7e
	I64Or        = 0x84
	I64Shl       = 0x86
	F64Add       = 0xa0
	I32WrapI64   = 0xa7
	I64ExtendI32 = 0xad
)

// Memory instructions, for Code.Mem.
const (
	I32Load   = 0x28
	I64Load   = 0x29
	I32Load8U = 0x2d
	I32Store  = 0x36
	I64Store  = 0x37
	I32Store8 = 0x3a
)

// BlockType is the type of a block, loop or if.
type BlockType []byte

// NoResult is the block type () → ().
var NoResult = BlockType{0x40}

// Result is the block type () → t.
func Result(t ValType) BlockType { return BlockType{byte(t)} }

// TypeIndex is the block type of entry i of the type section.
func TypeIndex(i uint32) BlockType { return BlockType(Int(int64(i))) }

// Op appends instructions without immediates.
func (c Code) Op(ops ...byte) Code { return append(c, ops...) }

// Append appends code.
func (c Code) Append(more Code) Code { return append(c, more...) }

// Repeat appends code n times.
func (c Code) Repeat(n int, more Code) Code {
	for range n {
		c = append(c, more...)
	}
	return c
}

func (c Code) index(op byte, i uint32) Code {
	return binary.AppendUvarint(append(c, op), uint64(i))
}

// Block opens a block.
func (c Code) Block(t BlockType) Code { return append(append(c, 0x02), t...) }

// Loop opens a loop.
func (c Code) Loop(t BlockType) Code { return append(append(c, 0x03), t...) }

// If opens an if.
func (c Code) If(t BlockType) Code { return append(append(c, 0x04), t...) }

// Else begins the other arm.
func (c Code) Else() Code { return append(c, ElseOp) }

// End closes a block, loop or if.
func (c Code) End() Code { return append(c, opEnd) }

// Br branches to a label.
func (c Code) Br(label uint32) Code { return c.index(0x0c, label) }

// BrIf branches to a label if the top of the stack is not 0.
func (c Code) BrIf(label uint32) Code { return c.index(0x0d, label) }

// BrTable branches to the label picked by the top of the stack; the last one is the default.
func (c Code) BrTable(labels ...uint32) Code {
	c = c.index(0x0e, uint32(len(labels)-1))
	for _, l := range labels {
		c = binary.AppendUvarint(c, uint64(l))
	}
	return c
}

// Return returns from the function.
func (c Code) Return() Code { return append(c, ReturnOp) }

// Call calls a function.
func (c Code) Call(f uint32) Code { return c.index(0x10, f) }

// CallIndirect calls through table 0.
func (c Code) CallIndirect(typeIndex uint32) Code { return append(c.index(0x11, typeIndex), 0) }

// Drop drops the top of the stack.
func (c Code) Drop() Code { return append(c, DropOp) }

// LocalGet pushes a local.
func (c Code) LocalGet(i uint32) Code { return c.index(0x20, i) }

// LocalSet pops into a local.
func (c Code) LocalSet(i uint32) Code { return c.index(0x21, i) }

// LocalTee stores the top of the stack in a local.
func (c Code) LocalTee(i uint32) Code { return c.index(0x22, i) }

// GlobalGet pushes a global.
func (c Code) GlobalGet(i uint32) Code { return c.index(0x23, i) }

// GlobalSet pops into a global.
func (c Code) GlobalSet(i uint32) Code { return c.index(0x24, i) }

// Mem appends a load or store with an offset and no alignment hint.
func (c Code) Mem(op byte, offset uint32) Code {
	return binary.AppendUvarint(append(c, op, 0), uint64(offset))
}

// MemorySize pushes the memory's pages.
func (c Code) MemorySize() Code { return append(c, 0x3f, 0) }

// MemoryGrow grows the memory by the pages on the stack.
func (c Code) MemoryGrow() Code { return append(c, 0x40, 0) }

// I32Const pushes v.
func (c Code) I32Const(v int32) Code { return append(append(c, 0x41), Int(int64(v))...) }

// I64Const pushes v.
func (c Code) I64Const(v int64) Code { return append(append(c, 0x42), Int(v)...) }

// F32Const pushes v.
func (c Code) F32Const(v float32) Code {
	return binary.LittleEndian.AppendUint32(append(c, 0x43), math.Float32bits(v))
}

// F64Const pushes v.
func (c Code) F64Const(v float64) Code {
	return binary.LittleEndian.AppendUint64(append(c, 0x44), math.Float64bits(v))
}

// RefFunc pushes a reference to a function.
func (c Code) RefFunc(f uint32) Code { return c.index(0xd2, f) }

// RefNull pushes a null reference.
func (c Code) RefNull(t ValType) Code { return append(c, 0xd0, byte(t)) }

// Ext appends an instruction of the 0xFC group with index immediates.
func (c Code) Ext(op uint32, immediates ...uint32) Code {
	c = c.index(0xfc, op)
	for _, i := range immediates {
		c = binary.AppendUvarint(c, uint64(i))
	}
	return c
}

// MemoryInit copies from a data segment: destination, source, length.
func (c Code) MemoryInit(data uint32) Code { return c.Ext(8, data, 0) }

// MemoryCopy copies: destination, source, length.
func (c Code) MemoryCopy() Code { return c.Ext(10, 0, 0) }

// MemoryFill fills: destination, value, length.
func (c Code) MemoryFill() Code { return c.Ext(11, 0) }

// TableGrow grows table 0: initial value, entries.
func (c Code) TableGrow() Code { return c.Ext(15, 0) }

// TableFill fills table 0: start, value, entries.
func (c Code) TableFill() Code { return c.Ext(17, 0) }

// SIMD appends an instruction of the 0xFD group with raw immediates.
func (c Code) SIMD(op uint32, immediates ...byte) Code {
	return append(c.index(0xfd, op), immediates...)
}
