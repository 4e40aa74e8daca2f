package wire

import (
	"math/bits"
	"sync"
)

// Buffers of up to smallBufferBytes stay with their connection; larger ones
// go back to the pool after each request, so that memory follows the requests
// in flight and not the connections that are open.
const (
	smallBufferBytes = 4 << 10
	minPooledShift   = 16 // 64 KiB
	maxPooledShift   = 27 // 128 MiB
)

// bufferPool keeps buffers by powers of two.
type bufferPool struct {
	classes [maxPooledShift - minPooledShift + 1]sync.Pool
}

// get returns an empty buffer with room for n bytes.
func (p *bufferPool) get(n int) []byte {
	class := max(bits.Len(uint(max(n, 1)-1)), minPooledShift) - minPooledShift
	if class >= len(p.classes) {
		return make([]byte, 0, n)
	}
	if b, ok := p.classes[class].Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return make([]byte, 0, 1<<(class+minPooledShift))
}

// put takes a buffer back, if it is large enough to be worth it; the caller forgets it.
func (p *bufferPool) put(b []byte) {
	// The class whose every buffer is at most as large as b.
	class := bits.Len(uint(cap(b))) - 1 - minPooledShift
	if class < 0 || class >= len(p.classes) {
		return
	}
	p.classes[class].Put(&b)
}
