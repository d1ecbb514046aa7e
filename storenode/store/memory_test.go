package store_test

import (
	"runtime"
	"testing"
)

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestATebibyteTakesLittleMemoryWhileItIsEmpty holds a storenode's promise to be small: memory grows with data (about
// 1 KiB for each MiB), not with what is promised.
func TestATebibyteTakesLittleMemoryWhileItIsEmpty(t *testing.T) {
	const size, most = 1 << 40, 64 << 20
	before := heap()
	r := newRig(t, size)
	for n := range 31 {
		h := r.create(t, n, 32<<30)
		for at := range int64(8) {
			if err := r.write(h, at*4<<30, fill(block, uint64(at)), 1); err != nil {
				t.Fatal(err)
			}
		}
	}
	if grown := heap() - before; grown > most {
		t.Errorf("the heap has grown by %d MiB, at most %d", grown>>20, most>>20)
	} else {
		t.Logf("the heap has grown by %d MiB", grown>>20)
	}
	runtime.KeepAlive(r)
}
