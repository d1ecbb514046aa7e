package buffer

import (
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/storenode/invariant"
)

// Alignment of each Buffer in memory, in bytes.
const Alignment = 4096

// classes are the sizes of Buffers, ascending; Get rounds up to one of them.
var classes = [...]int{4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20}

// MaxSize is the largest Buffer there is, in bytes.
const MaxSize = 1 << 20

// slabSize is what is mapped at a time, in bytes of address space; memory follows only when it is touched.
const slabSize = 4 << 20

// hugePage is how much memory one entry of the processor's tables can speak of, in bytes; hugeFrom is the smallest
// size of Buffers made of such: what is written from them is one piece for the kernel and the Device, not one for each
// 4 KiB.
const (
	hugePage = 2 << 20
	hugeFrom = 64 << 10
)

// Pool hands out Buffers. Its memory is mapped outside the Go heap and never moves.
//
// The limit bounds what is handed out and, together with what lies free, what is resident: memory that lies free in one
// size is returned to the kernel before another size grows past the limit. Of huge pages the kernel gives a whole one
// when its first byte is touched, so a part of one for each of the large sizes may be resident before it is counted.
type Pool struct {
	mu sync.Mutex
	// limit, inUse and resident in bytes: inUse <= resident <= limit.
	limit, inUse, resident int
	warm                   [len(classes)]*Buffer // free, with memory
	cold                   [len(classes)]*Buffer // free, without memory
	refused                uint64
}

// Stats are a Pool's figures, in bytes.
type Stats struct {
	Limit, InUse, Resident int
	// Refused counts the Gets that found the limit reached.
	Refused uint64
}

// New makes a Pool of at most limit bytes.
func New(limit int) *Pool {
	invariant.Check(limit >= MaxSize, "pool limit %d is below one buffer of %d", limit, MaxSize)
	return &Pool{limit: limit}
}

// Get is a Buffer of n bytes with one reference and arbitrary contents, or nil while the limit is reached.
func (p *Pool) Get(n int) *Buffer {
	class := classOf(n)
	size := classes[class]
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.inUse+size > p.limit {
		p.refused++
		return nil
	}
	b := p.warm[class]
	if b != nil {
		p.warm[class] = b.next
	} else {
		b = p.growLocked(class)
		if b == nil {
			p.refused++
			return nil
		}
	}
	p.inUse += size
	b.next = nil
	b.length = n
	b.summed = false
	b.references.Store(1)
	return b
}

// Use is how many bytes are in use, of how many.
func (p *Pool) Use() (inUse, limit int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.inUse, p.limit
}

// Stats are the figures now.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Stats{Limit: p.limit, InUse: p.inUse, Resident: p.resident, Refused: p.refused}
}

// growLocked gives a cold Buffer memory, taking it from other sizes if need be; nil if the kernel has none.
func (p *Pool) growLocked(class int) *Buffer {
	size := classes[class]
	for p.resident+size > p.limit {
		p.chillLocked()
	}
	if p.cold[class] == nil && p.mapLocked(class) != nil {
		return nil
	}
	b := p.cold[class]
	p.cold[class] = b.next
	p.resident += size
	if b.chilled {
		b.chilled = false
		advise(b.memory, unix.MADV_HUGEPAGE)
	}
	return b
}

// chillLocked returns the memory of one free Buffer, the largest, to the kernel.
func (p *Pool) chillLocked() {
	for class := len(classes) - 1; class >= 0; class-- {
		b := p.warm[class]
		if b == nil {
			continue
		}
		p.warm[class] = b.next
		b.next = p.cold[class]
		p.cold[class] = b
		p.resident -= classes[class]
		if classes[class] >= hugeFrom {
			b.chilled = true
			advise(b.memory, unix.MADV_NOHUGEPAGE) // else the kernel may make it whole again, out of memory
		}
		advise(b.memory, unix.MADV_DONTNEED)
		return
	}
	invariant.Check(false, "resident %d bytes, in use %d, and nothing is free", p.resident, p.inUse)
}

func (p *Pool) mapLocked(class int) error {
	memory, err := mapSlab()
	if err != nil {
		return err
	}
	size := classes[class]
	if size >= hugeFrom {
		advise(memory, unix.MADV_HUGEPAGE)
	}
	buffers := make([]Buffer, slabSize/size)
	sums := make([]uint32, slabSize/Alignment)
	for i := range buffers {
		b := &buffers[i]
		b.pool, b.class = p, class
		b.memory = memory[i*size : (i+1)*size : (i+1)*size]
		b.sums = sums[i*size/Alignment : (i+1)*size/Alignment : (i+1)*size/Alignment]
		b.next = p.cold[class]
		p.cold[class] = b
	}
	return nil
}

// mapSlab is slabSize of address space that begins with a huge page. What is mapped beside it is never touched.
func mapSlab() ([]byte, error) {
	memory, err := unix.Mmap(-1, 0, slabSize+hugePage, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w", slabSize+hugePage, err)
	}
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(memory))) % hugePage
	return memory[skip : skip+slabSize], nil
}

// advise tells the kernel what is meant with memory. One that does not know it costs speed, or our figures' truth.
func advise(memory []byte, advice int) { _ = unix.Madvise(memory, advice) }

func (p *Pool) put(b *Buffer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inUse -= classes[b.class]
	b.next = p.warm[b.class]
	p.warm[b.class] = b
}

func classOf(n int) int {
	for class, size := range classes {
		if n <= size {
			return class
		}
	}
	panic(fmt.Sprintf("invariant broken: buffer of %d bytes asked for, at most %d", n, MaxSize))
}

// Buffer is counted, aligned memory. It is made by Pool.Get alone.
type Buffer struct {
	pool       *Pool
	memory     []byte
	class      int
	length     int
	references atomic.Int32
	next       *Buffer
	// sums are checksums of its 4 KiB parts, if summed.
	sums   []uint32
	summed bool
	// chilled: its memory was returned to the kernel, and is no part of a huge page.
	chilled bool
}

// Bytes are the Buffer's contents, as long as was asked for.
func (b *Buffer) Bytes() []byte { return b.memory[:b.length] }

// Len is the length of Bytes.
func (b *Buffer) Len() int { return b.length }

// Resize changes the length of Bytes, up to the room there is (Cap).
func (b *Buffer) Resize(n int) {
	if n < 0 || n > len(b.memory) { // a Check's arguments would be allocated each time
		invariant.Check(false, "buffer of %d bytes resized to %d", len(b.memory), n)
	}
	b.length = n
}

// SetSums says that the checksums of the 4 KiB parts are in SumsRoom. Nobody changes the bytes any more.
func (b *Buffer) SetSums() { b.summed = true }

// DropSums forgets them: somebody else may change the bytes from now on, or has.
func (b *Buffer) DropSums() { b.summed = false }

// SumsRoom is where the checksums of the 4 KiB parts of Bytes go.
func (b *Buffer) SumsRoom() []uint32 { return b.sums[:b.length/Alignment] }

// Sums are the checksums of the 4 KiB parts of Bytes, or nil if nobody has summed them.
func (b *Buffer) Sums() []uint32 {
	if !b.summed {
		return nil
	}
	return b.sums[:b.length/Alignment]
}

// Cap is the largest length Resize takes.
func (b *Buffer) Cap() int { return len(b.memory) }

// Retain adds a reference.
func (b *Buffer) Retain() {
	invariant.Check(b.references.Add(1) > 1, "a free buffer was retained")
}

// Release drops a reference; with the last one the memory goes back to the Pool.
func (b *Buffer) Release() {
	left := b.references.Add(-1)
	invariant.Check(left >= 0, "a free buffer was released")
	if left == 0 {
		b.pool.put(b)
	}
}
