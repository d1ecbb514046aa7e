package history

import (
	"fmt"
	"maps"
	"slices"
)

// History of all Blocks.
type History struct {
	position uint32
	blocks   map[uint32]*block
}

// block is what is known of one Block.
type block struct {
	// last is the highest version ever sent.
	last uint32
	// possible are the versions it may hold, in the order of their begin. There is always one.
	possible []version
}

type version struct {
	number uint32
	// sent is when its write began, settled when it ended; 0 while it is in flight.
	sent, settled uint32
}

// unwritten is what a Block holds before its first write; it is there since before the first entry.
const unwritten = 0

// New is a History of nothing.
func New() *History { return &History{position: 1, blocks: map[uint32]*block{}} }

// Position is the number of entries so far, from 1 for none. It names a moment.
func (h *History) Position() uint32 { return h.position }

// Blocks are the numbers of all Blocks that were ever written, in order.
func (h *History) Blocks() []uint32 { return slices.Sorted(maps.Keys(h.blocks)) }

// Next is the version for the next write of a Block.
func (h *History) Next(number uint32) uint32 {
	if b := h.blocks[number]; b != nil {
		return b.last + 1
	}
	return unwritten + 1
}

// Possible are the versions that a read of a Block may find now.
func (h *History) Possible(number uint32) []uint32 {
	b := h.blocks[number]
	if b == nil {
		return []uint32{unwritten}
	}
	found := make([]uint32, 0, len(b.possible))
	for _, v := range b.possible {
		found = append(found, v.number)
	}
	return found
}

// Allows reports whether a read of a Block may find a version now.
func (h *History) Allows(number, v uint32) bool { return slices.Contains(h.Possible(number), v) }

// Unsettled reports whether a write of the Block has no answer.
func (h *History) Unsettled(number uint32) bool {
	b := h.blocks[number]
	return b != nil && slices.ContainsFunc(b.possible, func(v version) bool { return v.settled == 0 })
}

// Apply takes the next entry of the log. An error says that the log is not one of a correct device, or not a log.
func (h *History) Apply(e Entry) error {
	h.position++
	if e.Kind == Opened {
		for _, b := range h.blocks {
			b.settleAll(h.position)
		}
		return nil
	}
	b := h.blocks[e.Block]
	if b == nil {
		b = &block{possible: []version{{number: unwritten, settled: 1}}}
		h.blocks[e.Block] = b
	}
	if e.Kind == Sent {
		if e.Version <= b.last {
			return fmt.Errorf("block %d: version %d is sent after %d", e.Block, e.Version, b.last)
		}
		b.last = e.Version
		b.possible = append(b.possible, version{number: e.Version, sent: h.position})
		return nil
	}
	i := slices.IndexFunc(b.possible, func(v version) bool { return v.number == e.Version })
	if i < 0 {
		return fmt.Errorf("block %d: version %d has kind %d and is not possible, %v are",
			e.Block, e.Version, e.Kind, h.Possible(e.Block))
	}
	switch v := &b.possible[i]; e.Kind {
	case Acknowledged:
		v.settled = h.position
		b.overwritten(v.number, v.sent)
	case Failed:
		v.settled = h.position
	case Seen:
		b.overwritten(v.number, e.Since)
	default:
		return fmt.Errorf("entry of kind %d", e.Kind)
	}
	return nil
}

// settleAll ends what is in flight.
func (b *block) settleAll(position uint32) {
	for i := range b.possible {
		if b.possible[i].settled == 0 {
			b.possible[i].settled = position
		}
	}
}

// overwritten removes each version but one whose write had ended by then.
func (b *block) overwritten(keep, by uint32) {
	b.possible = slices.DeleteFunc(b.possible, func(v version) bool {
		return v.number != keep && v.settled != 0 && v.settled <= by
	})
}
