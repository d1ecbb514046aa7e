package store_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/store"
)

func TestALossOfPowerIsKnownEvenIfNoFrameTellsOfIt(t *testing.T) {
	r := newRig(t, 64<<20)
	h := r.create(t, 0, 1<<20)
	expect := func(want bool, when string) {
		t.Helper()
		if got := r.s.PowerLost(); got != want {
			t.Errorf("%s: power lost is %v", when, got)
		}
	}
	reopen := func(boot uint64) {
		t.Helper()
		r.boot, r.s = boot, nil
		if err := r.open(); err != nil {
			t.Fatal(err)
		}
	}
	expect(false, "formatted and opened")
	if err := r.write(h, 0, fill(block, 1), 1); err != nil {
		t.Fatal(err)
	}
	chance := rand.New(rand.NewPCG(1, 2))
	r.device = r.device.Kill(chance, nil)
	reopen(0)
	expect(false, "the process ended")
	// Right behind a Checkpoint nothing is in the Journal, and an unflushed frame may be lost as a whole.
	r.device = r.device.Crash(chance, nil)
	reopen(1)
	expect(true, "power was lost")
	r.device = r.device.Kill(chance, nil)
	reopen(1)
	expect(true, "the process ended after power was lost")
	if err := r.s.Close(); err != nil {
		t.Fatal(err)
	}
	r.device = r.device.Crash(chance, nil)
	reopen(2)
	expect(false, "the device was closed before the machine went down")
}

func TestEachReplicaIsLossyUntilItIsSound(t *testing.T) {
	r := newRig(t, 64<<20)
	first, second := r.create(t, 0, 1<<20), r.create(t, 1, 1<<20)
	chance := rand.New(rand.NewPCG(3, 4))
	expect := func(a, b bool, when string) {
		t.Helper()
		for i, h := range []store.Handle{first, second} {
			info, err := r.s.Info(h)
			if err != nil {
				t.Fatal(err)
			}
			if want := []bool{a, b}[i]; info.Lossy != want {
				t.Errorf("%s: replica %d is lossy: %v", when, i, info.Lossy)
			}
		}
	}
	reopen := func(boot uint64) {
		t.Helper()
		r.boot, r.s = boot, nil
		if err := r.open(); err != nil {
			t.Fatal(err)
		}
	}
	expect(false, false, "created")
	if err := r.do(&store.IO{Op: store.OpFlush, Replica: second}); err != nil {
		t.Fatal(err)
	}
	r.device = r.device.Crash(chance, nil)
	reopen(1)
	expect(true, true, "power was lost")
	done := false
	r.s.SetSound(first, func(err error) { done = err == nil })
	r.drive()
	if !done {
		t.Fatal("nothing was remembered")
	}
	expect(false, true, "one is sound")
	r.device = r.device.Kill(chance, nil)
	reopen(1)
	expect(false, true, "the process ended")
	if err := r.s.Close(); err != nil {
		t.Fatal(err)
	}
	r.device = r.device.Crash(chance, nil)
	reopen(2)
	expect(false, true, "the machine went down in order")
	if third := r.create(t, 2, 1<<20); third == first {
		t.Fatal("a handle is used twice")
	}
	r.device = r.device.Crash(chance, nil)
	reopen(3)
	expect(true, true, "power was lost again")
}

// TestADeletedReplicaDoesNotReturnAfterALossOfPower: nobody knows by then that it is not wanted.
func TestADeletedReplicaDoesNotReturnAfterALossOfPower(t *testing.T) {
	for seed := range uint64(50) {
		chance := rand.New(rand.NewPCG(seed, 47))
		r := newRig(t, 64<<20)
		r.device.SetWhims(whims(seed))
		r.create(t, 0, 1<<20)
		for again := range 2 { // the second time it is unknown, and as gone
			deleted := false
			r.s.DeleteReplica(key(0), func(err error) { deleted = err == nil })
			if again == 0 && seed%2 == 0 {
				r.steps(1)
				continue // nobody waits for the first
			}
			for !deleted {
				r.steps(1)
			}
			break
		}
		r.device = r.device.Crash(chance, nil)
		r.boot, r.s = 1, nil
		if err := r.open(); err != nil {
			t.Fatal(err)
		}
		if _, ok := r.s.Lookup(key(0)); ok || r.s.Usage().Reserved != 0 {
			t.Fatalf("seed %d: the replica is back", seed)
		}
	}
}

// TestWhatIsWrittenWhereSomethingWasClearedIsOldOrNewAfterALossOfPower: the record that it was cleared may be lost, and
// what was flushed before must not be gone then.
func TestWhatIsWrittenWhereSomethingWasClearedIsOldOrNewAfterALossOfPower(t *testing.T) {
	for seed := range uint64(200) {
		chance := rand.New(rand.NewPCG(seed, 31))
		r := newRig(t, 64<<20)
		r.device.SetWhims(whims(seed))
		h := r.create(t, 0, 4<<20)
		r.mustWrite(t, h, 0, fill(8*block, 1))
		if err := r.do(&store.IO{Op: store.OpFlush, Replica: h}); err != nil {
			t.Fatal(err)
		}
		op := []store.Op{store.OpDiscard, store.OpWriteZeroes}[chance.IntN(2)]
		if err := r.do(&store.IO{Op: op, Replica: h, Offset: block, Length: 2 * block, Epoch: 1}); err != nil {
			t.Fatal(err)
		}
		r.mustWrite(t, h, block, fill(block, 100))
		r.device = r.device.Crash(chance, nil)
		r.reopen(t, 1)
		got, err := r.read(r.handle(t), block, block)
		old, young := fill(8*block, 1)[block:2*block], fill(block, 100)
		if err != nil || !bytes.Equal(got, old) && !bytes.Equal(got, young) && !bytes.Equal(got, make([]byte, block)) {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// TestAnExtentForgetsTheEpochOfWhoHadIt: a Rebuild compares it with that of other Replicas.
func TestAnExtentForgetsTheEpochOfWhoHadIt(t *testing.T) {
	r := newRig(t, 64<<20)
	write := func(h store.Handle, epoch ident.Epoch) {
		b := pool.Get(block)
		defer b.Release()
		if err := r.do(&store.IO{Op: store.OpWrite, Replica: h, Length: block, Buf: b, Epoch: epoch}); err != nil {
			t.Fatal(err)
		}
	}
	for i, epoch := range []ident.Epoch{9, 2} {
		h := r.create(t, i, 4<<20)
		write(h, epoch)
		r.s.Extents(h, 0, func(x store.ExtentInfo) bool {
			if x.Epoch != epoch {
				t.Errorf("an extent written in epoch %d is of epoch %d", epoch, x.Epoch)
			}
			return true
		})
		r.s.DeleteReplica(key(i), func(error) {})
		r.drive()
	}
}
