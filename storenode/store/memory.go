package store

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Memory gives buffers that a Device can read and write: aligned to 4096, with arbitrary contents. What a Store keeps
// it never gives back, since it lives as long as its process; whoever runs many Stores one after the other has a Memory
// that takes back what a dead one had.
type Memory interface {
	Map(n int) ([]byte, error)
	Unmap(b []byte)
}

// kernel is the Memory of the product.
type kernel struct{}

// Map implements Memory.
func (kernel) Map(n int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w", n, err)
	}
	return b, nil
}

// Unmap implements Memory.
func (kernel) Unmap(b []byte) {
	if len(b) > 0 {
		_ = unix.Munmap(b) // memory of our own: it cannot fail
	}
}

func (o *Options) memory() Memory {
	if o.Memory == nil {
		return kernel{}
	}
	return o.Memory
}
