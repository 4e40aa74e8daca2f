//go:build unix

package host

import "golang.org/x/sys/unix"

// reservation is address space; the part below usable can be read and written.
type reservation struct {
	bytes  []byte
	usable uint64
}

// reserve takes address space, which counts for nothing yet, under no limit of the process.
func reserve(size uint64) (*reservation, error) {
	b, err := unix.Mmap(-1, 0, int(max(size, 1)), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, err
	}
	return &reservation{bytes: b}, nil
}

// grow makes the part below size usable; it is zero.
func (r *reservation) grow(size uint64) error {
	// Whole pages of any machine: Wasm's have 64 KiB.
	if err := unix.Mprotect(r.bytes[r.usable:size], unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return err
	}
	r.usable = size
	return nil
}

func (r *reservation) release() {
	_ = unix.Munmap(r.bytes) // it fails for no mapping that Mmap gave
}
