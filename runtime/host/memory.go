package host

import (
	"context"

	"github.com/tetratelabs/wazero/experimental"
)

// linearMemory is the memory of one instance. The engine asks it for every
// byte, so the limit is the instance's own, and a guest that dies because it
// got no more can be told from one that died of something else.
type linearMemory struct {
	limit  uint64
	denied bool // since the flag was last cleared
	buffer []byte
}

var _ experimental.LinearMemory = (*linearMemory)(nil)

// withMemory returns a context that instantiates a module with m as its memory.
func withMemory(ctx context.Context, m *linearMemory) context.Context {
	return experimental.WithMemoryAllocator(ctx, experimental.MemoryAllocatorFunc(
		func(uint64, uint64) experimental.LinearMemory { return m }))
}

// Reallocate implements experimental.LinearMemory. It takes a quarter more than
// asked for, because growing again copies everything.
func (m *linearMemory) Reallocate(size uint64) []byte {
	if size > m.limit {
		m.denied = true
		return nil
	}
	if size > uint64(cap(m.buffer)) {
		capacity := size
		if len(m.buffer) > 0 {
			capacity = min(size+size/4, m.limit)
		}
		grown := make([]byte, size, capacity)
		copy(grown, m.buffer)
		m.buffer = grown
	}
	m.buffer = m.buffer[:size]
	return m.buffer
}

// Free implements experimental.LinearMemory.
func (m *linearMemory) Free() { m.buffer = nil }
