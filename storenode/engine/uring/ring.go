package uring

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel's interface: see io_uring_setup(2), io_uring_enter(2).
const (
	opFsync     = 3
	opNop       = 0
	opFallocate = 17
	opRead      = 22
	opWrite     = 23

	fsyncDatasync   = 1
	setupClamp      = 1 << 4
	offsetSQRing    = 0
	offsetSQEntries = 0x10000000
	featSingleMmap  = 1
)

type sqOffsets struct {
	head, tail, ringMask, ringEntries, flags, dropped, array, resv1 uint32
	userAddr                                                        uint64
}

type cqOffsets struct {
	head, tail, ringMask, ringEntries, overflow, cqes, flags, resv1 uint32
	userAddr                                                        uint64
}

type params struct {
	sqEntries, cqEntries, flags, sqThreadCPU, sqThreadIdle, features, wqFd uint32
	resv                                                                   [3]uint32
	sq                                                                     sqOffsets
	cq                                                                     cqOffsets
}

// sqe is a submission entry, 64 bytes.
type sqe struct {
	opcode   uint8
	flags    uint8
	ioprio   uint16
	fd       int32
	offset   uint64
	addr     uint64
	length   uint32
	opFlags  uint32
	userData uint64
	_        [3]uint64
}

// cqe is a completion entry, 16 bytes.
type cqe struct {
	userData uint64
	result   int32
	flags    uint32
}

// ring is an io_uring instance.
type ring struct {
	fd      int
	memory  []byte
	entries []byte

	sqHead, sqTail *uint32
	sqMask         uint32
	sqes           []sqe
	// filled are the entries that the kernel has not been told of.
	filled uint32

	cqHead, cqTail *uint32
	cqMask         uint32
	cqes           []cqe
}

func newRing(size uint32) (*ring, error) {
	p := params{flags: setupClamp}
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, uintptr(size), uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, fmt.Errorf("set up io_uring: %w", errno)
	}
	r := &ring{fd: int(fd)}
	if p.features&featSingleMmap == 0 {
		r.close()
		return nil, fmt.Errorf("set up io_uring: kernel is older than 5.4: %w", errors.ErrUnsupported)
	}
	if err := r.mapQueues(&p); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *ring) mapQueues(p *params) error {
	sqSize := p.sq.array + p.sqEntries*4
	cqSize := p.cq.cqes + p.cqEntries*uint32(unsafe.Sizeof(cqe{}))
	var err error
	const shared = unix.MAP_SHARED | unix.MAP_POPULATE
	const access = unix.PROT_READ | unix.PROT_WRITE
	if r.memory, err = unix.Mmap(r.fd, offsetSQRing, int(max(sqSize, cqSize)), access, shared); err != nil {
		return fmt.Errorf("map io_uring: %w", err)
	}
	r.entries, err = unix.Mmap(r.fd, offsetSQEntries, int(p.sqEntries)*int(unsafe.Sizeof(sqe{})),
		access, shared)
	if err != nil {
		return fmt.Errorf("map io_uring entries: %w", err)
	}
	at := func(offset uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.memory[offset])) }
	r.sqHead, r.sqTail, r.sqMask = at(p.sq.head), at(p.sq.tail), *at(p.sq.ringMask)
	r.cqHead, r.cqTail, r.cqMask = at(p.cq.head), at(p.cq.tail), *at(p.cq.ringMask)
	r.sqes = unsafe.Slice((*sqe)(unsafe.Pointer(&r.entries[0])), p.sqEntries)
	r.cqes = unsafe.Slice((*cqe)(unsafe.Pointer(&r.memory[p.cq.cqes])), p.cqEntries)
	// Entry i of the array stands for entry i of the queue, for ever.
	array := unsafe.Slice(at(p.sq.array), p.sqEntries)
	for i := range array {
		array[i] = uint32(i)
	}
	return nil
}

// next is a cleared entry; the caller knows that there is room.
func (r *ring) next() *sqe {
	e := &r.sqes[(*r.sqTail+r.filled)&r.sqMask]
	r.filled++
	*e = sqe{}
	return e
}

// submit tells the kernel of all filled entries.
func (r *ring) submit() error {
	if r.filled == 0 {
		return nil
	}
	atomic.StoreUint32(r.sqTail, *r.sqTail+r.filled)
	r.filled = 0
	for {
		// A submission never blocks here, so the scheduler need not hear of it.
		left := *r.sqTail - atomic.LoadUint32(r.sqHead)
		if left == 0 {
			return nil
		}
		_, _, errno := unix.RawSyscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(left), 0, 0, 0, 0)
		if errno != 0 && errno != unix.EINTR && errno != unix.EAGAIN && errno != unix.EBUSY {
			return os.NewSyscallError("io_uring_enter", errno)
		}
	}
}

// completion takes the oldest completion.
func (r *ring) completion() (cqe, bool) {
	head := *r.cqHead
	if head == atomic.LoadUint32(r.cqTail) {
		return cqe{}, false
	}
	c := r.cqes[head&r.cqMask]
	atomic.StoreUint32(r.cqHead, head+1)
	return c, true
}

func (r *ring) close() {
	if r.entries != nil {
		_ = unix.Munmap(r.entries)
	}
	if r.memory != nil {
		_ = unix.Munmap(r.memory)
	}
	_ = unix.Close(r.fd) // all that was in flight has ended
}
