package host

import (
	"context"
	"runtime"

	"github.com/tetratelabs/wazero/experimental"
)

// linearMemory is the memory of one instance. The engine asks it for every
// byte, so the limit is the instance's own, and a guest that dies because it
// got no more can be told from one that died of something else.
//
// It is a reservation of address space as large as the limit, of which the guest has as much as it
// asked for. So growing copies nothing, what a guest does not touch costs nothing, and all of it is given
// back at once: in the heap a guest that grows step by step would leave several times its memory to the
// garbage collector.
type linearMemory struct {
	limit    uint64
	denied   bool // since the flag was last cleared
	reserved *reservation
	size     uint64
	cleanup  runtime.Cleanup
}

var _ experimental.LinearMemory = (*linearMemory)(nil)

// withMemory returns a context that instantiates a module with m as its memory.
func withMemory(ctx context.Context, m *linearMemory) context.Context {
	return experimental.WithMemoryAllocator(ctx, experimental.MemoryAllocatorFunc(
		func(uint64, uint64) experimental.LinearMemory { return m }))
}

// Reallocate implements experimental.LinearMemory.
func (m *linearMemory) Reallocate(size uint64) []byte {
	if size > m.limit {
		m.denied = true
		return nil
	}
	if m.reserved == nil {
		r, err := reserve(m.limit)
		if err != nil {
			m.denied = true
			return nil
		}
		m.reserved = r
		// For an instance that is given up without being closed.
		m.cleanup = runtime.AddCleanup(m, (*reservation).release, r)
	}
	if size > m.size {
		if err := m.reserved.grow(size); err != nil {
			m.denied = true
			return nil
		}
		m.size = size
	}
	return m.reserved.bytes[:m.size:m.size]
}

// Free implements experimental.LinearMemory.
func (m *linearMemory) Free() {
	if m.reserved != nil {
		m.cleanup.Stop()
		m.reserved.release()
		m.reserved, m.size = nil, 0
	}
}
