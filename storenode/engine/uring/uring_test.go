package uring_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/storenode/engine"
	"github.com/shale-storage/shale/storenode/engine/enginetest"
	"github.com/shale-storage/shale/storenode/engine/uring"
)

// sparseFile makes a file on a filesystem that knows O_DIRECT.
func sparseFile(tb testing.TB, size int64) string {
	tb.Helper()
	return fileIn(tb, tb.TempDir(), size)
}

func fileIn(tb testing.TB, dir string, size int64) string {
	tb.Helper()
	path := filepath.Join(dir, "device.img")
	f, err := os.Create(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		tb.Fatal(err)
	}
	return path
}

func open(tb testing.TB, path string, m *enginetest.Monitor) *uring.Device {
	tb.Helper()
	d, err := uring.Open(path, m)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		tb.Skipf("this kernel does not allow io_uring: %v", err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

func TestAFilePassesTheSuite(t *testing.T) {
	enginetest.Run(t, func(t *testing.T, m *enginetest.Monitor) engine.Device {
		t.Helper()
		return open(t, sparseFile(t, 16<<20), m)
	})
}

func TestADeviceIsHeldExclusively(t *testing.T) {
	path := sparseFile(t, 1<<20)
	m := &enginetest.Monitor{}
	d := open(t, path, m)
	m.Device = d
	if second, err := uring.Open(path, m); !errors.Is(err, unix.EBUSY) {
		t.Errorf("a second open gave %v, %v", second, err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if again := open(t, path, m); again.Close() != nil {
		t.Error("cannot close")
	}
}

// TestADeviceIsOpenedPastThePageCache: buffered I/O would pass each other test, and answer before the Device has it.
func TestADeviceIsOpenedPastThePageCache(t *testing.T) {
	m := &enginetest.Monitor{}
	d := open(t, sparseFile(t, 1<<20), m)
	m.Device = d
	if !uring.IsDirect(d) {
		t.Error("it is opened without O_DIRECT")
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestADirectoryIsNoDevice(t *testing.T) {
	if _, err := uring.Open(t.TempDir(), &enginetest.Monitor{}); err == nil {
		t.Error("opened a directory")
	}
}

// depth keeps n requests in flight.
type depth struct {
	m    *enginetest.Monitor
	left int
	done chan struct{}
	size int64
	op   engine.Op
}

func (d *depth) Complete(r *engine.Request) {
	if r.Err != nil {
		panic(r.Err)
	}
	if d.left--; d.left < 0 {
		d.done <- struct{}{}
		return
	}
	r.Offset = rand.Int64N(d.size/4096) * 4096
	d.m.Device.Submit(r)
}

func benchmark(b *testing.B, op engine.Op, n int) {
	b.Helper()
	const size = 256 << 20
	m := &enginetest.Monitor{}
	dev := open(b, sparseFile(b, size), m)
	m.Device = dev
	for at := int64(0); at < size; at += 1 << 20 {
		enginetest.Do(m, &engine.Request{Op: engine.OpWrite, Offset: at, Buf: enginetest.Aligned(1 << 20)})
	}
	d := &depth{m: m, left: b.N, done: make(chan struct{}, n), size: size, op: op}
	b.ReportAllocs()
	b.ResetTimer()
	m.Enter()
	for range n {
		d.Complete(&engine.Request{Op: op, Buf: enginetest.Aligned(4096), Done: d})
	}
	m.Leave()
	for range n {
		<-d.done
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "iops")
	if err := dev.Close(); err != nil {
		b.Error(err)
	}
}

func BenchmarkRead1(b *testing.B)   { benchmark(b, engine.OpRead, 1) }
func BenchmarkRead32(b *testing.B)  { benchmark(b, engine.OpRead, 32) }
func BenchmarkWrite1(b *testing.B)  { benchmark(b, engine.OpWrite, 1) }
func BenchmarkWrite32(b *testing.B) { benchmark(b, engine.OpWrite, 32) }
