package module

// codeSection walks every instruction of every function.
func (c *checker) codeSection() {
	n := c.count("function bodies", c.caps.Functions)
	if c.fault == nil && n != len(c.funcs)-c.imported {
		c.fail("has code for %d functions, %d are declared", n, len(c.funcs)-c.imported)
		return
	}
	section := c.end
	for i := range n {
		start := c.pos
		size := int(c.u32())
		switch {
		case c.fault != nil:
			return
		case size > section-c.pos:
			c.failAt(start, "function %d claims %d bytes, %d are left", c.imported+i, size, section-c.pos)
			return
		case size > c.caps.BodyBytes:
			c.failFix(start, "split it, or raise the limit", "function %d has %d bytes of code, the limit is %d",
				c.imported+i, size, c.caps.BodyBytes)
			return
		}
		c.end = c.pos + size
		c.body(c.types[c.funcs[c.imported+i]])
		if c.fault == nil && c.pos != c.end {
			c.fail("function %d has bytes behind its end", c.imported+i)
		}
		if c.fault != nil {
			return
		}
		c.end = section
	}
	c.bodies = n
}

// body walks one function. The sum of blocks times locals, and of bulk
// operations, for which metering adds a block, bounds the time to compile it.
func (c *checker) body(t funcType) {
	start := c.pos
	locals := len(t.params) + c.locals()
	if c.fault != nil {
		return
	}
	var in instruction
	blocks, loops, bulk := 0, 0, 0
	c.labels = c.labels[:0]
	for c.next(&in) {
		switch in.imm {
		case immNone, immI32, immI64, imm4, imm8, immReturn:
		case immLocal:
			if int(in.x) >= locals {
				c.failAt(in.start, "local %d does not exist", in.x)
			}
		case immMemory:
			c.needMemory(in.start)
		case immBlock:
			blocks++
			if in.op == opLoop {
				loops++
			}
			c.open(&in, loops)
		case immElse:
			if len(c.labels) == 0 || c.labels[len(c.labels)-1] != opIf {
				c.failAt(in.start, "else without if")
				return
			}
			c.labels[len(c.labels)-1] = opElse
		case immEnd:
			if len(c.labels) == 0 {
				c.blocks(start, blocks, locals)
				return
			}
			if c.labels[len(c.labels)-1] == opLoop {
				loops--
			}
			c.labels = c.labels[:len(c.labels)-1]
		case immLabel, immLabels:
			c.branch(&in)
		case immMemoryInit, immMemoryCopy, immMemoryFill, immTableInit, immTableCopy, immTableFill, immTableGrow, immMemoryIndex:
			if in.op == opMemorySize {
				c.needMemory(in.start)
				break
			}
			blocks++
			if bulk++; bulk > maxBulkOperations {
				c.failFix(in.start, "split the function", "a function has more than %d bulk memory operations", maxBulkOperations)
			}
			c.operation(&in)
		default:
			c.operation(&in)
		}
		if c.fault != nil {
			return
		}
	}
}

// locals reads the declarations and returns their number.
func (c *checker) locals() int {
	start := c.pos
	groups := c.count("groups of locals", c.caps.BodyBytes)
	total := 0
	for range groups {
		n := c.u32()
		c.valueType()
		if c.fault != nil {
			return 0
		}
		if int64(total)+int64(n) > int64(c.caps.Locals) {
			c.failFix(start, "split the function, or raise the limit", "a function has more than %d locals", c.caps.Locals)
			return 0
		}
		total += int(n)
	}
	return total
}

func (c *checker) open(in *instruction, loops int) {
	if in.hasType && int(in.x) >= len(c.types) {
		c.failAt(in.start, "type %d does not exist", in.x)
		return
	}
	if len(c.labels) >= c.caps.BlockDepth {
		c.failFix(in.start, "split the function, or raise the limit", "blocks are nested more than %d deep", c.caps.BlockDepth)
		return
	}
	if loops > c.caps.LoopDepth {
		c.failFix(in.start, "split the function, or raise the limit", "loops are nested more than %d deep", c.caps.LoopDepth)
		return
	}
	c.labels = append(c.labels, byte(in.op))
}

func (c *checker) blocks(start, blocks, locals int) {
	product := blocks * locals
	c.blocksXLocals += product
	if product > c.caps.BlocksTimesLocals {
		c.failFix(start, "split the function, or raise the limit",
			"a function of %d blocks and %d locals takes too long to compile (the limit of the product is %d)",
			blocks, locals, c.caps.BlocksTimesLocals)
	} else if c.blocksXLocals > c.caps.BlocksTimesLocalsM {
		c.failFix(start, "slim the module or raise the limit",
			"takes too long to compile: the sum of blocks times locals is over %d", c.caps.BlocksTimesLocalsM)
	}
}

func (c *checker) branch(in *instruction) {
	if int64(in.x) > int64(len(c.labels)) {
		c.failAt(in.start, "branch to label %d in %d blocks", in.x, len(c.labels))
		return
	}
	if in.op != opBrTable {
		return
	}
	c.targets += int(in.y)
	if int(in.y) > c.caps.BranchTargets {
		c.failFix(in.start, "split the function, or raise the limit", "br_table of %d targets, the limit is %d", in.y, c.caps.BranchTargets)
	} else if c.targets > c.caps.BranchTargetsM {
		c.failFix(in.start, "slim the module or raise the limit", "more than %d targets of br_table in all", c.caps.BranchTargetsM)
	}
}

func (c *checker) needMemory(at int) {
	if c.memories == 0 {
		c.failAt(at, "uses memory, but the module has none")
	}
}

// operation checks the indices of the less frequent instructions.
func (c *checker) operation(in *instruction) {
	missing := func(what string, i uint32, n int) bool {
		if int64(i) >= int64(n) {
			c.failAt(in.start, "%s %d does not exist", what, i)
			return true
		}
		return false
	}
	switch in.imm {
	case immFunc, immRefFunc:
		missing("function", in.x, len(c.funcs))
	case immGlobal:
		missing("global", in.x, c.globals)
	case immTable, immTableSize, immTableFill:
		missing("table", in.x, c.tables)
	case immTableGrow:
		if !missing("table", in.x, c.tables) && (c.tableMax < 0 || c.tableMax > int64(c.caps.TableMin)) {
			c.failFix(in.start, "declare one", "table.grow of a table without a maximum of at most %d entries", c.caps.TableMin)
		}
	case immTableCopy:
		_ = missing("table", in.x, c.tables) || missing("table", in.y, c.tables)
	case immTableInit:
		_ = missing("element segment", in.x, c.elements) || missing("table", in.y, c.tables)
	case immElemDrop:
		missing("element segment", in.x, c.elements)
	case immMemoryInit:
		c.needMemory(in.start)
		missing("data segment", in.x, max(c.dataCount, 0))
	case immDataDrop:
		missing("data segment", in.x, max(c.dataCount, 0))
	case immMemoryIndex, immMemoryCopy, immMemoryFill, immMemoryLane:
		c.needMemory(in.start)
	case immCallIndirect:
		_ = missing("type", in.x, len(c.types)) || missing("table", in.y, c.tables)
	}
}
