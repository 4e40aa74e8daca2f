package module

import "encoding/binary"

func (m *meter) codeSection() ([]byte, error) {
	content := binary.AppendUvarint(make([]byte, 0, len(m.wasm)+len(m.wasm)/2), uint64(len(m.summaries)))
	for i := range m.summaries {
		w, err := m.body(i)
		if err != nil {
			return nil, err
		}
		content = binary.AppendUvarint(content, uint64(len(w)))
		content = append(content, w...)
	}
	return content, nil
}

// bodyWriter writes one function anew.
type bodyWriter struct {
	m      *meter
	s      *summary
	in     *reader
	out    []byte
	copied int // everything before it is in out

	points  []point // that are still to come
	open    []openBlock
	doubled uint32 // number of open loops that are doubled
	mirror  bool   // the fuel is in the local
	depth   int64  // what the function adds to the depth, 0: nothing

	// spent says that a bulk operation came since the last check, so the next one checks.
	spent bool

	// Added locals: the fuel after the last payment, the length of a bulk operation
	// or the depth, the depth of the caller, the result of a grow.
	fuel, scratch, caller, result uint32
}

// openBlock is what is restored at the end of a block.
type openBlock struct {
	mirror bool // in front of it
	spent  bool
	loop   bool
	// doubled says that the loop became two, one in the other; outside is the
	// number of doubled loops around it.
	doubled bool
	outside uint32
}

// body returns function i anew; it is valid until the next call.
func (m *meter) body(i int) ([]byte, error) {
	s := &m.summaries[i]
	t := m.types[m.funcs[m.imported+i]]
	r := &reader{b: m.wasm, pos: s.body, end: s.end}
	w := &bodyWriter{m: m, s: s, in: r, out: m.code[:0]}
	locals := w.locals(len(t.params))
	if r.fault != nil {
		return nil, r.fault
	}
	w.fuel, w.scratch, w.caller, w.result = locals, locals+1, locals+2, locals+3
	w.copied = r.pos
	if !s.leaf() {
		code := *r
		w.points = m.analyze(&code, s.calls)
		w.mirror = w.points[0].mirror
	}
	if s.calls {
		w.depth = 1 + int64(s.frame/frameBytesPerDepth)
	}
	var in instruction
	for r.pos < r.end && r.next(&in) {
		w.step(&in, t)
	}
	if r.fault != nil {
		return nil, r.fault
	}
	w.flush(r.end)
	m.code = w.out
	return w.out, nil
}

// locals copies the declarations, adds ours and returns the index of the first.
func (w *bodyWriter) locals(params int) uint32 {
	r := w.in
	groups := r.u32()
	start := r.pos
	body := reader{b: r.b, pos: w.s.body, end: r.end}
	count, _ := skipLocals(&body)
	r.pos = body.pos
	r.fault = body.fault
	added := uint32(0)
	if !w.s.leaf() {
		added = 2
	}
	w.out = binary.AppendUvarint(w.out, uint64(groups+added))
	if r.fault != nil {
		return 0
	}
	w.out = append(w.out, r.b[start:r.pos]...)
	if added > 0 {
		w.out = append(w.out, 1, typeI64, 3, typeI32)
	}
	return uint32(params + count)
}

// flush copies the original up to a position.
func (w *bodyWriter) flush(to int) {
	w.out = append(w.out, w.in.b[w.copied:to]...)
	w.copied = to
}

// skip leaves out the instruction at hand, for which something else is written.
func (w *bodyWriter) skip(in *instruction) {
	w.flush(in.start)
	w.copied = w.in.pos
}

func (w *bodyWriter) step(in *instruction, t funcType) {
	if len(w.points) > 0 && w.points[0].at == in.start {
		w.flush(in.start)
		w.point(&w.points[0], t)
		w.points = w.points[1:]
	}
	switch in.imm {
	case immBlock:
		w.block(in)
	case immEnd:
		w.end(in)
	case immLabel:
		if w.doubled > 0 {
			w.skip(in)
			w.index(byte(in.op), w.label(in.x))
		}
	case immLabels:
		if w.doubled > 0 {
			w.labels(in)
		}
	case immReturn:
		if w.depth > 0 {
			w.skip(in)
			w.index(opBr, uint32(len(w.open))+w.doubled)
		}
	case immFunc, immRefFunc:
		w.skip(in)
		w.index(byte(in.op), w.m.funcIndex(in.x))
	case immMemoryInit, immMemoryCopy, immMemoryFill:
		w.flush(in.start)
		w.bulk(opI64ShrU, bulkByteShift)
	case immTableInit, immTableCopy, immTableFill:
		w.flush(in.start)
		w.bulk(opI64Shl, tableCellShift)
	case immTableGrow:
		w.grow(in, tableCellShift)
	case immMemoryIndex:
		if in.op == opMemoryGrow {
			w.grow(in, growPageShift)
		}
	}
}

// block opens a block. A loop without calls becomes two, so that the call of yield
// is not in the inner one, where the compiler would keep every variable of the loop
// in memory for its sake:
//
//	loop $outer
//	  if fuel < 0 { call yield }
//	  loop $inner
//	    if fuel < 0 { br $outer }
//	    fuel -= price of one turn
//	    ...
//	  end
//	end
func (w *bodyWriter) block(in *instruction) {
	b := openBlock{mirror: w.mirror, spent: w.spent, loop: in.op == opLoop, outside: w.doubled}
	if in.op == opLoop && len(w.points) > 0 && w.points[0].at == w.in.pos {
		p := &w.points[0]
		if p.load {
			w.flush(in.start)
			w.index(opGlobalGet, w.m.fuelGlobal())
			w.index(opLocalSet, w.fuel)
		}
		w.mirror = p.mirror
		parameters := in.hasType && len(w.m.types[in.x].params) > 0
		if p.mirror && !parameters {
			b.doubled = true
			w.doubled++
			w.flush(w.in.pos)
			w.yieldIfUsedUp()
			w.copied = in.start
		}
	}
	w.open = append(w.open, b)
}

func (w *bodyWriter) end(in *instruction) {
	n := len(w.open)
	if n == 0 {
		if w.depth > 0 {
			w.flush(in.start)
			w.op(opEnd)
			w.leave()
		}
		return
	}
	b := w.open[n-1]
	w.open = w.open[:n-1]
	w.mirror, w.doubled = b.mirror, b.outside
	if b.loop {
		w.spent = b.spent
	}
	if b.doubled {
		w.flush(in.start)
		w.op(opEnd)
	}
}

// label moves a label by the doubled loops it leaves; a doubled loop itself is
// continued at its inner one.
func (w *bodyWriter) label(label uint32) uint32 {
	n := len(w.open)
	if int(label) >= n {
		return label + w.doubled
	}
	target := w.open[n-1-int(label)]
	moved := w.doubled - target.outside
	if target.doubled {
		moved--
	}
	return label + moved
}

func (w *bodyWriter) labels(in *instruction) {
	w.skip(in)
	r := reader{b: w.in.b, pos: in.fixed, end: w.in.pos}
	n := r.u32()
	w.index(opBrTable, n)
	for range n + 1 {
		w.out = binary.AppendUvarint(w.out, uint64(w.label(r.u32())))
	}
}

func (w *bodyWriter) op(ops ...byte) { w.out = append(w.out, ops...) }

func (w *bodyWriter) index(op byte, i uint32) {
	w.out = binary.AppendUvarint(append(w.out, op), uint64(i))
}

func (w *bodyWriter) constant(op byte, v int64) { w.out = appendSigned(append(w.out, op), v) }

func appendSigned(out []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if (v == 0 && c&0x40 == 0) || (v == -1 && c&0x40 != 0) {
			return append(out, c)
		}
		out = append(out, c|0x80)
	}
}

// point writes a payment, and at the entry the count of the depth.
func (w *bodyWriter) point(p *point, t funcType) {
	doubled := p.loop && w.open[len(w.open)-1].doubled
	if doubled {
		w.index(opLocalGet, w.fuel)
		w.op(opI64Const, 0, opI64LtS, opIf, typeEmpty)
		w.index(opBr, 2)
		w.op(opEnd)
	}
	w.fuelValue(p.mirror && !p.entry)
	w.constant(opI64Const, int64(max(1, (p.weight+weightPerUnit-1)/weightPerUnit)))
	w.op(opI64Sub)
	w.paid(p.check && !doubled)
	w.spent = w.spent && !p.check
	if p.entry && w.depth > 0 {
		w.enter(t)
	}
}

func (w *bodyWriter) fuelValue(mirror bool) {
	if mirror {
		w.index(opLocalGet, w.fuel)
	} else {
		w.index(opGlobalGet, w.m.fuelGlobal())
	}
}

// paid keeps the fuel on the stack and, with check, yields if it is used up. The
// local spares a loop the load of the global, whose latency would be most of the cost.
// Sparing the store too was measured to gain nothing.
func (w *bodyWriter) paid(check bool) {
	if check || w.mirror {
		w.index(opLocalTee, w.fuel)
	}
	w.index(opGlobalSet, w.m.fuelGlobal())
	if check {
		w.yieldIfUsedUp()
	}
}

func (w *bodyWriter) yieldIfUsedUp() {
	w.index(opLocalGet, w.fuel)
	w.op(opI64Const, 0, opI64LtS, opIf, typeEmpty)
	w.index(opCall, w.m.yieldFunc())
	if w.mirror {
		w.index(opGlobalGet, w.m.fuelGlobal())
		w.index(opLocalSet, w.fuel)
	}
	w.op(opEnd)
}

// enter counts the call and opens the block around the body, whose end every
// return and branch out of the function reaches.
func (w *bodyWriter) enter(t funcType) {
	w.index(opGlobalGet, w.m.depthGlobal())
	w.index(opLocalTee, w.caller)
	w.constant(opI32Const, w.depth)
	w.op(opI32Add)
	w.index(opLocalTee, w.scratch)
	w.index(opGlobalSet, w.m.depthGlobal())
	w.index(opLocalGet, w.scratch)
	w.constant(opI32Const, int64(w.m.maxDepth))
	w.op(opI32GtU, opIf, typeEmpty)
	w.index(opCall, w.m.overflowFunc())
	w.op(opEnd, opBlock)
	switch len(t.results) {
	case 0:
		w.op(typeEmpty)
	case 1:
		w.op(t.results[0])
	default:
		w.out = appendSigned(w.out, int64(w.m.typeOf("", string(t.results))))
	}
}

func (w *bodyWriter) leave() {
	w.index(opLocalGet, w.caller)
	w.index(opGlobalSet, w.m.depthGlobal())
}

// bulk pays for the operation at hand by its length, which is on top of the stack.
// The first one behind a check leaves it to the next entry or loop head to look at the
// fuel; every further one looks at once.
func (w *bodyWriter) bulk(shift byte, by int64) {
	w.index(opLocalTee, w.scratch)
	w.length(shift, by, w.spent)
	w.spent = true
}

func (w *bodyWriter) length(shift byte, by int64, check bool) {
	w.fuelValue(w.mirror)
	w.index(opLocalGet, w.scratch)
	w.op(opI64ExtendU)
	w.constant(opI64Const, by)
	w.op(shift, opI64Sub)
	w.paid(check)
}

// grow writes memory.grow or table.grow and pays for what it added.
func (w *bodyWriter) grow(in *instruction, by int64) {
	w.flush(in.start)
	w.index(opLocalTee, w.scratch)
	w.flush(w.in.pos)
	w.index(opLocalTee, w.result)
	w.constant(opI32Const, -1)
	w.op(opI32Ne, opIf, typeEmpty)
	w.length(opI64Shl, by, true)
	w.op(opEnd)
	w.index(opLocalGet, w.result)
}
