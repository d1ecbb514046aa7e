package client

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// worker writes and reads one region, one Request at a time, and keeps what must be there.
type worker struct {
	v      *Volume
	begin  int64
	expect []byte
	chance *rand.Rand
	// done counts the operations of all workers, steps gets one for each few.
	done  *atomic.Int64
	steps chan<- struct{}
}

// run does n operations and reports the first difference.
func (w *worker) run(n int) error {
	for i := range n {
		blocks := len(w.expect) / 4096
		first := w.chance.IntN(blocks)
		count := 1 + w.chance.IntN(min(blocks-first, 40))
		at, length := first*4096, count*4096
		here := w.expect[at : at+length]
		var got []byte
		var err error
		switch w.chance.IntN(8) {
		case 0, 1, 2:
			fill := pattern(length, w.chance.Uint64())
			_, err = begin(w.v, OpWrite, w.begin+int64(at), length, fill).end()
			copy(here, fill)
		case 3:
			_, err = begin(w.v, OpDiscard+Op(w.chance.IntN(2)), w.begin+int64(at), length, nil).end()
			clear(here)
		case 4:
			_, err = begin(w.v, OpFlush, 0, 0, nil).end()
		default:
			got, err = begin(w.v, OpRead, w.begin+int64(at), length, nil).end()
			if err == nil && !bytes.Equal(got, here) {
				return fmt.Errorf("operation %d: read of %d bytes at %d differs", i, length, w.begin+int64(at))
			}
		}
		if err != nil {
			return fmt.Errorf("operation %d: %w", i, err)
		}
		if w.done.Add(1)%each == 0 {
			w.steps <- struct{}{}
		}
	}
	return nil
}

// each is how many operations lie between two disturbances.
const each = 40

// disturb kills, promotes and restarts nodes, one step at a time.
func disturb(x *cluster, steps <-chan struct{}, chance *rand.Rand) {
	for range steps {
		victim := chance.IntN(len(x.nodes))
		next := (victim + 1 + chance.IntN(len(x.nodes)-1)) % len(x.nodes)
		switch chance.IntN(4) {
		case 0:
			x.promote(next, func(int) bool { return chance.IntN(2) == 0 })
		case 1:
			x.nodes[victim].kill()
			x.nodes[victim].start()
		case 2:
			x.nodes[victim].kill()
			x.promote(next, func(s int) bool { return int(x.records[s].Primary) == victim+1 })
			x.nodes[victim].start()
		case 3:
			x.nodes[victim].set(func(n *node) { n.silent = true })
			x.promote(next, func(s int) bool { return int(x.records[s].Primary) == victim+1 })
			x.nodes[victim].kill()
			x.nodes[victim].set(func(n *node) { n.silent = false })
			x.nodes[victim].start()
		}
	}
}

func TestEachAcknowledgedWriteIsReadableWhateverFails(t *testing.T) {
	seeds, operations := 4, 250
	if testing.Short() {
		seeds = 1
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			x := newCluster(t, 3, 7, 96<<10)
			x.chance = rand.New(rand.NewPCG(seed, 99))
			x.faults = faults{cutBefore: .005, cutAfter: .005, twice: .02, busy: .03, redirect: .02}
			v := x.open(t)
			const workers = 4
			region := v.Size() / workers / 4096 * 4096 // so regions straddle Shards
			var done atomic.Int64
			var all, disturber sync.WaitGroup
			steps := make(chan struct{}, workers*operations/each)
			for i := range int64(workers) {
				w := &worker{
					v: v, begin: i * region, expect: make([]byte, region), done: &done, steps: steps,
					chance: rand.New(rand.NewPCG(seed, uint64(i))),
				}
				all.Go(func() {
					if err := w.run(operations); err != nil {
						t.Errorf("worker %d of seed %d: %v", i, seed, err)
					}
				})
			}
			disturber.Go(func() { disturb(x, steps, rand.New(rand.NewPCG(seed, 7))) })
			all.Wait()
			close(steps)
			disturber.Wait()
		})
	}
}

// TestARequestThatWasSwallowedIsSentAgain needs the net under everything: nothing is lost on the way, yet no answer.
func TestARequestThatWasSwallowedIsSentAgain(t *testing.T) {
	x := newCluster(t, 1, 1, testShard)
	x.faults.swallow = .2
	v := x.open(t)
	calls := make([]*call, 20)
	for i := range calls {
		calls[i] = begin(v, OpWrite, int64(i)*4096, 4096, pattern(4096, uint64(i)))
	}
	for _, c := range calls {
		if _, err := c.end(); err != nil {
			t.Fatal(err)
		}
	}
}
