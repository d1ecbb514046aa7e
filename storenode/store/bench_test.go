package store_test

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/engine/uring"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/layout"
	"github.com/shale-storage/shale/storenode/store"
)

// monitor is the Owner of a real Device.
type monitor struct {
	mu     sync.Mutex
	s      *store.Store
	device *uring.Device
}

func (m *monitor) Enter() { m.mu.Lock() }
func (m *monitor) Leave() {
	switch {
	case m.s != nil:
		m.s.Kick()
	case m.device != nil:
		m.device.Kick()
	}
	m.mu.Unlock()
}

// onDisk is a Store on a sparse file, with one Replica.
func onDisk(tb testing.TB, size int64) (*monitor, store.Handle) {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "device.img")
	f, err := os.Create(path)
	if err != nil {
		tb.Fatal(err)
	}
	if err := f.Truncate(2 * size); err != nil {
		tb.Fatal(err)
	}
	_ = f.Close()
	m := &monitor{}
	if m.device, err = uring.Open(path, m); errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		tb.Skipf("this kernel does not allow io_uring: %v", err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	o := store.Options{Owner: m, Log: slog.New(slog.DiscardHandler)}
	if err := store.Format(m.device, o, layout.Superblock{UUID: ident.UUID{1}, Salt: 1}); err != nil {
		tb.Fatal(err)
	}
	s, err := store.Open(m.device, o)
	if err != nil {
		tb.Fatal(err)
	}
	created := make(chan store.Handle, 1)
	m.Enter()
	m.s = s
	s.CreateReplica(key(0), size, func(h store.Handle, _ error) { created <- h })
	m.Leave()
	return m, <-created
}

// load keeps IOs in flight until left is used up.
type load struct {
	m    *monitor
	size int64
	left int
	seq  ident.Seq
	done chan struct{}
}

func (l *load) IODone(io *store.IO) {
	if io.Err != nil {
		panic(io.Err)
	}
	if l.left--; l.left < 0 {
		l.done <- struct{}{}
		return
	}
	l.seq++
	io.Seq, io.Epoch = l.seq, 1
	io.Offset = rand.Int64N(l.size/int64(io.Length)) * int64(io.Length)
	l.m.s.Submit(io)
}

func benchmark(b *testing.B, op store.Op, depth int) {
	b.Helper()
	const size = 256 << 20
	m, h := onDisk(b, size)
	memory := buffer.New(128 << 20)
	run := func(op store.Op, n, depth, length int) {
		l := &load{m: m, size: size, left: n, done: make(chan struct{}, depth)}
		m.Enter()
		for range depth {
			l.IODone(&store.IO{Op: op, Replica: h, Length: length, Buf: memory.Get(length), Done: l})
		}
		m.Leave()
		for range depth {
			<-l.done
		}
	}
	run(store.OpWrite, 2048, 8, 1<<20) // so that most blocks are written
	b.ReportAllocs()
	b.ResetTimer()
	run(op, b.N, depth, block)
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "iops")
	if err := m.s.Close(); err != nil {
		b.Error(err)
	}
}

func BenchmarkWrite1(b *testing.B)  { benchmark(b, store.OpWrite, 1) }
func BenchmarkWrite32(b *testing.B) { benchmark(b, store.OpWrite, 32) }
func BenchmarkRead1(b *testing.B)   { benchmark(b, store.OpRead, 1) }
func BenchmarkRead32(b *testing.B)  { benchmark(b, store.OpRead, 32) }

// BenchmarkOpen opens a Device that counts as 16 GiB used: each Extent has one Block.
func BenchmarkOpen(b *testing.B) {
	const size, depth = 16 << 30, 64
	m, h := onDisk(b, size)
	memory := buffer.New(1 << 20)
	l := &stride{m: m, size: size, done: make(chan struct{}, depth)}
	m.Enter()
	for range depth {
		l.IODone(&store.IO{Op: store.OpWrite, Replica: h, Length: block, Buf: memory.Get(block), Done: l})
	}
	m.Leave()
	for range depth {
		<-l.done
	}
	path, o := m.s.Path(), store.Options{Owner: m, Log: slog.New(slog.DiscardHandler)}
	for b.Loop() {
		b.StopTimer()
		err := m.s.Close()
		m.s = nil
		b.StartTimer()
		if err == nil {
			m.device, err = uring.Open(path, m)
		}
		if err == nil {
			m.s, err = store.Open(m.device, o)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := m.s.Close(); err != nil {
		b.Error(err)
	}
}

// stride writes one Block of each MiB.
type stride struct {
	m        *monitor
	at, size int64
	done     chan struct{}
}

func (l *stride) IODone(io *store.IO) {
	if io.Err != nil {
		panic(io.Err)
	}
	if l.at == l.size {
		l.done <- struct{}{}
		return
	}
	io.Seq, io.Epoch, io.Offset = ident.Seq(l.at>>20)+1, 1, l.at
	l.at += 1 << 20
	l.m.s.Submit(io)
}
