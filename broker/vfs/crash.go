package vfs

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// sectorBytes is what a disk writes as one piece: a write that is in flight
// when power goes is torn at its borders.
const sectorBytes = 512

// CrashClone returns the file system as a power cut at this moment would
// leave it; the original goes on undisturbed. With seed 0 everything that was
// not synced is lost. Any other seed chooses, repeatably, for each write that
// was not synced whether it is lost, kept, or torn by sector, and for each
// directory whether its unsynced changes are lost, kept up to some point, or
// kept here and there. A rename is never torn: POSIX makes it atomic.
func (m *Mem) CrashClone(seed uint64) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := NewMem()
	var rng *rand.Rand
	if seed != 0 {
		rng = rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))
	}
	c.root = crashNode(m.root, rng, map[*memNode]*memNode{})
	c.used = c.root.bytes()
	return c
}

// Clone returns the file system as the end of the process (kill -9) leaves
// it: everything written is there, what was not synced is still at risk.
func (m *Mem) Clone() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := NewMem()
	c.limit, c.used = m.limit, m.used
	c.root = cloneNode(m.root, map[*memNode]*memNode{})
	return c
}

func cloneNode(n *memNode, done map[*memNode]*memNode) *memNode {
	if n == nil {
		return nil
	}
	if c := done[n]; c != nil {
		return c
	}
	c := &memNode{dir: n.dir}
	done[n] = c
	if !n.dir {
		c.data, c.durable, c.writes = slices.Clone(n.data), slices.Clone(n.durable), slices.Clone(n.writes)
		return c
	}
	cloneNames := func(names map[string]*memNode) map[string]*memNode {
		out := map[string]*memNode{}
		for name, child := range names {
			out[name] = cloneNode(child, done)
		}
		return out
	}
	c.names, c.durableNames = cloneNames(n.names), cloneNames(n.durableNames)
	for _, change := range n.changes {
		change.node = cloneNode(change.node, done)
		c.changes = append(c.changes, change)
	}
	return c
}

// crashNode clones a node; done keeps a file that is reached by two names one file.
func crashNode(n *memNode, rng *rand.Rand, done map[*memNode]*memNode) *memNode {
	if c := done[n]; c != nil {
		return c
	}
	c := &memNode{dir: n.dir}
	done[n] = c
	if !n.dir {
		c.data = crashData(n, rng)
		c.durable = append([]byte(nil), c.data...)
		return c
	}
	survivors := maps.Clone(n.durableNames)
	for _, change := range surviving(n.changes, rng) {
		change.apply(survivors)
	}
	c.names = map[string]*memNode{}
	for _, name := range sortedNames(survivors) { // in order: the choices must repeat
		c.names[name] = crashNode(survivors[name], rng, done)
	}
	c.durableNames = maps.Clone(c.names)
	return c
}

func crashData(n *memNode, rng *rand.Rand) []byte {
	data := append([]byte(nil), n.durable...)
	if rng == nil {
		return data
	}
	lossy := rng.IntN(3) // 0: all lost, 1: all kept but the last, which may be torn, 2: each by itself
	for i, w := range n.writes {
		last := i == len(n.writes)-1
		switch {
		case lossy == 0:
			return data
		case lossy == 1 && !last:
			data = w.apply(data)
		default:
			data = crashWrite(data, w, rng)
		}
	}
	return data
}

// crashWrite applies the part of a write that made it.
func crashWrite(data []byte, w memWrite, rng *rand.Rand) []byte {
	switch rng.IntN(3) {
	case 0:
		return data
	case 1:
		return w.apply(data)
	}
	if w.data == nil {
		return data
	}
	if rng.IntN(2) == 0 { // the file grew, but the bytes did not all arrive: holes read as zeros
		data = memWrite{offset: max(w.offset+int64(len(w.data)), int64(len(data)))}.apply(data)
	}
	for at := 0; at < len(w.data); {
		end := min(at+sectorBytes-int((w.offset+int64(at))%sectorBytes), len(w.data))
		if rng.IntN(2) == 0 {
			data = memWrite{offset: w.offset + int64(at), data: w.data[at:end]}.apply(data)
		}
		at = end
	}
	return data
}

func surviving(changes []nameChange, rng *rand.Rand) []nameChange {
	if rng == nil || len(changes) == 0 {
		return nil
	}
	switch rng.IntN(3) {
	case 0:
		return nil
	case 1:
		return changes[:rng.IntN(len(changes)+1)]
	}
	var out []nameChange
	for _, c := range changes {
		if rng.IntN(2) == 0 {
			out = append(out, c)
		}
	}
	return out
}

func sortedNames(m map[string]*memNode) []string { return slices.Sorted(maps.Keys(m)) }
