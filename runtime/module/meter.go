package module

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Units of fuel. One unit is the work of about four simple instructions, or of
// one turn of a small loop: half a nanosecond on the machines measured.
const (
	weightPerUnit = 4
	// A byte of memory.fill, copy or init is a quarter of a unit, an entry of a table 32 units.
	bulkByteShift  = 2
	tableCellShift = 5
	// Growing is paid by what was added, a byte one unit, only if it was granted: a
	// refused request is cheap, and a granted one is bounded by the memory limit.
	growPageShift = 16
	// frameBytesPerDepth of estimated stack frame count as one nested call more.
	frameBytesPerDepth = 1024
)

// errNotChecked is for modules that Check would have refused.
var errNotChecked = errors.New("module was not checked")

// meter is one run of Meter.
type meter struct {
	wasm     []byte
	sections [sectionDataCount + 1]section
	maxDepth int

	types     []funcType
	typeCount int      // in the rewritten module
	newTypes  [][]byte // appended entries
	funcs     []uint32 // type of each function of the original, imported ones first
	imported  int      // functions of the original
	globals   int      // of the original
	summaries []summary

	out []byte
	// reused from function to function
	code   []byte
	points []point
	blocks []block
}

type section struct {
	start, end int
	present    bool
}

// Added functions stand behind the original imports.
func (m *meter) yieldFunc() uint32    { return uint32(m.imported) }
func (m *meter) overflowFunc() uint32 { return uint32(m.imported + 1) }

const addedImports = 2

func (m *meter) funcIndex(i uint32) uint32 {
	if int(i) >= m.imported {
		return i + addedImports
	}
	return i
}

func (m *meter) fuelGlobal() uint32  { return uint32(m.globals) }
func (m *meter) depthGlobal() uint32 { return uint32(m.globals + 1) }

// Meter returns the module rewritten with fuel and depth metering. wasm should
// have passed Check; its form is checked again here, because the index checks
// keep a guest from reaching what is added. The result computes what the original does, with these additions:
//
//   - Every stretch of instructions is paid for, in units of about four, by
//     subtraction from FuelGlobal: at function entries, loop heads and, in large
//     functions, at the stretches between. At entries and loop heads, MeterYield is
//     called when the fuel is below zero; the host refills it and goes on, or panics
//     to stop the guest. Bulk operations are paid by length before they run,
//     memory.grow and table.grow by what they added.
//   - Functions that call others count themselves in DepthGlobal while they run, large
//     frames more than once. Over maxDepth, MeterDepth is called, which must not return.
//     A trap leaves the counter as it was: set it to 0 before each call from the host.
//
// The host provides both functions under MeterModule and sets the globals, which are
// exported. Costs depend on the path taken through the code only, so the same call
// on the same memory always uses the same fuel. Custom sections are dropped.
func Meter(wasm []byte, maxDepth int) ([]byte, error) {
	anyImport := func(module, _ string) bool { return module != MeterModule }
	if _, err := checkStructure(wasm, noCaps(), anyImport); err != nil {
		return nil, fmt.Errorf("metering: %w", err)
	}
	m := &meter{wasm: wasm, maxDepth: maxDepth}
	steps := []func() error{m.split, m.readTypes, m.readImports, m.readFunctions, m.summarize, m.write}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, fmt.Errorf("metering: %w", err)
		}
	}
	return m.out, nil
}

func (m *meter) reader(id byte) *reader {
	s := m.sections[id]
	return &reader{b: m.wasm, pos: s.start, end: s.end}
}

// split finds the sections.
func (m *meter) split() error {
	header := len(magic) + len(version)
	if len(m.wasm) < header || string(m.wasm[:header]) != magic+version {
		return errNotChecked
	}
	r := reader{b: m.wasm, pos: header, end: len(m.wasm)}
	for r.pos < len(m.wasm) {
		id := r.byte()
		size := int(r.u32())
		start := r.pos
		r.skip(size)
		if r.fault != nil {
			return r.fault
		}
		if id == sectionCustom {
			continue
		}
		if int(id) >= len(m.sections) || m.sections[id].present {
			return errNotChecked
		}
		m.sections[id] = section{start: start, end: r.pos, present: true}
	}
	return nil
}

func (m *meter) readTypes() error {
	c := checker{reader: *m.reader(sectionType), caps: Caps{Types: len(m.wasm)}}
	if m.sections[sectionType].present {
		c.typeSection()
	}
	if c.fault != nil {
		return c.fault
	}
	m.types = c.types
	m.typeCount = len(c.types)
	return nil
}

// typeOf returns the index of the type, which it appends unless it is there.
func (m *meter) typeOf(params, results string) uint32 {
	for i, t := range m.types {
		if string(t.params) == params && string(t.results) == results {
			return uint32(i)
		}
	}
	entry := binary.AppendUvarint([]byte{typeFunction}, uint64(len(params)))
	entry = append(entry, params...)
	entry = append(binary.AppendUvarint(entry, uint64(len(results))), results...)
	m.newTypes = append(m.newTypes, entry)
	m.types = append(m.types, funcType{params: []byte(params), results: []byte(results)})
	return uint32(len(m.types) - 1)
}

func (m *meter) readImports() error {
	if !m.sections[sectionImport].present {
		return nil
	}
	r := m.reader(sectionImport)
	for range r.u32() {
		r.skip(int(r.u32()))
		r.skip(int(r.u32()))
		if kind := r.byte(); kind != kindFunc {
			return errNotChecked
		}
		m.funcs = append(m.funcs, r.u32())
		if r.fault != nil {
			return r.fault
		}
	}
	m.imported = len(m.funcs)
	return nil
}

func (m *meter) readFunctions() error {
	if m.sections[sectionGlobal].present {
		r := m.reader(sectionGlobal)
		m.globals = int(r.u32())
	}
	if m.sections[sectionFunction].present {
		r := m.reader(sectionFunction)
		for range r.u32() {
			m.funcs = append(m.funcs, r.u32())
			if r.fault != nil {
				return r.fault
			}
		}
	}
	for _, t := range m.funcs {
		if int(t) >= len(m.types) {
			return errNotChecked
		}
	}
	return nil
}
