package extent

import "github.com/shale-storage/shale/storenode/layout"

// TakeDirty gives the Extents that differ from their slots, and forgets that they do: the caller writes them.
func (t *Table) TakeDirty(into []uint32) []uint32 {
	into = append(into, t.dirty...)
	for _, x := range t.dirty {
		t.extents[x].dirty = false
	}
	t.dirty = t.dirty[:0]
	return into
}

// Dirty is the number of Extents that differ from their slots.
func (t *Table) Dirty() int { return len(t.dirty) }

// Copy is the slot that the last Checkpoint names for an Extent.
func (t *Table) Copy(x uint32) layout.Copy { return t.extents[x].Copy }

// SetCopy notes the slot that the next Checkpoint names.
func (t *Table) SetCopy(x uint32, c layout.Copy) { t.extents[x].Copy = c }

// Slot describes an Extent for its slot; ok is false when it is free.
func (t *Table) Slot(x uint32) (s layout.Slot, ok bool) {
	e := &t.extents[x]
	if e.Replica == None {
		return s, false
	}
	return layout.Slot{
		Extent: x, Replica: e.Replica, Logical: e.Logical, Epoch: t.epochs[x], Blocks: t.blocksOf(e),
	}, true
}

// Checkpoint is the state of Replicas and slots, without what only the Store knows.
func (t *Table) Checkpoint(generation, frame uint64) *layout.Checkpoint {
	c := &layout.Checkpoint{Generation: generation, Frame: frame, Copies: make([]layout.Copy, len(t.extents))}
	for i := range t.extents {
		c.Copies[i] = t.extents[i].Copy
	}
	t.Handles(func(h uint32, r *Replica) {
		c.Replicas = append(c.Replicas, layout.Replica{
			Handle: h, Key: r.Key, Size: r.Size, Generation: r.Generation, LastSeq: r.LastSeq, Record: r.Record,
			Tail: r.Tail(nil), Lossy: r.Lossy,
		})
		c.Lossy = c.Lossy || r.Lossy
	})
	return c
}
