package module

import "encoding/binary"

// write puts the sections of the rewritten module together. Types come last
// into being, since bodies ask for new ones.
func (m *meter) write() error {
	empty := m.typeOf("", "")
	code, err := m.codeSection()
	if err != nil {
		return err
	}
	m.out = make([]byte, 0, len(code)+len(m.wasm)/2)
	m.out = append(append(m.out, magic...), version...)
	m.vector(sectionType, len(m.newTypes), func(out []byte) []byte {
		for _, t := range m.newTypes {
			out = append(out, t...)
		}
		return out
	})
	m.vector(sectionImport, addedImports, func(out []byte) []byte {
		for _, name := range []string{MeterYield, MeterDepth} {
			out = append(appendName(appendName(out, MeterModule), name), kindFunc)
			out = binary.AppendUvarint(out, uint64(empty))
		}
		return out
	})
	m.copySection(sectionFunction)
	m.copySection(sectionTable)
	m.copySection(sectionMemory)
	if err := m.globalSection(); err != nil {
		return err
	}
	if err := m.exportSection(); err != nil {
		return err
	}
	if m.sections[sectionStart].present {
		r := m.reader(sectionStart)
		m.out = appendSection(m.out, sectionStart, binary.AppendUvarint(nil, uint64(m.funcIndex(r.u32()))))
	}
	if err := m.elementSection(); err != nil {
		return err
	}
	m.copySection(sectionDataCount)
	if m.sections[sectionCode].present {
		m.out = appendSection(m.out, sectionCode, code)
	}
	m.copySection(sectionData)
	return nil
}

func (m *meter) copySection(id byte) {
	if s := m.sections[id]; s.present {
		m.out = appendSection(m.out, id, m.wasm[s.start:s.end])
	}
}

// vector copies a section and appends entries to it.
func (m *meter) vector(id byte, added int, more func([]byte) []byte) {
	s := m.sections[id]
	r := m.reader(id)
	n := 0
	if s.present {
		n = int(r.u32())
	}
	content := binary.AppendUvarint(nil, uint64(n+added))
	content = append(content, m.wasm[r.pos:s.end]...)
	m.out = appendSection(m.out, id, more(content))
}

// constant copies a constant expression with its function index moved.
func (m *meter) constant(r *reader, out []byte) []byte {
	var in instruction
	for r.next(&in) {
		if in.op == opRefFunc {
			out = binary.AppendUvarint(append(out, opRefFunc), uint64(m.funcIndex(in.x)))
		} else {
			out = append(out, m.wasm[in.start:r.pos]...)
		}
		if in.op == opEnd {
			break
		}
	}
	return out
}

func (m *meter) globalSection() error {
	r := m.reader(sectionGlobal)
	if m.sections[sectionGlobal].present {
		r.u32()
	}
	content := binary.AppendUvarint(nil, uint64(m.globals+2))
	for range m.globals {
		start := r.pos
		r.skip(2)
		if r.fault != nil {
			return r.fault
		}
		content = append(content, m.wasm[start:r.pos]...)
		content = m.constant(r, content)
		if r.fault != nil {
			return r.fault
		}
	}
	const mutable = 1
	content = append(content, typeI64, mutable, opI64Const, 0, opEnd)
	content = append(content, typeI32, mutable, opI32Const, 0, opEnd)
	m.out = appendSection(m.out, sectionGlobal, content)
	return nil
}

func (m *meter) exportSection() error {
	r := m.reader(sectionExport)
	n := 0
	if m.sections[sectionExport].present {
		n = int(r.u32())
	}
	content := binary.AppendUvarint(nil, uint64(n+2))
	for range n {
		start := r.pos
		r.skip(int(r.u32()))
		kind := r.byte()
		if r.fault != nil {
			return r.fault
		}
		content = append(content, m.wasm[start:r.pos]...)
		index := r.u32()
		if kind == kindFunc {
			index = m.funcIndex(index)
		}
		content = binary.AppendUvarint(content, uint64(index))
	}
	if r.fault != nil {
		return r.fault
	}
	content = append(appendName(content, FuelGlobal), kindGlobal)
	content = binary.AppendUvarint(content, uint64(m.fuelGlobal()))
	content = append(appendName(content, DepthGlobal), kindGlobal)
	content = binary.AppendUvarint(content, uint64(m.depthGlobal()))
	m.out = appendSection(m.out, sectionExport, content)
	return nil
}

// elementSection copies all eight forms of segments with function indices moved.
func (m *meter) elementSection() error {
	if !m.sections[sectionElement].present {
		return nil
	}
	r := m.reader(sectionElement)
	n := r.u32()
	content := binary.AppendUvarint(nil, uint64(n))
	for range n {
		flags := r.u32()
		content = binary.AppendUvarint(content, uint64(flags))
		if flags&1 == 0 {
			if flags&2 != 0 {
				content = binary.AppendUvarint(content, uint64(r.u32()))
			}
			content = m.constant(r, content)
		}
		if flags&3 != 0 {
			content = append(content, r.byte())
		}
		entries := r.u32()
		if r.fault != nil {
			return r.fault
		}
		content = binary.AppendUvarint(content, uint64(entries))
		for range entries {
			if flags&4 != 0 {
				content = m.constant(r, content)
			} else {
				content = binary.AppendUvarint(content, uint64(m.funcIndex(r.u32())))
			}
			if r.fault != nil {
				return r.fault
			}
		}
	}
	if r.fault != nil {
		return r.fault
	}
	m.out = appendSection(m.out, sectionElement, content)
	return nil
}
