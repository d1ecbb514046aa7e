package store_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/store"
)

// TestEveryStepOfTheDeviceMayBeTheLast runs one workload of first writes, overwrites, discards, flushes and Checkpoints
// again and again, and ends it before each step of the Device in turn: once the process, once the power. So every
// write of the Journal, of slots and of Checkpoint areas is the last one at least twice, and what was not flushed
// is kept, lost or torn at random.
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
	r := newRig(t, 64<<20)
	r.device.SetWhims(whims(uint64(step)))
	h := r.create(t, 0, modelBlocks*block)
	m := newModel()
	if err := r.do(&store.IO{Op: store.OpFlush, Replica: h}); err != nil {
		t.Fatal(err)
	}
	*steps = matrixWorkload(r, h, m, step)
	chance := rand.New(rand.NewPCG(uint64(step), 7))
	after := &rig{boot: r.boot}
	if power {
		after.boot++
		after.device = r.device.Crash(chance, nil)
	} else {
		after.device = r.device.Kill(chance, nil)
	}
	m.crashed()
	name := fmt.Sprintf("step %d, power lost %v", step, power)
	if err := after.open(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	handle, ok := after.s.Lookup(key(0))
	if !ok {
		t.Fatalf("%s: the replica is gone", name)
	}
	m.check(t, after, handle, power)
	if t.Failed() {
		t.Log(name)
	}
	return *steps < step
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
