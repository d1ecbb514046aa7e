package store_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/layout"
	"github.com/shale-storage/shale/storenode/store"
)

// TestEveryStepOfTheDeviceMayBeTheLast runs one workload of first writes, overwrites, discards, flushes, Checkpoints
// and what is rare again and again, and ends it before each step of the Device in turn: once the process, once the
// power. So every write of the Journal, of slots and of Checkpoint areas is the last one at least twice, and what was
// not flushed is kept, lost or torn at random.
func TestEveryStepOfTheDeviceMayBeTheLast(t *testing.T) {
	stride := 1
	if testing.Short() {
		stride = 29
	}
	steps, crashes := 0, 0
	for at := 0; ; at += stride {
		ended := false
		for _, power := range []bool{false, true} {
			ended = matrixOnce(t, at, power, &steps)
			crashes++
		}
		if t.Failed() {
			t.FailNow()
		}
		if ended {
			break
		}
	}
	t.Logf("%d crashes in a workload of %d steps", crashes, steps)
	if want := 200; steps < want {
		t.Errorf("the workload has %d steps, too few to mean anything", steps)
	}
}

// matrixOnce ends the workload before the step, and reports whether it was over earlier.
func matrixOnce(t *testing.T, step int, power bool, steps *int) (ended bool) {
	t.Helper()
	r, _, m := matrixRig(t, uint64(step))
	chance := rand.New(rand.NewPCG(uint64(step), 7))
	r = r.dies(true, chance) // so that there are marks of it to be taken back
	h := r.mustOpen(t)
	m.rare.adopt(t, r)
	*steps = matrixWorkload(r, h, m, step)
	after := r.dies(power, chance)
	m.crashed()
	m.check(t, after, after.mustOpen(t), power)
	if t.Failed() {
		t.Logf("step %d, power lost %v", step, power)
	}
	return *steps < step
}

func matrixRig(t *testing.T, seed uint64) (*rig, store.Handle, *model) {
	t.Helper()
	r := newRig(t, 64<<20)
	r.device.SetWhims(whims(seed))
	h := r.create(t, 0, modelBlocks*block)
	m := newModel()
	m.rare.begin(h)
	if err := r.do(&store.IO{Op: store.OpFlush, Replica: h}); err != nil {
		t.Fatal(err)
	}
	return r, h, m
}

// mustOpen opens the Device and finds the workload's Replica.
func (r *rig) mustOpen(t *testing.T) store.Handle {
	t.Helper()
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
	h, ok := r.s.Lookup(key(0))
	if !ok {
		t.Fatal("the replica is gone")
	}
	return h
}

// endsAt runs f and ends the process before the step of the Device; it reports whether f was over earlier.
func (r *rig) endsAt(step int, f func() error) (over bool, err error) {
	r.mortal, r.left = true, step
	defer func() {
		r.mortal = false
		if end := recover(); end != nil && end != (endOfProcess{}) {
			panic(end)
		}
	}()
	err = f()
	return true, err
}

// TestEveryStepOfOpenMayBeTheLast ends a workload in its middle, and then before each step of the Open that follows:
// twice the process, twice the power, or one after the other; with a copy of the superblock damaged and without.
func TestEveryStepOfOpenMayBeTheLast(t *testing.T) {
	stride := 1
	if testing.Short() {
		stride = 7
	}
	longest := 0
	for kind := range 8 {
		for at, over := 0, false; !over; at += stride {
			if over = openOnce(t, at, kind&1 > 0, kind&2 > 0, kind&4 > 0); t.Failed() {
				t.Fatalf("step %d, kind %d", at, kind)
			}
			longest = max(longest, at)
		}
	}
	t.Logf("up to %d steps", longest)
}

func openOnce(t *testing.T, step int, damaged, before, after bool) (over bool) {
	t.Helper()
	const middle = 150
	r, h, m := matrixRig(t, uint64(step))
	chance := rand.New(rand.NewPCG(uint64(step), 9))
	matrixWorkload(r, h, m, middle+step%29)
	r = r.dies(before, chance)
	m.crashed()
	if damaged {
		r.device.Corrupt(layout.SuperblockCopies()[step%2]+int64(chance.IntN(64)), chance.IntN(8))
	}
	over, err := r.endsAt(step, r.open)
	if err != nil {
		t.Fatal(err)
	}
	r = r.dies(after, chance)
	m.check(t, r, r.mustOpen(t), before || after)
	return over
}

// TestEveryStepOfCloseMayBeTheLast does the same with Close. A Device that says then that it lost nothing has lost
// nothing; one that was closed says so.
func TestEveryStepOfCloseMayBeTheLast(t *testing.T) {
	for _, power := range []bool{false, true} {
		for at, over := 0, false; !over; at++ {
			if over = closeOnce(t, at, power); t.Failed() {
				t.Fatalf("step %d, power lost %v", at, power)
			}
		}
	}
}

func closeOnce(t *testing.T, step int, power bool) (over bool) {
	t.Helper()
	r, h, m := matrixRig(t, uint64(step))
	chance := rand.New(rand.NewPCG(uint64(step), 11))
	matrixWorkload(r, h, m, math.MaxInt)
	r.drive()
	over, err := r.endsAt(step, r.s.Close)
	if err != nil {
		t.Fatal(err)
	}
	r = r.dies(power, chance)
	h = r.mustOpen(t)
	info, err := r.s.Info(h)
	if err != nil {
		t.Fatal(err)
	}
	if (over || !power) && info.Lossy {
		t.Error("was closed, or lost no power, and says that it lost something")
	}
	m.check(t, r, h, info.Lossy)
	return over
}

// matrixWorkload is the same each time, up to its end or the given step of the Device; it returns how far it came.
func matrixWorkload(r *rig, h store.Handle, m *model, limit int) (steps int) {
	chance := rand.New(rand.NewPCG(3, 3))
	open, seq := 0, ident.Seq(1)
	for i := range 140 {
		submitRandom(r, h, m, chance, &seq, &open)
		if i%35 == 34 {
			r.s.Checkpoint(func(error) {})
		}
		r.kick()
		for r.device.Pending() > 0 && (open > 4 || chance.IntN(3) > 0) {
			if steps == limit {
				return steps
			}
			r.device.Step(chance.IntN(r.device.Pending()))
			r.kick()
			steps++
		}
	}
	return steps
}
