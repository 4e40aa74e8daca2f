package module

// summary is what metering needs to know of a function before it writes any:
// callers pay for small leaves, and only functions that call others count as depth.
type summary struct {
	body, end int // code entry, from the local declarations on
	weight    int // of all its instructions, each once
	frame     int // estimated bytes of stack
	calls     bool
	loops     bool
	bulk      bool
	grows     bool
}

// A function without calls, loops and bulk operations, and of at most this weight, is
// paid for by its callers and not touched.
const leafWeight = 64

func (s *summary) leaf() bool {
	return !s.calls && !s.loops && !s.bulk && s.weight <= leafWeight
}

// summarize walks all functions once.
func (m *meter) summarize() error {
	if !m.sections[sectionCode].present {
		return nil
	}
	r := m.reader(sectionCode)
	n := int(r.u32())
	if r.fault != nil || n != len(m.funcs)-m.imported {
		return errNotChecked
	}
	m.summaries = make([]summary, n)
	for i := range m.summaries {
		size := int(r.u32())
		if r.fault != nil || size > r.remaining() {
			return errNotChecked
		}
		body := &reader{b: m.wasm, pos: r.pos, end: r.pos + size}
		r.pos += size
		m.summaries[i] = m.summarizeBody(body)
		if body.fault != nil {
			return body.fault
		}
	}
	return nil
}

// operandBytes is the room of a spilled operand.
const operandBytes = 8

func (m *meter) summarizeBody(r *reader) summary {
	s := summary{body: r.pos, end: r.end}
	_, s.frame = skipLocals(r)
	var in instruction
	stack := operands{m: m}
	for r.pos < r.end && r.next(&in) {
		s.weight += weight(&in)
		stack.step(&in)
		switch in.imm {
		case immFunc, immCallIndirect:
			s.calls = true
		case immBlock:
			s.loops = s.loops || in.op == opLoop
		case immMemoryInit, immMemoryCopy, immMemoryFill, immTableInit, immTableCopy, immTableFill:
			s.bulk = true
		case immTableGrow:
			s.bulk, s.grows = true, true
		case immMemoryIndex:
			if in.op == opMemoryGrow {
				s.bulk, s.grows = true, true
			}
		}
	}
	s.frame += stack.most * operandBytes
	return s
}

// skipLocals reads the declarations of locals: their number and bytes of stack.
func skipLocals(r *reader) (count, bytes int) {
	for range r.u32() {
		n := int(r.u32())
		size := 8
		if r.valueType() == typeV128 {
			size = 16
		}
		if r.fault != nil {
			return 0, 0
		}
		count += n
		bytes += n * size
	}
	return count, bytes
}

// weight is the price of one instruction in quarters of a unit; calls of leaves
// and lengths of bulk operations come on top.
func weight(in *instruction) int {
	switch in.imm {
	case immBlock, immElse, immEnd:
		if in.op == opIf {
			return 1
		}
		return 0
	case immLabels:
		return 8
	case immFunc:
		return 8
	case immCallIndirect:
		return 16 + leafWeight
	case immTable:
		return 8
	case immMemoryIndex:
		if in.op == opMemoryGrow {
			return 400 // leaves native code
		}
	case immRefFunc, immTableGrow, immDataDrop, immElemDrop:
		return 400 // leave native code
	case immMemoryInit, immMemoryCopy, immMemoryFill, immTableInit, immTableCopy, immTableFill:
		return 32
	}
	switch op := in.op; {
	case op >= 0x6d && op <= 0x70, op >= 0x7f && op <= 0x82: // integer division
		return 24
	case op == 0x91, op == 0x95, op == 0x9f, op == 0xa3: // square root and division of floats
		return 12
	case op >= 0x8d && op <= 0x90, op >= 0x9b && op <= 0x9e, op >= 0xa8 && op <= 0xb1: // rounding, truncation
		return 4
	case op >= prefixFD<<8:
		return 2
	}
	return 1
}

// Conditional stretches behind a head are paid at the head, as if all were
// taken, up to this weight in all; those beyond pay when they are reached.
const headWeight = 48

// entryWeight is the price of a call's own work.
const entryWeight = 4

// point is a place in a function where fuel is paid. Points stand in the order of
// their positions; the first is the function's entry.
type point struct {
	at     int // position of the instruction it stands in front of
	weight int // what is paid
	credit int // of weight, what is conditional
	owner  int // the head (entry or loop) around it
	entry  bool
	loop   bool // at the head of a loop
	check  bool // it also yields if the fuel is used up
	calls  bool // the loop has a call in it
	// mirror says that the local has the fuel's value here, since no call came
	// between; load, that it must be put there in front of the loop.
	mirror bool
	load   bool
}

// block is an open block, loop or if of a function being walked.
type block struct {
	op       byte
	targeted bool // a branch leads behind it
	head     int  // point that is the head around it
}

// analysis finds the points of one function: every instruction is paid for at one
// point, which every path to it passes.
type analysis struct {
	m      *meter
	points []point
	blocks []block
	head   int
	// The stretch at hand: its weight, where it starts, and whether its head always leads into it.
	weight  int
	start   int
	certain bool
}

// analyze returns the points of the function whose code begins at r.
func (m *meter) analyze(r *reader, calls bool) []point {
	a := &analysis{m: m, points: m.points[:0], blocks: m.blocks[:0], start: r.pos, certain: true}
	a.points = append(a.points, point{at: r.pos, weight: entryWeight, entry: true, check: true, calls: calls})
	var in instruction
	for r.pos < r.end && r.next(&in) {
		a.step(&in, r.pos)
	}
	a.close(r.pos)
	a.mirrors()
	m.points, m.blocks = a.points, a.blocks
	return a.points
}

func (a *analysis) step(in *instruction, next int) {
	a.weight += weight(in)
	switch in.imm {
	case immBlock:
		a.open(in, next)
	case immElse:
		a.close(next)
	case immEnd:
		a.end(next)
	case immLabel:
		a.target(in.x)
		a.close(next)
	case immLabels:
		// The label of each target is one of those up to the largest; taking all of them
		// for targets only makes stretches shorter.
		for label := range in.x + 1 {
			a.target(label)
		}
		a.close(next)
	case immReturn:
		a.close(next)
	case immFunc:
		if i := int(in.x) - a.m.imported; i >= 0 && i < len(a.m.summaries) && a.m.summaries[i].leaf() {
			a.weight += a.m.summaries[i].weight
		}
		a.points[a.head].calls = true
	case immCallIndirect:
		a.points[a.head].calls = true
	case immNone:
		if in.op == opUnreachable {
			a.close(next)
		}
	}
}

func (a *analysis) open(in *instruction, next int) {
	a.blocks = append(a.blocks, block{op: byte(in.op), head: a.head})
	switch in.op {
	case opIf:
		a.close(next)
	case opLoop:
		entered := a.certain && a.head == 0 && len(a.points) == 1
		a.close(next)
		if entered {
			a.points[0].check = false // the loop's own check follows at once
		}
		a.points = append(a.points, point{at: next, owner: a.head, loop: true, check: true})
		a.head = len(a.points) - 1
		a.certain = true
	}
}

func (a *analysis) end(next int) {
	if len(a.blocks) == 0 {
		return
	}
	b := a.blocks[len(a.blocks)-1]
	a.blocks = a.blocks[:len(a.blocks)-1]
	if b.op == opBlock && !b.targeted {
		return
	}
	a.close(next)
	if b.op == opLoop {
		if a.points[a.head].calls {
			a.points[b.head].calls = true
		}
		a.head = b.head
	}
}

func (a *analysis) target(label uint32) {
	if i := len(a.blocks) - 1 - int(label); i >= 0 {
		a.blocks[i].targeted = true
	}
}

// close ends the stretch at hand and decides where it is paid.
func (a *analysis) close(next int) {
	head := &a.points[a.head]
	switch {
	case a.certain:
		head.weight += a.weight
	case head.credit+a.weight <= headWeight:
		head.weight += a.weight
		head.credit += a.weight
	default:
		a.points = append(a.points, point{at: a.start, weight: a.weight, owner: a.head})
	}
	a.weight, a.start, a.certain = 0, next, false
}

// mirrors decides where the fuel is at hand in the local.
func (a *analysis) mirrors() {
	for i := range a.points {
		p := &a.points[i]
		switch {
		case p.entry:
			p.mirror = !p.calls
		case p.loop:
			p.mirror = !p.calls
			p.load = p.mirror && !a.points[p.owner].mirror
		default:
			p.mirror = a.points[p.owner].mirror
		}
	}
}
