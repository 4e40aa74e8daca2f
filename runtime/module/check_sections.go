package module

// Type, function, table, memory, global and export sections.

func (c *checker) typeSection() {
	n := c.count("types", c.caps.Types)
	c.types = make([]funcType, 0, n)
	for range n {
		start := c.pos
		if form := c.byte(); form != typeFunction && c.fault == nil {
			c.failAt(start, "type form 0x%02x needs the garbage collection proposal, which is not enabled", form)
		}
		t := funcType{params: c.valueTypes("parameters"), results: c.valueTypes("results")}
		if c.fault != nil {
			return
		}
		c.types = append(c.types, t)
	}
}

func (c *checker) valueTypes(what string) []byte {
	n := c.count(what, maxParams)
	start := c.pos
	for range n {
		c.valueType()
	}
	if c.fault != nil {
		return nil
	}
	return c.b[start:c.pos]
}

func (c *checker) functionSection() {
	n := c.count("functions", c.caps.Functions)
	funcs := make([]uint32, 0, len(c.funcs)+n)
	c.funcs = append(funcs, c.funcs...)
	for range n {
		c.funcs = append(c.funcs, c.typeIndex())
		if c.fault != nil {
			return
		}
	}
}

func (c *checker) typeIndex() uint32 {
	start := c.pos
	i := c.u32()
	if c.fault == nil && int(i) >= len(c.types) {
		c.failAt(start, "type %d does not exist", i)
	}
	return i
}

func (c *checker) funcIndex() uint32 {
	start := c.pos
	i := c.u32()
	if c.fault == nil && int(i) >= len(c.funcs) {
		c.failAt(start, "function %d does not exist", i)
	}
	return i
}

// limits reads the limits of a memory or table; max is -1 if none is declared.
func (c *checker) limits(what string) (minimum uint32, maximum int64) {
	start := c.pos
	flags := c.byte()
	switch {
	case c.fault != nil:
		return 0, -1
	case flags > 7:
		c.failAt(start, "%s with unknown limits 0x%02x", what, flags)
	case flags >= 4:
		c.failAt(start, "64-bit %s needs the memory64 proposal, which is not enabled", what)
	case flags >= 2:
		c.failAt(start, "shared %s needs the threads proposal, which is not enabled", what)
	}
	minimum, maximum = c.u32(), -1
	if flags == 1 {
		maximum = int64(c.u32())
		if c.fault == nil && maximum < int64(minimum) {
			c.failAt(start, "%s with minimum %d over its maximum %d", what, minimum, maximum)
		}
	}
	return minimum, maximum
}

func (c *checker) tableSection() {
	start := c.pos
	n := c.u32()
	if n > 1 {
		c.failAt(start, "has %d tables, one is allowed", n)
		return
	}
	for range n {
		if t := c.byte(); c.fault == nil && t != typeFuncRef && t != typeExtern {
			c.failAt(c.pos-1, "table of unknown type 0x%02x%s", t, typeProposal(t))
		}
		c.tableMin, c.tableMax = c.limits("table")
		if c.fault == nil && int(c.tableMin) > c.caps.TableMin {
			c.failFix(start, "slim the module or raise the limit", "table of %d entries, the limit is %d", c.tableMin, c.caps.TableMin)
		}
	}
	c.tables = int(n)
}

func (c *checker) memorySection() {
	start := c.pos
	n := c.u32()
	if n > 1 {
		c.failAt(start, "has %d memories: the multi-memory proposal is not enabled", n)
		return
	}
	for range n {
		pages, maximum := c.limits("memory")
		if c.fault == nil && max(int64(pages), maximum) > 65536 {
			c.failAt(start, "memory of more than 65536 pages (4 GiB)")
		}
		c.report.MemoryMin = int64(pages) * pageBytes
		if c.fault == nil && c.report.MemoryMin > c.caps.MemoryBytes {
			c.failFix(start, "make static buffers smaller or raise the deployment's memory limit",
				"starts with %d bytes of memory, the limit is %d", c.report.MemoryMin, c.caps.MemoryBytes)
		}
	}
	c.memories = int(n)
}

func (c *checker) globalSection() {
	n := c.count("globals", c.caps.Globals)
	for range n {
		c.valueType()
		if m := c.byte(); c.fault == nil && m > 1 {
			c.failAt(c.pos-1, "global with unknown mutability 0x%02x", m)
		}
		c.constant()
		if c.fault != nil {
			return
		}
	}
	c.globals = n
}

// constant reads a constant expression: one constant and end. It returns the
// value if that is an i32.const, else -1.
func (c *checker) constant() int64 {
	start := c.pos
	value := int64(-1)
	var in instruction
	if c.pos < c.end && c.b[c.pos] == opI32Const {
		c.pos++
		value = int64(uint32(c.signed(32)))
		in.op = opI32Const
	} else if !c.next(&in) {
		return -1
	}
	switch in.op {
	case opI32Const, opI64Const, opF32Const, opF64Const, opV128Const, opRefNull:
	case opRefFunc:
		if int(in.x) >= len(c.funcs) {
			c.failAt(start, "function %d does not exist", in.x)
		}
	case opGlobalGet:
		c.failAt(start, "constant expression reads global %d, but no globals can be imported", in.x)
	default:
		c.failAt(start, "opcode 0x%02x in a constant expression (extended constants are not enabled)", in.op)
	}
	if end := c.byte(); c.fault == nil && end != opEnd {
		c.failAt(c.pos-1, "opcode 0x%02x in a constant expression (extended constants are not enabled)", end)
	}
	return value
}

func (c *checker) exportSection() {
	n := c.count("exports", c.caps.Exports)
	for range n {
		start := c.pos
		name := string(c.name("an export's name"))
		e := export{kind: c.byte(), index: c.u32()}
		if c.fault != nil {
			return
		}
		limit := 0
		switch e.kind {
		case kindFunc:
			limit = len(c.funcs)
			c.report.Exports = append(c.report.Exports, name)
		case kindTable:
			limit = c.tables
		case kindMemory:
			limit = c.memories
		case kindGlobal:
			limit = c.globals
		default:
			c.failAt(start, "export %q is of unknown kind %d", name, e.kind)
			return
		}
		switch _, twice := c.exports[name]; {
		case int64(e.index) >= int64(limit):
			c.failAt(start, "export %q names something that does not exist", name)
		case twice:
			c.failAt(start, "export %q appears twice", name)
		case name == FuelGlobal || name == DepthGlobal:
			c.failFix(start, "rename the export", "export %q is reserved for the host's metering", name)
		}
		if c.fault != nil {
			return
		}
		c.exports[name] = e
	}
}

// Kinds of imports and exports.
const (
	kindFunc   = 0
	kindTable  = 1
	kindMemory = 2
	kindGlobal = 3
)

func (c *checker) elementSection() {
	n := c.count("element segments", c.caps.Elements)
	for range n {
		c.elementSegment()
		if c.fault != nil {
			return
		}
		c.elements++
	}
}

// elementSegment reads one of the eight forms: bit 0 passive or declarative, bit 1
// explicit table or declarative, bit 2 expressions instead of function indices.
func (c *checker) elementSegment() {
	start := c.pos
	flags := c.u32()
	if c.fault == nil && flags > 7 {
		c.failAt(start, "element segment of unknown form %d", flags)
		return
	}
	offset := int64(-1)
	if active := flags&1 == 0; active {
		table := uint32(0)
		if flags&2 != 0 {
			table = c.u32()
		}
		if c.fault == nil && int64(table) >= int64(c.tables) {
			c.failAt(start, "element segment for table %d, which does not exist", table)
		}
		offset = c.constant()
	}
	expressions := flags&4 != 0
	if flags&3 != 0 {
		kind := c.byte()
		if bad := expressions && kind != typeFuncRef && kind != typeExtern || !expressions && kind != 0; bad && c.fault == nil {
			c.failAt(c.pos-1, "element segment of unknown type 0x%02x", kind)
		}
	}
	n := c.count("elements", c.caps.Elements)
	if c.entries += n; c.entries > c.caps.Elements {
		c.failFix(start, "slim the module or raise the limit", "more than %d elements in all", c.caps.Elements)
	}
	if c.fault == nil && offset >= 0 && offset+int64(n) > int64(c.tableMin) {
		c.failAt(start, "element segment reaches entry %d of a table of %d", offset+int64(n), c.tableMin)
	}
	for range n {
		if expressions {
			c.constant()
		} else {
			c.funcIndex()
		}
		if c.fault != nil {
			return
		}
	}
}

func (c *checker) dataSection() {
	n := c.count("data segments", c.caps.DataSegments)
	for range n {
		start := c.pos
		flags := c.u32()
		if c.fault == nil && flags > 2 {
			c.failAt(start, "data segment of unknown form %d", flags)
		}
		if flags == 2 {
			if memory := c.u32(); memory != 0 && c.fault == nil {
				c.failAt(start, "data segment for memory %d: the multi-memory proposal is not enabled", memory)
			}
		}
		offset := int64(-1)
		if flags != 1 {
			if c.fault == nil && c.memories == 0 {
				c.failAt(start, "data segment without a memory")
			}
			offset = c.constant()
		}
		size := int(c.u32())
		if c.fault == nil && offset >= 0 && offset+int64(size) > c.report.MemoryMin {
			c.failAt(start, "data segment reaches byte %d of a memory of %d", offset+int64(size), c.report.MemoryMin)
		}
		c.skip(size)
		if c.fault != nil {
			return
		}
	}
	c.datas = n
}
