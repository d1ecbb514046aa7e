package buffer_test

import (
	"sync"
	"testing"
	"unsafe"

	"github.com/shale-storage/shale/storenode/buffer"
)

func TestBuffersAreAlignedAndAsLongAsAskedFor(t *testing.T) {
	p := buffer.New(16 << 20)
	for _, n := range []int{1, 4096, 4097, 20000, 64 << 10, 256 << 10, buffer.MaxSize} {
		b := p.Get(n)
		if b.Len() != n || len(b.Bytes()) != n {
			t.Errorf("Get(%d) has length %d", n, b.Len())
		}
		if at := uintptr(unsafe.Pointer(&b.Bytes()[0])); at%buffer.Alignment != 0 {
			t.Errorf("Get(%d) begins at %#x", n, at)
		}
		b.Release()
	}
	if in := p.Stats().InUse; in != 0 {
		t.Errorf("%d bytes in use after all were released", in)
	}
}

func TestThePoolRefusesAtItsLimitAndRecovers(t *testing.T) {
	const limit = 4 << 20
	p := buffer.New(limit)
	var held []*buffer.Buffer
	for {
		b := p.Get(1 << 20)
		if b == nil {
			break
		}
		held = append(held, b)
	}
	if len(held) != 4 {
		t.Fatalf("got %d MiB of 4", len(held))
	}
	if p.Get(4096) != nil {
		t.Fatal("got a buffer beyond the limit")
	}
	for _, b := range held {
		b.Release()
	}
	// Memory that lies free in one size serves another.
	for range limit / 4096 {
		b := p.Get(4096)
		if b == nil {
			t.Fatal("free memory of another size was not given up")
		}
		b.Bytes()[0] = 1
	}
	if s := p.Stats(); s.Resident > limit || s.Refused != 2 {
		t.Errorf("stats %+v", s)
	}
}

func TestReleasingTwicePanics(t *testing.T) {
	b := buffer.New(1 << 20).Get(10)
	b.Release()
	defer func() {
		if recover() == nil {
			t.Error("a double release went unnoticed")
		}
	}()
	b.Release()
}

func TestASharedBufferReturnsWithItsLastReference(t *testing.T) {
	p := buffer.New(1 << 20)
	b := p.Get(4096)
	var all sync.WaitGroup
	for range 8 {
		b.Retain()
		all.Go(b.Release)
	}
	all.Wait()
	if p.Stats().InUse != 4096 {
		t.Error("returned while referenced")
	}
	b.Release()
	if p.Stats().InUse != 0 {
		t.Error("not returned")
	}
}

func BenchmarkGetRelease(b *testing.B) {
	p := buffer.New(1 << 20)
	b.ReportAllocs()
	for b.Loop() {
		p.Get(4096).Release()
	}
}

// TestLargeBuffersLieInOneHugePage: else each would be two pieces for the kernel, where it has huge pages.
func TestLargeBuffersLieInOneHugePage(t *testing.T) {
	const hugePage = 2 << 20
	p := buffer.New(32 << 20)
	for _, n := range []int{64 << 10, 256 << 10, buffer.MaxSize} {
		for b := p.Get(n); b != nil && p.Stats().InUse <= 10<<20; b = p.Get(n) {
			at := uintptr(unsafe.Pointer(&b.Bytes()[0]))
			if at/hugePage != (at+uintptr(n)-1)/hugePage {
				t.Fatalf("buffer of %d bytes at %#x", n, at)
			}
			defer b.Release()
		}
	}
}

// TestMemoryGoesFromSizeToSizeAndBack: what large Buffers gave up they take again, and nobody's bytes change.
func TestMemoryGoesFromSizeToSizeAndBack(t *testing.T) {
	const limit = 4 << 20
	p := buffer.New(limit)
	for round := range 3 {
		for _, n := range []int{256 << 10, 4 << 10, 64 << 10, 1 << 20} {
			var held []*buffer.Buffer
			for b := p.Get(n); b != nil; b = p.Get(n) {
				b.Bytes()[0], b.Bytes()[n-1] = byte(len(held)), byte(round)
				held = append(held, b)
			}
			if len(held) != limit/n {
				t.Fatalf("round %d: %d buffers of %d bytes, want %d", round, len(held), n, limit/n)
			}
			for i, b := range held {
				if b.Bytes()[0] != byte(i) || b.Bytes()[n-1] != byte(round) {
					t.Fatalf("round %d: buffer %d of %d bytes has changed", round, i, n)
				}
				b.Release()
			}
			if s := p.Stats(); s.Resident > limit || s.InUse != 0 {
				t.Fatalf("round %d: stats %+v", round, s)
			}
		}
	}
}
