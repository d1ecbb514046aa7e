// Package oracle knows which contents of each Block a client of a Shard may see.
//
// The client never has two changes of a Block in flight, so the versions of a Block are ordered by when they were
// begun. To be linearizable, a read must not be older than what was acknowledged or read before it began, nor newer
// than what was begun before it ended. Contents are numbers; 0, for zeros, may come again.
//
// Used by the tests of package replication and by the simulator. Pure, and for one goroutine.
package oracle

import (
	"fmt"
	"slices"
)

// Oracle is the history of a Shard. Make it with New.
type Oracle struct {
	blocks map[int64]*History
	// order are the keys of blocks, ascending.
	order  []int64
	serial uint64
}

// History is that of one Block.
type History struct {
	// begun values in order.
	begun []uint64
	// settled is the newest version that was acknowledged or seen, durable the newest that survives loss of power
	// everywhere.
	settled, durable int
	// Busy: a change is in flight.
	Busy bool
	// Torn: something newer than what was durable had begun when power was lost everywhere, and nothing was acknowledged
	// since, so there may be no good copy.
	Torn bool
}

// New is the history of a Shard full of zeros.
func New() *Oracle { return &Oracle{blocks: map[int64]*History{}} }

// Block is the history of one Block.
func (o *Oracle) Block(b int64) *History {
	h := o.blocks[b]
	if h == nil {
		h = &History{begun: []uint64{0}}
		o.blocks[b] = h
		at, _ := slices.BinarySearch(o.order, b)
		o.order = slices.Insert(o.order, at, b)
	}
	return h
}

// Blocks are those with a history, in order.
func (o *Oracle) Blocks() []int64 { return slices.Clone(o.order) }

// Unique is a value never used before.
func (o *Oracle) Unique() uint64 {
	o.serial++
	return o.serial
}

// LosePower tells that all Replicas lost power at once: only what was flushed must be there.
func (o *Oracle) LosePower() {
	for _, h := range o.blocks {
		h.settled = h.durable
		h.Torn = h.Torn || len(h.begun)-1 > h.durable
	}
}

// Settled is the version that a read begun now must not be older than.
func (h *History) Settled() int { return h.settled }

// Begin notes a change to value and gives its version.
func (h *History) Begin(value uint64) int {
	h.begun = append(h.begun, value)
	h.Busy = true
	return len(h.begun) - 1
}

// End notes that the change was acknowledged.
func (h *History) End(version int) {
	h.Busy, h.Torn = false, false
	h.settled = max(h.settled, version)
}

// Flushed notes that a version, if it is still what counts, survives loss of power everywhere.
func (h *History) Flushed(version int) { h.durable = max(h.durable, min(version, h.settled)) }

// Seen checks a read that began when floor was settled.
func (h *History) Seen(value uint64, floor int) error {
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
