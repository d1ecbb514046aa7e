package extent

import (
	"errors"
	"slices"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/invariant"
	"github.com/shale-storage/shale/storenode/layout"
	"github.com/shale-storage/shale/storenode/membership"
)

// None stands for no Extent and no handle.
const None = ^uint32(0)

// ErrInconsistent says that a record or slot contradicts the Device's geometry.
var ErrInconsistent = errors.New("metadata contradicts itself")

const (
	// pageExtents is how many Extents of a Replica one page of its map covers.
	pageExtents = 1024
	// slabExtents is how many allocated Extents' Blocks are made at a time.
	slabExtents = 64
	// maxSize bounds a Replica, so that its Extents can be counted; no Device is nearly as large.
	maxSize = 1 << 50
)

type mapPage [pageExtents]uint32

// Replica is one Replica of the Device.
type Replica struct {
	Key        ident.ReplicaKey
	Size       int64
	Record     membership.Record
	Generation ident.Generation
	LastSeq    ident.Seq
	// Lossy as in a Checkpoint.
	Lossy bool
	// Used is the number of its Extents.
	Used uint32

	pages []*mapPage
	// tail is a ring of the last writes; tailNext is where the next goes.
	tail     []layout.Tail
	tailNext int
}

// Extent is the state of one Extent of the Device.
type Extent struct {
	// Replica is the handle of the owner, None when free or leaving.
	Replica, Logical uint32
	// blocks is the index of its Blocks in the slabs, None when it has none.
	blocks uint32
	// users are writes on their way to it; it is not freed before they are done.
	users uint16
	// Copy is the slot that the last Checkpoint names.
	Copy  layout.Copy
	dirty bool
}

// Table is a Device's state. Make it with New.
type Table struct {
	replicas []*Replica
	handles  map[ident.ReplicaKey]uint32
	extents  []Extent
	epochs   []ident.Epoch

	slabs     []*[slabExtents]layout.Blocks
	freeSlots []uint32

	// free Extents, as a stack.
	free []uint32
	// stale Extents are free too, and nobody knows whether the Device was told: a process that ended may have left them
	// leaving. A stack, the lowest are handed out first.
	stale []uint32
	// leaving Extents are to be discarded on the Device.
	leaving []uint32
	// dirty Extents differ from their slots.
	dirty []uint32

	// held handles became free while holds was set.
	held  []uint32
	holds bool

	used uint32
	// away are Extents that Leaving or Stale has handed out and that are not back by Left.
	away        uint32
	maxReplicas uint32
	// Reserved is what was promised to Replicas, in bytes.
	Reserved int64
}

// New is the state of an empty Device.
func New(g layout.Geometry) *Table {
	t := &Table{
		handles: map[ident.ReplicaKey]uint32{}, extents: make([]Extent, g.Extents), epochs: make([]ident.Epoch, g.Extents),
		stale: make([]uint32, 0, g.Extents), maxReplicas: g.MaxReplicas,
	}
	for i := range t.extents {
		t.extents[i] = Extent{Replica: None, blocks: None}
	}
	return t
}

// Ready collects what is free, once after recovery: before, Extents are taken by number.
func (t *Table) Ready() {
	t.free, t.stale = t.free[:0], t.stale[:0]
	for i := len(t.extents) - 1; i >= 0; i-- {
		x := &t.extents[i]
		if x.Replica != None && t.blocksOf(x).IsEmpty() {
			t.release(uint32(i)) // allocated for a write that did not arrive
		}
		if x.Replica == None {
			t.stale = append(t.stale, uint32(i))
		}
	}
	t.leaving = t.leaving[:0]
}

// Lookup finds a Replica's handle.
func (t *Table) Lookup(key ident.ReplicaKey) (uint32, bool) {
	h, ok := t.handles[key]
	return h, ok
}

// Replica is the one with the handle, nil if there is none.
func (t *Table) Replica(h uint32) *Replica {
	if h >= uint32(len(t.replicas)) {
		return nil
	}
	return t.replicas[h]
}

// Handles calls f for each Replica in the order of handles.
func (t *Table) Handles(f func(h uint32, r *Replica)) {
	for h, r := range t.replicas {
		if r != nil {
			f(uint32(h), r)
		}
	}
}

// HoldHandles keeps those that become free from being given out again until ReleaseHandles. While a Checkpoint is being
// written, what it holds of an Extent, and what the Journal says behind it, may still be of a Replica that was removed.
func (t *Table) HoldHandles() { t.holds = true }

// ReleaseHandles ends what HoldHandles began.
func (t *Table) ReleaseHandles() { t.holds, t.held = false, t.held[:0] }

// NewHandle is a handle that is not in use, None when there are too many Replicas.
func (t *Table) NewHandle() uint32 {
	for h, r := range t.replicas {
		if r == nil && !slices.Contains(t.held, uint32(h)) {
			return uint32(h)
		}
	}
	if n := uint32(len(t.replicas)); n < t.maxReplicas {
		return n
	}
	return None
}

// Find is the Extent at the Replica's Logical place, None if nothing is written there.
func (t *Table) Find(h, logical uint32) uint32 {
	page := t.replicas[h].pages[logical/pageExtents]
	if page == nil {
		return None
	}
	return page[logical%pageExtents]
}

// Owner is who has an Extent, None for nobody, and its place there.
func (t *Table) Owner(x uint32) (replica, logical uint32) {
	return t.extents[x].Replica, t.extents[x].Logical
}

// Blocks of an allocated Extent.
func (t *Table) Blocks(x uint32) *layout.Blocks { return t.blocksOf(&t.extents[x]) }

// Epoch of an Extent's last change.
func (t *Table) Epoch(x uint32) ident.Epoch { return t.epochs[x] }

// Used is the number of Extents that are not free, FreeCount of those that are.
func (t *Table) Used() int      { return int(t.used) + t.Coming() }
func (t *Table) FreeCount() int { return len(t.free) + len(t.stale) } //nolint:revive // explained above

// Coming is the number of Extents that nobody owns, and that are not free yet.
func (t *Table) Coming() int { return len(t.leaving) + int(t.away) }

// Allocate takes a free Extent for the Replica's Logical place; None when there is none.
func (t *Table) Allocate(h, logical uint32) uint32 {
	from := &t.free
	if len(t.free) == 0 {
		from = &t.stale
	}
	last := len(*from) - 1
	if last < 0 {
		return None
	}
	x := (*from)[last]
	*from = (*from)[:last]
	t.assign(x, h, logical)
	return x
}

// Stale takes up to n stale Extents that are to be discarded; each is free again after Left.
func (t *Table) Stale(into []uint32, n int) []uint32 {
	rest := len(t.stale) - min(n, len(t.stale))
	into = append(into, t.stale[rest:]...)
	t.away += uint32(len(t.stale) - rest)
	if t.stale = t.stale[:rest]; rest == 0 {
		t.stale = nil
	}
	return into
}

// Use counts a write on its way to the Extent, Unuse its end; an Extent that is then empty and unused is freed.
func (t *Table) Use(x uint32) { t.extents[x].users++ }

// Unuse is the opposite of Use.
func (t *Table) Unuse(x uint32) {
	if t.extents[x].users == 0 { // a Check's arguments would be allocated each time
		invariant.Check(false, "extent %d has no users", x)
	}
	t.extents[x].users--
	t.freeIfEmpty(x)
}

// Leaving takes up to n freed Extents that are to be discarded; each is free again after Left.
func (t *Table) Leaving(into []uint32, n int) []uint32 {
	for i := len(t.leaving) - 1; i >= 0 && n > 0; i-- {
		x := t.leaving[i]
		if t.extents[x].users > 0 {
			continue // something is still on its way there
		}
		t.leaving[i] = t.leaving[len(t.leaving)-1]
		t.leaving = t.leaving[:len(t.leaving)-1]
		t.away++
		into, n = append(into, x), n-1
	}
	return into
}

// Left makes an Extent free that came from Leaving or Stale.
func (t *Table) Left(x uint32) {
	t.away--
	t.free = append(t.free, x)
}

// assign gives an Extent nobody has to a Replica's place that has none.
func (t *Table) assign(x, h, logical uint32) {
	r := t.replicas[h]
	t.epochs[x] = 0 // not that of whoever had it before
	page := r.pages[logical/pageExtents]
	if page == nil {
		page = new(mapPage)
		for i := range page {
			page[i] = None
		}
		r.pages[logical/pageExtents] = page
	}
	page[logical%pageExtents] = x
	e := &t.extents[x]
	e.Replica, e.Logical = h, logical
	e.blocks = t.newBlocks()
	r.Used++
	t.used++
}

// release takes an Extent away from its owner; the caller says where it goes.
func (t *Table) release(x uint32) {
	e := &t.extents[x]
	r := t.replicas[e.Replica]
	r.pages[e.Logical/pageExtents][e.Logical%pageExtents] = None
	r.Used--
	t.used--
	t.freeSlots = append(t.freeSlots, e.blocks)
	e.Replica, e.blocks = None, None
	t.touch(x)
}

func (t *Table) freeIfEmpty(x uint32) {
	e := &t.extents[x]
	if e.Replica == None || e.users > 0 || !t.blocksOf(e).IsEmpty() {
		return
	}
	t.release(x)
	t.leaving = append(t.leaving, x)
}

// touch notes that an Extent differs from its slot.
func (t *Table) touch(x uint32) {
	if e := &t.extents[x]; !e.dirty {
		e.dirty = true
		t.dirty = append(t.dirty, x)
	}
}

func (t *Table) blocksOf(e *Extent) *layout.Blocks {
	return &t.slabs[e.blocks/slabExtents][e.blocks%slabExtents]
}

func (t *Table) newBlocks() uint32 {
	if len(t.freeSlots) == 0 {
		first := uint32(len(t.slabs) * slabExtents)
		t.slabs = append(t.slabs, new([slabExtents]layout.Blocks))
		for i := range uint32(slabExtents) {
			t.freeSlots = append(t.freeSlots, first+slabExtents-1-i)
		}
	}
	i := t.freeSlots[len(t.freeSlots)-1]
	t.freeSlots = t.freeSlots[:len(t.freeSlots)-1]
	t.slabs[i/slabExtents][i%slabExtents] = layout.Blocks{}
	return i
}

// Len is the number of Extents of the Device.
func (t *Table) Len() uint32 { return uint32(len(t.extents)) }
