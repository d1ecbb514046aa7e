package sim_test

import (
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

const (
	// maxHistory bounds the operations of one Block that are kept: porcupine is for short histories, the oracle for
	// all of it.
	maxHistory = 400
	// checkTime bounds how long is looked for an order; a history without a verdict passes.
	checkTime = 5 * time.Second
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

// register of one Block.
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
// none has seen a change that is left out.
func short(all []porcupine.Operation) []porcupine.Operation {
	if len(all) <= maxHistory {
		return all
	}
	calls := make([]int64, len(all))
	for i := range all {
		calls[i] = all[i].Call
	}
	slices.Sort(calls)
	end := calls[maxHistory]
	return slices.DeleteFunc(slices.Clone(all), func(o porcupine.Operation) bool {
		return o.Call >= end || o.Return >= end && !o.Input.(access).write
	})
}
