package sim_test

import (
	"sync"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/engine/mem"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/layout"
	"github.com/shale-storage/shale/storenode/store"
)

// memory is what one run after the other uses, on one goroutine. The product's processes give theirs back by ending;
// ours would take more with each seed.
type memory struct {
	// pool is the clients' and, in most runs, the nodes'; in the others each has one of scarce.
	pool   *buffer.Pool
	scarce [nodes]*buffer.Pool
	// free are the buffers of Stores that are gone, by size.
	free map[int][][]byte
}

func newMemory() *memory {
	m := &memory{pool: buffer.New(poolSize), free: map[int][][]byte{}}
	for i := range m.scarce {
		m.scarce[i] = buffer.New(scarceSize)
	}
	return m
}

// inUse are the payloads that somebody has, in bytes.
func (m *memory) inUse() int {
	all, _ := m.pool.Use()
	for _, p := range m.scarce {
		n, _ := p.Use()
		all += n
	}
	return all
}

// heap is the memory of one Store. It implements store.Memory.
type heap struct {
	m     *memory
	taken [][]byte
}

// Map implements store.Memory. What was in a buffer stays there, as a Store may find anything in it.
func (h *heap) Map(n int) ([]byte, error) {
	var b []byte
	if free := h.m.free[n]; len(free) > 0 {
		b, h.m.free[n] = free[len(free)-1], free[:len(free)-1]
	} else {
		b = make([]byte, n)
	}
	h.taken = append(h.taken, b)
	return b, nil
}

// Unmap implements store.Memory.
func (h *heap) Unmap(b []byte) {
	for i := range h.taken {
		if len(b) > 0 && &h.taken[i][0] == &b[0] {
			h.taken[i] = h.taken[len(h.taken)-1]
			h.taken = h.taken[:len(h.taken)-1]
			h.m.free[len(b)] = append(h.m.free[len(b)], b)
			return
		}
	}
}

// release takes all back from a Store that is gone.
func (h *heap) release() {
	for len(h.taken) > 0 {
		h.Unmap(h.taken[0])
	}
}

// formatted are the nodes' Devices before their first start: the same in each run, so they are formatted once.
var formatted = sync.OnceValues(func() (images [nodes]*mem.Device, err error) {
	for i := range images {
		images[i] = mem.New(mem.Options{Size: deviceSize})
		options := store.Options{Owner: nobody{}, Settle: images[i].Drain, Boot: firstBoot(i)}
		super := layout.Superblock{UUID: uuidOf(i), Pool: "sim", Salt: uint64(i) + 77}
		if err := store.Format(images[i], options, super); err != nil {
			return images, err
		}
	}
	return images, nil
})

// nobody owns a Device that only one goroutine knows.
type nobody struct{}

// Enter implements engine.Owner.
func (nobody) Enter() {}

// Leave implements engine.Owner.
func (nobody) Leave() {}

func uuidOf(index int) ident.UUID { return ident.UUID{0xd0, byte(index)} }

// firstBoot names the first run of a node's machine.
func firstBoot(index int) uint64 { return uint64(index)<<32 + 1 }
