package store_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/shale-storage/shale/storenode/store"
)

// steps lets the Device end that many requests.
func (r *rig) steps(n int) {
	for range n {
		if r.kick(); r.device.Pending() == 0 {
			return
		}
		r.device.Step(0)
	}
	r.kick()
}

// TestAReplicaNeverHoldsWhatAnotherOneHeld that had its handle, however soon one follows the other, and whenever the
// process ends: not what the Journal carried for that one either.
func TestAReplicaNeverHoldsWhatAnotherOneHeld(t *testing.T) {
	const old, young = 7, 9
	for seed := range uint64(400) {
		chance := rand.New(rand.NewPCG(seed, 23))
		r := newRig(t, 64<<20)
		r.device.SetWhims(whims(seed))
		h := r.create(t, 0, 8<<20)
		r.mustWrite(t, h, 0, fill(4*block, old))
		for range chance.IntN(3) { // the Journal carries it
			r.mustWrite(t, h, 0, fill(4*block, old))
		}
		if chance.IntN(2) == 0 {
			r.mustWrite(t, h, 5<<20, fill(block, old))
		}
		if chance.IntN(2) == 0 {
			r.s.Checkpoint(func(error) {})
			r.steps(chance.IntN(12))
		}
		r.s.DeleteReplica(key(0), func(error) {})
		for there := true; there; _, there = r.s.Lookup(key(0)) { // that it is gone need not be durable yet
			r.steps(1)
		}
		h = r.createSlowly(t, 1, 1<<20)
		r.steps(chance.IntN(30))
		b := pool.Get(4 * block)
		copy(b.Bytes(), fill(4*block, young))
		r.s.Submit(&store.IO{Op: store.OpWrite, Replica: h, Length: 4 * block, Buf: b, Done: &told{}, Epoch: 1})
		r.steps(chance.IntN(4))
		if chance.IntN(2) == 0 {
			r.device = r.device.Kill(chance, nil)
			r.reopen(t, 0)
		} else {
			r.device = r.device.Crash(chance, nil)
			r.reopen(t, 1)
		}
		h, ok := r.s.Lookup(key(1))
		for i := range int64(4) {
			if !ok {
				break // power was lost before it was there
			}
			got, err := r.read(h, i*block, block)
			mine := fill(4*block, young)[i*block:][:block]
			if err == nil && !bytes.Equal(got, make([]byte, block)) && !bytes.Equal(got, mine) {
				t.Fatalf("seed %d: block %d is another replica's", seed, i)
			}
		}
		if _, there := r.s.Lookup(key(0)); there && ok {
			t.Fatalf("seed %d: a deleted replica is back beside its successor", seed)
		}
	}
}

// createSlowly moves no further than it must.
func (r *rig) createSlowly(t *testing.T, n int, size int64) store.Handle {
	t.Helper()
	var handle store.Handle
	done := false
	r.s.CreateReplica(key(n), size, func(h store.Handle, err error) {
		if handle, done = h, true; err != nil {
			t.Fatal(err)
		}
	})
	for !done {
		r.steps(1)
	}
	return handle
}
