package sim_test

import (
	"cmp"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

const (
	// maxHistory bounds the operations of one Block that are kept: porcupine is for short histories, the oracle for
	// all of it.
	maxHistory = 300
	// maxOpen bounds the changes among them that never ended.
	maxOpen = 2
	// checkTime bounds how long is looked for an order; a history without a verdict passes.
	checkTime = time.Second
)

// history is what a client did and saw, Block by Block, for porcupine: a second opinion beside the oracle's, by an
// algorithm that knows nothing of versions. The zero value is empty.
type history struct {
	blocks map[int64][]porcupine.Operation
	// lost: power was lost everywhere, which no register does; nothing more is noted.
	lost bool
}

// access is one operation on one Block.
type access struct {
	write bool
	value uint64
}

// blockModel is a register.
var blockModel = porcupine.Model{
	Init: func() any { return uint64(0) },
	Step: func(state, input, output any) (bool, any) {
		if in := input.(access); in.write {
			return true, in.value
		}
		return output.(uint64) == state.(uint64), state
	},
}

func (h *history) forget() { h.blocks, h.lost = nil, true }

// begin notes a change; until it ends it may happen at any time, or never.
func (h *history) begin(block int64, value uint64, now int64) (trace int) {
	if h.lost {
		return -1
	}
	if h.blocks == nil {
		h.blocks = map[int64][]porcupine.Operation{}
	}
	h.blocks[block] = append(h.blocks[block], porcupine.Operation{
		Input: access{write: true, value: value}, Call: now, Return: math.MaxInt64,
	})
	return len(h.blocks[block]) - 1
}

func (h *history) end(block int64, trace int, now int64) {
	if !h.lost && trace >= 0 {
		h.blocks[block][trace].Return = now
	}
}

func (h *history) read(block int64, value uint64, begun, now int64) {
	if !h.lost && h.blocks != nil {
		h.blocks[block] = append(h.blocks[block], porcupine.Operation{
			Input: access{}, Output: value, Call: begun, Return: now,
		})
	}
}

// check reports the first Block whose history no order of operations explains.
func (h *history) check() (block int64, ok bool) {
	blocks := make([]int64, 0, len(h.blocks))
	for b := range h.blocks {
		blocks = append(blocks, b)
	}
	slices.Sort(blocks)
	for _, b := range blocks {
		if porcupine.CheckOperationsTimeout(blockModel, short(h.blocks[b]), checkTime) == porcupine.Illegal {
			return b, false
		}
	}
	return 0, true
}

// short is the beginning of a history: what was begun up to some moment, and of reads what had ended by then, so that
// none has seen a change that is left out. Nor is a change that never ended and was never seen; of others that never
// ended, each of which may be anywhere, only a few are taken.
func short(all []porcupine.Operation) []porcupine.Operation {
	seen := map[uint64]bool{0: true}
	for _, o := range all {
		if !o.Input.(access).write {
			seen[o.Output.(uint64)] = true
		}
	}
	kept := slices.DeleteFunc(slices.Clone(all), func(o porcupine.Operation) bool {
		return o.Return == math.MaxInt64 && !seen[o.Input.(access).value]
	})
	slices.SortStableFunc(kept, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	end, open := int64(math.MaxInt64), 0
	for i, o := range kept {
		if o.Return == math.MaxInt64 {
			open++
		}
		if i == maxHistory || open > maxOpen {
			end = o.Call
			break
		}
	}
	return slices.DeleteFunc(kept, func(o porcupine.Operation) bool {
		return o.Call >= end || o.Return >= end && !o.Input.(access).write
	})
}

func TestAHistoryThatNoOrderExplainsIsSeen(t *testing.T) {
	for stale, ok := range map[uint64]bool{1: false, 2: true} {
		h := &history{}
		h.end(7, h.begin(7, 1, 10), 20)
		h.end(7, h.begin(7, 2, 30), 40)
		h.begin(7, 3, 45)
		h.read(7, stale, 50, 60)
		if _, got := h.check(); got != ok {
			t.Errorf("a read of %d after 2 was written: explained %v, want %v", stale, got, ok)
		}
	}
}
