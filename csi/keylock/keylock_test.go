package keylock

import (
	"sync"
	"sync/atomic"
	"testing"
)

func TestAHeldNameIsRefusedUntilItIsReleased(t *testing.T) {
	var l Locks
	if !l.TryAcquire("a") || l.TryAcquire("a") {
		t.Fatal("want the first call to get a, and the second refused")
	}
	if !l.TryAcquire("b") {
		t.Error("holding a hinders b")
	}
	l.Release("a")
	if !l.TryAcquire("a") {
		t.Error("a was released, yet is refused")
	}
}

func TestOfManyCallersOneGetsTheName(t *testing.T) {
	var l Locks
	var got atomic.Int32
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			if l.TryAcquire("a") {
				got.Add(1)
			}
		})
	}
	all.Wait()
	if got.Load() != 1 {
		t.Errorf("%d callers hold the name at once", got.Load())
	}
}
