package store_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/store"
)

func (r *rig) spoil(h store.Handle, offset int64, sum uint32) error {
	err := errors.New("never told")
	scratch := pool.Get(block)
	defer scratch.Release()
	r.s.Spoil(&store.IO{Replica: h, Offset: offset, Epoch: 3, Buf: scratch}, sum, func(e error) { err = e })
	r.drive()
	return err
}

func (r *rig) digest(h store.Handle) (d store.ExtentInfo) {
	r.s.Extents(h, 0, func(x store.ExtentInfo) bool { d = x; return false })
	return d
}

func TestASpoiledBlockCannotBeReadUntilItIsWritten(t *testing.T) {
	r := newRig(t, 64<<20)
	h, copied := r.create(t, 0, 4<<20), r.create(t, 1, 4<<20)
	for _, x := range []store.Handle{h, copied} {
		if err := r.write(x, 0, fill(2*block, 5), 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.write(h, 2*block, fill(block, 9), 2); err != nil {
		t.Fatal(err)
	}
	sum, written := r.s.Checksum(h, 2*block)
	if !written || sum != store.Sum(fill(block, 9)) {
		t.Fatalf("checksum %x, written %v", sum, written)
	}
	if _, written := r.s.Checksum(copied, 2*block); written {
		t.Error("a block that was never written has a checksum")
	}
	if err := r.spoil(copied, 2*block, sum); err != nil {
		t.Fatal(err)
	}
	if _, err := r.read(copied, 0, 4*block); !errors.Is(err, store.ErrCorruption) {
		t.Errorf("the spoiled block: %v", err)
	}
	if got, err := r.read(copied, 0, 2*block); err != nil || string(got) != string(fill(2*block, 5)) {
		t.Errorf("the blocks beside it: %v", err)
	}
	if a, b := r.digest(h).Digest, r.digest(copied).Digest; a != b {
		t.Errorf("the copy's digest is %x, the origin's %x", b, a)
	}
	if err := r.write(copied, 2*block, fill(block, 9), 3); err != nil {
		t.Fatal(err)
	}
	if got, err := r.read(copied, 2*block, block); err != nil || string(got) != string(fill(block, 9)) {
		t.Errorf("after it was written: %v", err)
	}
	for name, err := range map[string]error{
		"beyond the end": r.spoil(h, 4<<20, 1), "not aligned": r.spoil(h, 1, 1),
	} {
		if !errors.Is(err, store.ErrBounds) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := r.spoil(77, 0, 1); !errors.Is(err, store.ErrUnknownReplica) {
		t.Errorf("unknown replica: %v", err)
	}
}

// TestASpoiledBlockStaysOneWhereverItCrashes: neither what was there before nor zeros may come back.
func TestASpoiledBlockStaysOneWhereverItCrashes(t *testing.T) {
	for seed := range uint64(200) {
		chance := rand.New(rand.NewPCG(seed, 7))
		r := newRig(t, 64<<20)
		r.device.SetWhims(whims(seed))
		h := r.create(t, 0, 4<<20)
		overwritten := chance.IntN(3)
		for n := range uint64(overwritten) {
			if err := r.write(h, block, fill(block, 5+n), ident.Seq(1+n)); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.do(&store.IO{Op: store.OpFlush, Replica: h}); err != nil {
			t.Fatal(err)
		}
		done := false
		spoil := &store.IO{Replica: h, Offset: block, Epoch: 3, Buf: pool.Get(block)}
		r.s.Spoil(spoil, 42, func(err error) { done = err == nil })
		for r.kick(); r.device.Pending() > 0 && chance.IntN(12) > 0; r.kick() {
			r.device.Step(chance.IntN(r.device.Pending()))
		}
		power, spoiled := chance.IntN(2) == 0, done
		if power && spoiled {
			if err := r.do(&store.IO{Op: store.OpFlush, Replica: h}); err != nil {
				t.Fatal(err)
			}
		}
		if chance.IntN(3) == 0 {
			other := ident.Seq(9)
			if err := r.write(h, 5*block, fill(block, 6), other); err != nil {
				t.Fatal(err)
			}
		}
		after := &rig{boot: r.boot}
		if power {
			after.boot++
			after.device = r.device.Crash(chance, nil)
		} else {
			after.device = r.device.Kill(chance, nil)
		}
		if err := after.open(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		handle, _ := after.s.Lookup(key(0))
		if _, err := after.read(handle, block, block); spoiled && !errors.Is(err, store.ErrCorruption) {
			const format = "seed %d: power lost %v, %d writes before: a spoiled block reads with %v"
			t.Errorf(format, seed, power, overwritten, err)
		}
	}
}
