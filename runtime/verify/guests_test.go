package verify

import (
	"github.com/millstream-io/millstream/runtime/module/wasmtest"
	"github.com/millstream-io/millstream/sdk/abi"
)

// emission is an output that a guest makes of each record: a copy of it to an
// output, with the first byte of its value replaced by a mark.
type emission struct{ output, mark int32 }

// copier is a guest that makes the same outputs of each record. Output areas may
// be no larger than 64 KiB, so it flushes after each input when there is half of that.
func copier(emissions ...emission) []byte { return guest(nil, emissions) }

// picky is a copier that traps on poisoned records.
func picky(emissions ...emission) []byte {
	const src = 2
	lowByte := wasmtest.Code{}.LocalGet(src).LocalGet(src).Mem(wasmtest.I32Load, 4).Op(wasmtest.I32Add)
	lowByte = lowByte.Mem(wasmtest.I32Load8U, abi.RecordHeaderBytes+valueSequenceEnd-1) // behind the key
	return guest(lowByte.I32Const(poisonEvery-1).Op(wasmtest.I32And).I32Const(poison).Op(wasmtest.I32Eq).If(wasmtest.NoResult).Op(wasmtest.Unreachable).End(), emissions)
}

// guest makes the emissions of each record, after it has looked at it.
func guest(look wasmtest.Code, emissions []emission) []byte {
	const src, dst, i, size = 2, 3, 4, 5
	const area, full = (abi.AreaOutput + 1) * wasmtest.AreaBytes, 32 << 10
	c := wasmtest.Code{}.
		LocalGet(0).I32Const(abi.BatchHeaderBytes).Op(wasmtest.I32Add).LocalSet(src).
		I32Const(area).LocalSet(dst).
		Block(wasmtest.NoResult).Loop(wasmtest.NoResult).
		LocalGet(i).LocalGet(0).Mem(wasmtest.I32Load, 0).Op(wasmtest.I32GeU).BrIf(1).
		LocalGet(src).Mem(wasmtest.I32Load, 0).LocalSet(size)
	c = c.Append(look)
	for _, e := range emissions {
		for to, from := range map[uint32]uint32{0: 0, 12: 4, 16: 8, 20: 12} { // size, key, value, headers
			c = c.LocalGet(dst).LocalGet(src).Mem(wasmtest.I32Load, from).Mem(wasmtest.I32Store, to)
		}
		c = c.LocalGet(dst).I32Const(abi.KindRecord|e.output<<16).Mem(wasmtest.I32Store, 4)
		c = c.LocalGet(dst).LocalGet(i).Mem(wasmtest.I32Store, 8)
		c = c.LocalGet(dst).LocalGet(src).Mem(wasmtest.I64Load, 24).Mem(wasmtest.I64Store, 24)
		c = c.LocalGet(dst).I32Const(abi.OutputHeaderBytes).Op(wasmtest.I32Add).
			LocalGet(src).I32Const(abi.RecordHeaderBytes).Op(wasmtest.I32Add).
			LocalGet(size).I32Const(abi.RecordHeaderBytes).Op(wasmtest.I32Sub).
			MemoryCopy()
		c = c.LocalGet(dst).LocalGet(src).Mem(wasmtest.I32Load, 4).Op(wasmtest.I32Add).
			I32Const(e.mark).Mem(wasmtest.I32Store8, abi.OutputHeaderBytes) // behind the key
		c = c.LocalGet(dst).LocalGet(size).Op(wasmtest.I32Add).LocalSet(dst)
	}
	used := wasmtest.Code{}.LocalGet(dst).I32Const(area).Op(wasmtest.I32Sub)
	c = c.I32Const(full).Append(used).Op(wasmtest.I32LtU).
		If(wasmtest.NoResult).
		I32Const(area).Append(used).Call(wasmtest.FlushImport).
		I32Const(area).LocalSet(dst).
		End()
	c = c.LocalGet(src).LocalGet(size).Op(wasmtest.I32Add).LocalSet(src).
		LocalGet(i).I32Const(1).Op(wasmtest.I32Add).LocalSet(i).
		Br(0).End().End()
	return wasmtest.Guest{Process: c.Append(wasmtest.PackedResult(wasmtest.Code{}.LocalGet(i), used))}.Bytes()
}
