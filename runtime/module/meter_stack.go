package module

// stackEffect returns by how much an instruction other than a call changes the
// number of operands, or an upper bound of that: SIMD is not told apart further. It
// serves to estimate frames, not to validate.
func stackEffect(in *instruction) int {
	switch in.imm {
	case immI32, immI64, imm4, imm8, immRefFunc, immRefType, immTableSize, imm16:
		return 1
	case immLocal, immGlobal:
		switch in.op {
		case opLocalGet, opGlobalGet:
			return 1
		case opLocalTee:
			return 0
		}
		return -1
	case immMemoryInit, immMemoryCopy, immMemoryFill, immTableInit, immTableCopy, immTableFill:
		return -3
	case immSelectTypes:
		return -2
	case immTableGrow, immLabels:
		return -1
	}
	switch op := in.op; {
	case op == opIf, op == opBrIf, op == 0x1a:
		return -1
	case op == 0x1b, op >= 0x36 && op <= 0x3e, op == 0x26: // select, stores, table.set
		return -2
	case op == opMemorySize:
		return 1
	case op >= 0x46 && op <= 0x4f, op >= 0x51 && op <= 0x66, // comparisons
		op >= 0x6a && op <= 0x78, op >= 0x7c && op <= 0x8a, // integer arithmetic
		op >= 0x92 && op <= 0x98, op >= 0xa0 && op <= 0xa6: // float arithmetic
		return -1
	}
	return 0
}

// operands follows the height of the operand stack through a function.
type operands struct {
	m            *meter
	height, most int
	open         []openOperands
}

// openOperands are the heights at the beginning and the end of an open block.
type openOperands struct{ begin, end int }

func (o *operands) step(in *instruction) {
	effect := 0
	switch in.imm {
	case immFunc:
		effect = o.call(o.m.types[o.m.funcs[in.x]])
	case immCallIndirect:
		effect = o.call(o.m.types[in.x]) - 1
	default:
		effect = stackEffect(in)
	}
	o.height = max(0, o.height+effect)
	o.most = max(o.most, o.height)
	switch in.imm {
	case immBlock:
		results := 0
		switch {
		case in.hasType:
			results = o.call(o.m.types[in.x])
		case o.m.wasm[in.fixed] != typeEmpty:
			results = 1
		}
		o.open = append(o.open, openOperands{begin: o.height, end: max(0, o.height+results)})
	case immElse, immEnd:
		n := len(o.open)
		if n == 0 {
			return
		}
		o.height = o.open[n-1].begin
		if in.imm == immEnd {
			o.height = o.open[n-1].end
			o.open = o.open[:n-1]
		}
	}
}

func (o *operands) call(t funcType) int { return len(t.results) - len(t.params) }
