package mem_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/shale-storage/shale/storenode/engine"
	"github.com/shale-storage/shale/storenode/engine/enginetest"
	"github.com/shale-storage/shale/storenode/engine/mem"
)

const block = 4096

// all are whims of every kind.
func all(chance *rand.Rand) mem.Whims {
	return mem.Whims{Chance: chance, Early: true, Discards: true, Unreadable: true}
}

func TestADeviceOfManyWhimsPassesTheSuite(t *testing.T) {
	enginetest.Run(t, func(_ *testing.T, m *enginetest.Monitor) engine.Device {
		d := mem.New(mem.Options{Size: 16 << 20})
		d.SetWhims(all(rand.New(rand.NewPCG(1, 1))))
		return d.Kill(nil, m)
	})
}

// rig is a Device, and the chance that decides what it does.
type rig struct {
	*mem.Device
	chance *rand.Rand
}

func newRig(seed uint64, whims func(*rand.Rand) mem.Whims) *rig {
	r := &rig{Device: mem.New(mem.Options{Size: 1 << 20}), chance: rand.New(rand.NewPCG(seed, 0))}
	r.SetWhims(whims(r.chance))
	return r
}

func (r *rig) submit(op engine.Op, number int64, content byte) *engine.Request {
	q := &engine.Request{Op: op, Offset: number * block, Done: ignore{}}
	switch op {
	case engine.OpRead, engine.OpWrite:
		q.Buf = bytes.Repeat([]byte{content}, block)
	case engine.OpDiscard:
		q.Length = block
	case engine.OpFlush:
		q.Offset = 0
	}
	r.Submit(q)
	return q
}

func (r *rig) do(op engine.Op, content byte) {
	r.submit(op, 0, content)
	r.Drain()
}

// read is what a block holds: old, new, something else, or that it cannot be read.
func (r *rig) read(number int64, before, after byte) string {
	q := r.submit(engine.OpRead, number, 0)
	r.Drain()
	switch {
	case errors.Is(q.Err, mem.ErrUnreadable):
		return "unreadable"
	case q.Err != nil:
		return q.Err.Error()
	case bytes.Equal(q.Buf, bytes.Repeat([]byte{before}, block)):
		return "old"
	case bytes.Equal(q.Buf, bytes.Repeat([]byte{after}, block)):
		return "new"
	case bytes.Equal(q.Buf, make([]byte, block)):
		return "zeros"
	}
	return "else"
}

func (r *rig) crash() { r.Device = r.Crash(r.chance, nil) }

// expect compares what was seen with what may be seen, and has to be with enough seeds.
func expect(t *testing.T, what string, seen map[string]int, want ...string) {
	t.Helper()
	for _, w := range want {
		if seen[w] == 0 {
			t.Errorf("%s is never %s: %v", what, w, seen)
		}
		delete(seen, w)
	}
	if len(seen) > 0 {
		t.Errorf("%s is also %v", what, seen)
	}
}

const seeds = 400

func kind(*rand.Rand) mem.Whims { return mem.Whims{} }

// TestAFlushIsOfWhatHadCompletedBeforeIt: nothing is promised of what was on its way, nor of what came later.
func TestAFlushIsOfWhatHadCompletedBeforeIt(t *testing.T) {
	for name, whims := range map[string]func(*rand.Rand) mem.Whims{
		"kind": kind, "early": func(c *rand.Rand) mem.Whims { return mem.Whims{Chance: c, Early: true} },
	} {
		t.Run(name, func(t *testing.T) {
			before, during, later := map[string]int{}, map[string]int{}, map[string]int{}
			for seed := range uint64(seeds) {
				r := newRig(seed, whims)
				r.do(engine.OpWrite, 1)
				r.submit(engine.OpWrite, 1, 1)
				r.submit(engine.OpFlush, 0, 0)
				r.submit(engine.OpWrite, 2, 1)
				r.Step(0)
				r.Step(1)
				r.Drain() // the flush is last
				r.crash()
				before[r.read(0, 0, 1)]++
				during[r.read(1, 0, 1)]++
				later[r.read(2, 0, 1)]++
			}
			expect(t, "what had completed", before, "new")
			expect(t, "what was on its way", during, "old", "new", "else")
			expect(t, "what came later", later, "old", "new", "else")
		})
	}
}

// TestWhatWasFlushedIsNotHiddenByWhatWasBefore: one write had its effect early, another over it was flushed.
func TestWhatWasFlushedIsNotHiddenByWhatWasBefore(t *testing.T) {
	flushed := map[string]int{}
	for seed := range uint64(seeds) {
		r := newRig(seed, func(c *rand.Rand) mem.Whims { return mem.Whims{Chance: c, Early: true} })
		r.submit(engine.OpWrite, 0, 1)
		r.submit(engine.OpWrite, 0, 2)
		r.Step(1)
		r.submit(engine.OpFlush, 0, 0)
		r.Step(1)
		r.Drain()
		if r.read(0, 1, 2) != "new" {
			continue // the first had its effect last
		}
		r.crash()
		flushed[r.read(0, 1, 2)]++
	}
	expect(t, "the later of two writes", flushed, "new")
}

func TestARequestMayHaveItsEffectBeforeItCompletes(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(seeds) {
		r := newRig(seed, func(c *rand.Rand) mem.Whims { return mem.Whims{Chance: c, Early: true} })
		r.submit(engine.OpWrite, 0, 1)
		q := r.submit(engine.OpRead, 0, 0)
		r.Step(1)
		seen[string('0'+q.Buf[0])]++
	}
	expect(t, "what a write is on its way to", seen, "0", "1")
}

func TestADiscardedBlockIsAnythingUntilItIsWritten(t *testing.T) {
	discarded, written, crashed, flushed := map[string]int{}, map[string]int{}, map[string]int{}, map[string]int{}
	for seed := range uint64(seeds) {
		r := newRig(seed, func(c *rand.Rand) mem.Whims { return mem.Whims{Chance: c, Discards: true} })
		r.do(engine.OpWrite, 1)
		r.do(engine.OpFlush, 0)
		r.do(engine.OpDiscard, 0)
		discarded[r.read(0, 1, 2)]++
		r.do(engine.OpWrite, 2)
		written[r.read(0, 1, 2)]++
		if seed%2 == 0 {
			r.crash()
			crashed[r.read(0, 1, 2)]++
			continue
		}
		r.do(engine.OpFlush, 0)
		r.crash()
		flushed[r.read(0, 1, 2)]++
	}
	expect(t, "a discarded block", discarded, "old", "zeros", "else")
	expect(t, "a written one", written, "new")
	expect(t, "one whose write was not flushed", crashed, "old", "zeros", "new", "else")
	expect(t, "one whose write was flushed", flushed, "new")
}

func TestALossOfPowerMayLeaveABlockUnreadableUntilItIsWritten(t *testing.T) {
	torn, written, again, flushed := map[string]int{}, map[string]int{}, map[string]int{}, map[string]int{}
	for seed := range uint64(seeds) {
		r := newRig(seed, func(c *rand.Rand) mem.Whims { return mem.Whims{Chance: c, Unreadable: true} })
		r.do(engine.OpWrite, 1)
		r.do(engine.OpFlush, 0)
		r.submit(engine.OpWrite, 0, 2)
		r.crash()
		is := r.read(0, 1, 2)
		if torn[is]++; is != "unreadable" {
			continue
		}
		r.do(engine.OpWrite, 3)
		written[r.read(0, 2, 3)]++
		if r.chance.IntN(2) == 0 {
			r.do(engine.OpFlush, 0)
			r.crash()
			flushed[r.read(0, 2, 3)]++
			continue
		}
		r.crash()
		again[r.read(0, 2, 3)]++
	}
	expect(t, "a block that was being written", torn, "old", "new", "else", "unreadable")
	expect(t, "one that was written again", written, "new")
	expect(t, "one that was flushed then", flushed, "new")
	if again["unreadable"] == 0 {
		t.Errorf("one that was not flushed then: %v", again)
	}
}
