package extent

import (
	"fmt"
	"math"
	"slices"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/journal"
	"github.com/shale-storage/shale/storenode/layout"
)

// Apply carries out one record. An error means that the record is none of this Device's and leaves the state as it was.
func (t *Table) Apply(r *journal.Record) error {
	switch r.Type {
	case journal.Write, journal.WriteData, journal.Clear:
		return t.applyExtent(r)
	case journal.Create:
		return t.create(r.Replica, r.Key, r.Size)
	case journal.Delete, journal.SetRecord, journal.SetGeneration, journal.Note, journal.Sound:
	}
	replica := t.Replica(r.Replica)
	if replica == nil {
		return nil // told again of a Replica that is deleted since
	}
	switch r.Type {
	case journal.Delete:
		t.remove(r.Replica)
	case journal.SetRecord:
		replica.Record = r.Membership
	case journal.SetGeneration:
		replica.Generation = max(replica.Generation, r.Generation)
	case journal.Note:
		replica.remember(r.Seq, r.Epoch, r.Offset, r.Length)
	case journal.Sound:
		replica.Lossy = false
	case journal.Write, journal.WriteData, journal.Clear, journal.Create:
	}
	return nil
}

func (t *Table) applyExtent(r *journal.Record) error {
	replica := t.Replica(r.Replica)
	switch {
	case r.Extent >= uint32(len(t.extents)), replica != nil && r.Logical >= replica.logicalExtents():
		return fmt.Errorf("extent %d as part %d of replica %d: %w", r.Extent, r.Logical, r.Replica, ErrInconsistent)
	case replica == nil:
		return nil
	}
	replica.remember(r.Seq, r.Epoch, int64(r.Logical)*layout.ExtentSize+int64(r.First)*ident.BlockSize,
		uint32(r.Blocks*ident.BlockSize))
	t.take(r.Extent, r.Replica, r.Logical)
	blocks := t.Blocks(r.Extent)
	for i := range r.Blocks {
		if r.Type != journal.Clear {
			blocks.Set(r.First+i, r.CRC(i))
		} else {
			blocks.Clear(r.First + i)
		}
	}
	t.epochs[r.Extent] = max(t.epochs[r.Extent], r.Epoch)
	t.touch(r.Extent)
	t.freeIfEmpty(r.Extent)
	return nil
}

// take brings an Extent to a Replica's place, out of other hands if need be.
func (t *Table) take(x, h, logical uint32) {
	e := &t.extents[x]
	if e.Replica == h && e.Logical == logical {
		return
	}
	if e.Replica != None {
		t.release(x)
	}
	if other := t.Find(h, logical); other != None {
		t.release(other)
	}
	t.assign(x, h, logical)
}

func (t *Table) create(h uint32, key ident.ReplicaKey, size int64) error {
	if h >= t.maxReplicas {
		return fmt.Errorf("replica handle %d of %d: %w", h, t.maxReplicas, ErrInconsistent)
	}
	if size > maxSize {
		return fmt.Errorf("replica of %d bytes: %w", size, ErrInconsistent)
	}
	if old := t.Replica(h); old != nil {
		if old.Key == key {
			return nil
		}
		t.remove(h)
	}
	if other, ok := t.handles[key]; ok {
		t.remove(other)
	}
	for uint32(len(t.replicas)) <= h {
		t.replicas = append(t.replicas, nil)
	}
	r := &Replica{Key: key, Size: size}
	r.pages = make([]*mapPage, (r.logicalExtents()+pageExtents-1)/pageExtents)
	t.replicas[h], t.handles[key] = r, h
	t.Reserved += size
	return nil
}

// remove frees all of a Replica's Extents.
func (t *Table) remove(h uint32) {
	r := t.replicas[h]
	for _, page := range r.pages {
		if page == nil {
			continue
		}
		for _, x := range page {
			if x != None {
				t.release(x)
				t.leaving = append(t.leaving, x)
			}
		}
	}
	delete(t.handles, r.Key)
	if t.replicas[h] = nil; t.holds {
		t.held = append(t.held, h)
	}
	t.Reserved -= r.Size
}

// Restore puts a Replica of a Checkpoint in its place.
func (t *Table) Restore(c *layout.Replica) error {
	if err := t.create(c.Handle, c.Key, c.Size); err != nil {
		return err
	}
	r := t.replicas[c.Handle]
	r.Generation, r.LastSeq, r.Record, r.Lossy = c.Generation, c.LastSeq, c.Record, c.Lossy
	r.tail = append(r.tail, c.Tail...)
	r.tailNext = len(r.tail) % layout.TailLength
	return nil
}

// RestoreSlot puts an Extent of a Checkpoint in its place.
func (t *Table) RestoreSlot(s *layout.Slot, copied layout.Copy) error {
	r := t.Replica(s.Replica)
	if r == nil { // its Replica was deleted while the Checkpoint was written
		t.extents[s.Extent].Copy = copied // the slot is named as long as that Checkpoint is in force
		t.touch(s.Extent)
		return nil
	}
	if s.Logical >= r.logicalExtents() {
		return fmt.Errorf("extent %d as part %d of replica %d: %w", s.Extent, s.Logical, s.Replica, ErrInconsistent)
	}
	t.take(s.Extent, s.Replica, s.Logical)
	e := &t.extents[s.Extent]
	*t.blocksOf(e) = *s.Blocks
	e.Copy = copied
	t.epochs[s.Extent] = s.Epoch
	return nil
}

func (r *Replica) logicalExtents() uint32 {
	return uint32((r.Size + layout.ExtentSize - 1) / layout.ExtentSize)
}

// remember adds a write to the tail. One that is there already, told again by recovery, is not added twice; what a
// claim made equal piece by piece, or a write that was undone, all under one Seq, takes no more entries than it has
// gaps.
func (r *Replica) remember(seq ident.Seq, epoch ident.Epoch, offset int64, length uint32) {
	if seq == 0 {
		return
	}
	entry := layout.Tail{Seq: seq, Epoch: epoch, Offset: offset, Length: length}
	if seq <= r.LastSeq && r.joins(&entry) {
		return
	}
	r.LastSeq = max(r.LastSeq, seq)
	if len(r.tail) < layout.TailLength {
		r.tail = append(r.tail, entry)
	} else {
		r.tail[r.tailNext] = entry
	}
	r.tailNext = (r.tailNext + 1) % layout.TailLength
}

// joins reports whether an entry is a part of one in the tail now, as which it may close the gap to another one.
func (r *Replica) joins(entry *layout.Tail) bool {
	i := 0
	for i < len(r.tail) && !absorb(&r.tail[i], entry) {
		i++
	}
	if i == len(r.tail) {
		return false
	}
	for j := i + 1; j < len(r.tail); j++ {
		if absorb(&r.tail[i], &r.tail[j]) {
			r.tail[j].Seq = 0
			r.tail = slices.DeleteFunc(r.Tail(nil), func(t layout.Tail) bool { return t.Seq == 0 })
			r.tailNext = len(r.tail)
			return true
		}
	}
	return true
}

// absorb extends an entry by another one of the same Seq that it overlaps or touches, and reports whether it did.
func absorb(t, other *layout.Tail) bool {
	if t.Seq != other.Seq {
		return false
	}
	from, to := min(t.Offset, other.Offset), max(t.Offset+int64(t.Length), other.Offset+int64(other.Length))
	if to-from > int64(t.Length)+int64(other.Length) || to-from > math.MaxUint32 {
		return false
	}
	t.Offset, t.Length = from, uint32(to-from)
	return true
}

// Tail appends the recent writes, oldest first.
func (r *Replica) Tail(into []layout.Tail) []layout.Tail {
	if len(r.tail) < layout.TailLength {
		return append(into, r.tail...)
	}
	into = append(into, r.tail[r.tailNext:]...)
	return append(into, r.tail[:r.tailNext]...)
}
