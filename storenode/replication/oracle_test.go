package replication

import (
	"fmt"
	"slices"
)

// oracle knows which contents of each Block a client may see. The client never has two writes of a Block in flight, so
// the versions of a Block are ordered by when they were begun, and to be linearizable a read must not be older than what
// was acknowledged or read before it began, nor newer than what was begun before it ended.
type oracle struct {
	blocks map[int64]*history
	serial uint64
}

type history struct {
	// begun values in order; 0, for zeros, is a value that may come again.
	begun []uint64
	// settled is the index of the newest version that was acknowledged or seen.
	settled int
	// durable is the index of the newest version that must survive loss of power everywhere.
	durable int
	busy    bool
}

func newOracle() *oracle { return &oracle{blocks: map[int64]*history{}} }

func (o *oracle) block(b int64) *history {
	h := o.blocks[b]
	if h == nil {
		h = &history{begun: []uint64{0}}
		o.blocks[b] = h
	}
	return h
}

// unique is a value never used before.
func (o *oracle) unique() uint64 {
	o.serial++
	return o.serial
}

// begin notes a write of value and gives its version.
func (h *history) begin(value uint64) int {
	h.begun = append(h.begun, value)
	h.busy = true
	return len(h.begun) - 1
}

// end notes that the write of a version was acknowledged.
func (h *history) end(version int) {
	h.busy = false
	h.settled = max(h.settled, version)
}

// seen checks a read that began when floor was settled.
func (h *history) seen(value uint64, floor int) error {
	for v := len(h.begun) - 1; v >= floor; v-- {
		if h.begun[v] != value {
			continue
		}
		if value != 0 {
			h.settled = max(h.settled, v)
		}
		return nil
	}
	return fmt.Errorf("read %d, but %d (version %d) was acknowledged or read before; versions %v",
		value, h.begun[floor], floor, h.begun[max(0, floor-3):])
}

// sorted are the Blocks in order.
func (o *oracle) sorted() []int64 {
	all := make([]int64, 0, len(o.blocks))
	for b := range o.blocks {
		all = append(all, b)
	}
	slices.Sort(all)
	return all
}
