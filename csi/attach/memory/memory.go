// Package memory is a Backend that keeps its bytes in memory and forgets them at the end: for tests of frontends and
// of what lies on top of them, and to measure what a frontend alone costs.
//
// It completes each Request before Submit returns, counts them, and can be told to fail. Never-written bytes read as
// zeros and take no memory. Safe for concurrent use as package attach asks.
package memory

import (
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/csi/attach"
)

// maxBuffers bounds the buffers in use at a time; Buffer answers nil beyond it.
const maxBuffers = 256

// Backend implements attach.Backend, and initiator.Volume.
type Backend struct {
	bytes []byte
	// arena holds the memory of all buffers, free those that are not in use.
	arena  []byte
	free   chan *buffer
	counts [attach.OpWriteZeroes + 1]atomic.Int64
	fail   atomic.Pointer[error]
}

type buffer struct {
	bytes []byte
	home  chan *buffer
}

func (b *buffer) Bytes() []byte { return b.bytes }
func (b *buffer) Release()      { b.home <- b }

// New makes a Backend of size bytes, all zero.
func New(size int64) (*Backend, error) {
	bytes, err := reserve(int(size))
	if err != nil {
		return nil, err
	}
	arena, err := reserve(maxBuffers * attach.MaxIO)
	if err != nil {
		_ = unix.Munmap(bytes)
		return nil, err
	}
	b := &Backend{bytes: bytes, arena: arena, free: make(chan *buffer, maxBuffers)}
	for i := range maxBuffers {
		b.free <- &buffer{bytes: arena[i*attach.MaxIO : (i+1)*attach.MaxIO], home: b.free}
	}
	return b, nil
}

func reserve(size int) ([]byte, error) {
	const flags = unix.MAP_PRIVATE | unix.MAP_ANON | unix.MAP_NORESERVE
	bytes, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, flags)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w", size, err)
	}
	return bytes, nil
}

// Size in bytes.
func (b *Backend) Size() int64 { return int64(len(b.bytes)) }

// Bytes is the content, for tests to look at.
func (b *Backend) Bytes() []byte { return b.bytes }

// Count tells how many Requests of an operation were submitted.
func (b *Backend) Count(op attach.Op) int64 { return b.counts[op].Load() }

// Fail makes err the outcome of each Request from now on; nil ends that.
func (b *Backend) Fail(err error) {
	if err == nil {
		b.fail.Store(nil)
		return
	}
	b.fail.Store(&err)
}

// Buffer gives one of maxBuffers, or nil.
func (b *Backend) Buffer(int) attach.Buffer {
	select {
	case got := <-b.free:
		return got
	default:
		return nil
	}
}

// Kick has nothing to do.
func (b *Backend) Kick() {}

// Submit does what r asks for and completes it.
func (b *Backend) Submit(r *attach.Request) {
	b.counts[r.Op].Add(1)
	if fail := b.fail.Load(); fail != nil {
		r.Err = *fail
		r.Done.RequestDone(r)
		return
	}
	at := b.bytes[r.Offset : r.Offset+int64(r.Length)]
	switch r.Op {
	case attach.OpRead:
		copy(r.Buffer.Bytes(), at)
	case attach.OpWrite:
		copy(at, r.Buffer.Bytes()[:r.Length])
	case attach.OpDiscard, attach.OpWriteZeroes:
		clear(at)
	case attach.OpFlush:
	}
	r.Done.RequestDone(r)
}

// Fenced is never so.
func (b *Backend) Fenced() bool { return false }

// Addresses are those of no storenode.
func (b *Backend) Addresses() []string { return nil }

// Close gives the memory back; nobody uses the Backend any more.
func (b *Backend) Close() error {
	if err := unix.Munmap(b.bytes); err != nil {
		return fmt.Errorf("unmap: %w", err)
	}
	if err := unix.Munmap(b.arena); err != nil {
		return fmt.Errorf("unmap: %w", err)
	}
	return nil
}
