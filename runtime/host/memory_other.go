//go:build !unix

package host

// reservation is heap memory where address space cannot be reserved: growing copies.
type reservation struct{ bytes []byte }

func reserve(uint64) (*reservation, error) { return &reservation{}, nil }

func (r *reservation) grow(size uint64) error {
	grown := make([]byte, size)
	copy(grown, r.bytes)
	r.bytes = grown
	return nil
}

func (r *reservation) release() { r.bytes = nil }
