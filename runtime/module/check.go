package module

import (
	"fmt"
	"slices"
	"strings"
)

// Section ids.
const (
	sectionCustom    = 0
	sectionType      = 1
	sectionImport    = 2
	sectionFunction  = 3
	sectionTable     = 4
	sectionMemory    = 5
	sectionGlobal    = 6
	sectionExport    = 7
	sectionStart     = 8
	sectionElement   = 9
	sectionCode      = 10
	sectionData      = 11
	sectionDataCount = 12
	sectionTag       = 13
)

var sectionNames = [...]string{"custom", "type", "import", "function", "table", "memory", "global",
	"export", "start", "element", "code", "data", "data count"}

// sectionOrder gives the place of a section id: data count stands before code.
var sectionOrder = [...]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 10}

const (
	magic   = "\x00asm"
	version = "\x01\x00\x00\x00"
	// pageBytes is the size of a page of linear memory.
	pageBytes = 65536
)

// funcType is a function type; its slices are views of the module.
type funcType struct{ params, results []byte }

// checker is one run of Check. What it keeps is bounded by the caps.
type checker struct {
	reader
	caps    Caps
	allowed func(module, name string) bool
	report  *Report

	types     []funcType
	funcs     []uint32 // type index of each function, imported ones first
	imported  int
	globals   int
	tables    int
	tableMin  uint32
	tableMax  int64 // -1: none declared
	memories  int
	exports   map[string]export
	elements  int // segments
	entries   int // of all segments
	datas     int // data segments
	dataCount int // declared by the data count section, -1: none
	bodies    int

	customs       int
	customBytes   int
	blocksXLocals int
	targets       int
	labels        []byte // kinds of the open blocks of the function at hand
}

type export struct {
	kind  byte
	index uint32
}

// Check walks the module once and refuses, with a *Refusal, what is malformed,
// over a cap or not offered by the host. allowedImports tells by module and name
// what the host gives. It looks at every section, index and opcode, but not at
// the types of operands: those are the compiler's to validate, and what Check
// accepts may still be refused there.
//
// It takes some 10 ms per MiB and memory in proportion to the caps, whatever the
// module claims.
func Check(wasm []byte, caps Caps, allowedImports func(module, name string) bool) (*Report, error) {
	c, err := checkStructure(wasm, caps, allowedImports)
	if err != nil {
		return nil, err
	}
	c.checkABI()
	if c.fault != nil {
		return nil, c.fault
	}
	c.warn()
	c.report.Digest = DigestOf(wasm)
	return c.report, nil
}

// checkStructure is Check without the exports that make a module a guest.
func checkStructure(wasm []byte, caps Caps, allowedImports func(module, name string) bool) (*checker, error) {
	if err := checkForm(wasm, caps); err != nil {
		return nil, err
	}
	c := &checker{
		reader:    reader{b: wasm, pos: len(magic) + len(version), end: len(wasm)},
		caps:      caps,
		allowed:   allowedImports,
		report:    &Report{SizeBytes: len(wasm)},
		tableMax:  -1,
		dataCount: -1,
		exports:   make(map[string]export),
		labels:    make([]byte, 0, min(caps.BlockDepth, 1024)),
	}
	c.sections()
	if c.fault == nil {
		c.counts()
	}
	if c.fault != nil {
		return nil, c.fault
	}
	return c, nil
}

// sections walks all sections in order.
func (c *checker) sections() {
	last := 0
	for c.pos < len(c.b) && c.fault == nil {
		start := c.pos
		id := c.byte()
		size := c.u32()
		if c.fault != nil {
			return
		}
		if int64(size) > int64(len(c.b)-c.pos) {
			c.failAt(start, "section %d claims %d bytes, %d are left: the file is cut short or damaged", id, size, len(c.b)-c.pos)
			return
		}
		if id == sectionTag {
			c.failAt(start, "a tag section needs the exception handling proposal, which is not enabled")
			return
		}
		if int(id) >= len(sectionNames) {
			c.failAt(start, "unknown section %d", id)
			return
		}
		if id != sectionCustom {
			if sectionOrder[id] <= last {
				c.failAt(start, "the %s section is repeated or out of order", sectionNames[id])
				return
			}
			last = sectionOrder[id]
		}
		c.end = c.pos + int(size)
		c.section(id)
		if c.fault != nil {
			c.fault.Reason = sectionNames[id] + " section: " + c.fault.Reason
			return
		}
		if c.pos != c.end {
			c.fail("%s section: %d bytes too many", sectionNames[id], c.end-c.pos)
			return
		}
		c.end = len(c.b)
	}
}

func (c *checker) section(id byte) {
	switch id {
	case sectionCustom:
		c.customSection()
	case sectionType:
		c.typeSection()
	case sectionImport:
		c.importSection()
	case sectionFunction:
		c.functionSection()
	case sectionTable:
		c.tableSection()
	case sectionMemory:
		c.memorySection()
	case sectionGlobal:
		c.globalSection()
	case sectionExport:
		c.exportSection()
	case sectionStart:
		c.failFix(c.pos, "move its work to _initialize or to the setup function",
			"has a start function, which would run before the host's limits")
	case sectionElement:
		c.elementSection()
	case sectionCode:
		c.codeSection()
	case sectionData:
		c.dataSection()
	case sectionDataCount:
		c.dataCount = int(c.u32())
		if c.dataCount > c.caps.DataSegments {
			c.fail("claims %d data segments, the limit is %d", c.dataCount, c.caps.DataSegments)
		}
	}
}

func (c *checker) customSection() {
	if c.customs++; c.customs > maxCustomSections {
		c.fail("more than %d custom sections", maxCustomSections)
		return
	}
	name := c.name("its name")
	if c.fault != nil {
		return
	}
	content := c.b[c.pos:c.end]
	start := c.pos
	c.pos = c.end
	if string(name) != ManifestSection {
		c.customBytes += len(content)
		return
	}
	if c.report.Manifest != nil {
		c.failAt(start, "a second manifest")
		return
	}
	m, err := parseManifest(content)
	if err != nil {
		c.failFix(start, "millstream build writes it from the plugin.yaml beside the code", "manifest: %v", err)
		return
	}
	c.report.Manifest = m
}

// counts compares what one section declares with what another has.
func (c *checker) counts() {
	if declared := len(c.funcs) - c.imported; c.bodies != declared {
		c.failAt(-1, "declares %d functions and has code for %d", declared, c.bodies)
	}
	if c.dataCount >= 0 && c.datas != c.dataCount {
		c.failAt(-1, "declares %d data segments and has %d", c.dataCount, c.datas)
	}
}

func (c *checker) warn() {
	asyncify := slices.ContainsFunc(c.report.Exports, func(name string) bool { return strings.HasPrefix(name, "asyncify_") })
	if asyncify {
		c.report.Warnings = append(c.report.Warnings,
			"built with TinyGo's asyncify scheduler, which makes every call some hundred times slower: build with -scheduler=none")
	}
	if c.customBytes > 1<<20 {
		c.report.Warnings = append(c.report.Warnings, fmt.Sprintf(
			"carries %.1f MiB of debug information that is never used: strip it (-ldflags='-s -w' or -no-debug)",
			float64(c.customBytes)/(1<<20)))
	}
}
