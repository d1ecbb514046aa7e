package loop

import (
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/csi/attach"
)

// memory is a Backend in memory that completes each Request before Submit returns and counts what it was asked for.
type memory struct {
	bytes   []byte
	buffers sync.Pool
	counts  [attach.OpWriteZeroes + 1]atomic.Int64
	// fail is the outcome of each Request.
	fail atomic.Pointer[error]
}

type plain struct {
	bytes []byte
	home  *sync.Pool
}

func (p *plain) Bytes() []byte { return p.bytes }
func (p *plain) Release()      { p.home.Put(p) }

func newMemory(t testing.TB, size int64) *memory {
	t.Helper()
	bytes, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		t.Fatalf("map %d bytes: %v", size, err)
	}
	m := &memory{bytes: bytes}
	m.buffers.New = func() any {
		raw := make([]byte, attach.MaxIO+attach.BlockSize)
		skip := -int(uintptr(unsafe.Pointer(&raw[0]))) & (attach.BlockSize - 1)
		return &plain{bytes: raw[skip : skip+attach.MaxIO], home: &m.buffers}
	}
	t.Cleanup(func() { _ = unix.Munmap(bytes) })
	return m
}

func (m *memory) Size() int64              { return int64(len(m.bytes)) }
func (m *memory) Buffer(int) attach.Buffer { return m.buffers.Get().(*plain) }
func (m *memory) Kick()                    {}

func (m *memory) Submit(r *attach.Request) {
	m.counts[r.Op].Add(1)
	if fail := m.fail.Load(); fail != nil {
		r.Err = *fail
		r.Done.RequestDone(r)
		return
	}
	at := m.bytes[r.Offset : r.Offset+int64(r.Length)]
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

func (m *memory) count(op attach.Op) int64 { return m.counts[op].Load() }
