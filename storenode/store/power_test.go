package store_test

import (
	"math/rand/v2"
	"testing"
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
