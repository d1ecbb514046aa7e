package replication

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/shale-storage/shale/storenode/bitmap"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/wire"
)

const (
	extentBlocks = bitmap.Blocks
	// tailLength as the Store has it.
	tailLength = 256
)

// memory is a counted Payload: a number for each Block, or encoded bytes.
type memory struct {
	refs   int
	values []uint64
	bytes  []byte
	live   *int
}

func newMemory(live *int, values []uint64, encoded []byte) *memory {
	*live++
	return &memory{refs: 1, values: values, bytes: encoded, live: live}
}

func (p *memory) Retain() {
	if p.refs <= 0 {
		panic("memory is retained that nobody has")
	}
	p.refs++
}

func (p *memory) Release() {
	if p.refs <= 0 {
		panic("memory is released twice")
	}
	if p.refs--; p.refs == 0 {
		*p.live--
	}
}

// disk is a Replica at rest, as dumb as can be. What ends a process leaves it as it is; loss of power takes what was
// not flushed, any part of it.
type disk struct {
	blocks map[int64]uint64
	epochs map[uint32]ident.Epoch
	// bad Blocks cannot be read, until they are written.
	bad  map[int64]bool
	tail []wire.TailRecord
	last ident.Seq

	record     membership.Record
	generation ident.Generation
	powerLost  bool

	// flushed is the state of the last flush, since what was done after it.
	flushed *disk
	since   []Op
}

func newDisk() *disk {
	d := newEmptyDisk()
	d.flushed = d.clone()
	return d
}

func newEmptyDisk() *disk {
	return &disk{blocks: map[int64]uint64{}, epochs: map[uint32]ident.Epoch{}, bad: map[int64]bool{}}
}

// rot makes a Block unreadable, at rest.
func (d *disk) rot(b int64) bool {
	_, written := d.blocks[b]
	if written {
		d.bad[b] = true
		if d.flushed.blocks[b] == d.blocks[b] {
			d.flushed.bad[b] = true
		}
	}
	return written
}

// hasBad reports whether a Block of a range cannot be read.
func (d *disk) hasBad(op *Op) bool {
	for b := op.Offset / ident.BlockSize; b < (op.Offset+int64(op.Length))/ident.BlockSize; b++ {
		if d.bad[b] {
			return true
		}
	}
	return false
}

func (d *disk) clone() *disk {
	c := newEmptyDisk()
	c.tail, c.last = slices.Clone(d.tail), d.last
	maps.Copy(c.bad, d.bad)
	for k, v := range d.blocks {
		c.blocks[k] = v
	}
	for k, v := range d.epochs {
		c.epochs[k] = v
	}
	return c
}

// losePower keeps what was flushed and any part of the rest, in any order.
func (d *disk) losePower(r *rand.Rand) {
	kept := d.flushed.clone()
	for _, op := range d.since {
		if r.IntN(2) == 0 {
			kept.apply(op, op.Payload)
		}
	}
	d.blocks, d.epochs, d.bad, d.tail, d.last = kept.blocks, kept.epochs, kept.bad, kept.tail, kept.last
	d.flushed, d.since, d.powerLost = kept, nil, true
}

func (d *disk) flush() { d.flushed, d.since = d.clone(), nil }

func (d *disk) remember(t wire.TailRecord) {
	if t.Seq == 0 {
		return
	}
	d.last = max(d.last, t.Seq)
	d.tail = append(d.tail, t)
	if len(d.tail) > tailLength {
		d.tail = d.tail[1:]
	}
}

// apply carries out a change.
func (d *disk) apply(op Op, p Payload) {
	first, blocks := op.Offset/ident.BlockSize, int64(op.Length/ident.BlockSize)
	if op.Kind != Write && op.Kind != Spoil {
		d.remember(wire.TailRecord{Seq: op.Seq, Epoch: op.Epoch, Offset: uint64(op.Offset), Length: uint32(op.Length)})
	}
	for i := range blocks {
		b := first + i
		extent := uint32(b / extentBlocks)
		delete(d.bad, b)
		if op.Kind == Spoil {
			d.blocks[b], d.bad[b] = uint64(op.Sum), true
			d.epochs[extent] = max(d.epochs[extent], op.Epoch)
			continue
		}
		if op.Kind != Write {
			if _, ok := d.epochs[extent]; ok {
				delete(d.blocks, b)
				d.epochs[extent] = max(d.epochs[extent], op.Epoch)
			}
			continue
		}
		if i == 0 || b%extentBlocks == 0 {
			n := min(blocks-i, extentBlocks-b%extentBlocks)
			d.remember(wire.TailRecord{
				Seq: op.Seq, Epoch: op.Epoch, Offset: uint64(b * ident.BlockSize), Length: uint32(n * ident.BlockSize),
			})
		}
		d.blocks[b] = p.(*memory).values[i]
		d.epochs[extent] = max(d.epochs[extent], op.Epoch)
	}
	for extent := uint32(first / extentBlocks); extent <= uint32((first+blocks-1)/extentBlocks); extent++ {
		if _, ok := d.epochs[extent]; ok && !d.has(extent) {
			delete(d.epochs, extent)
		}
	}
}

func (d *disk) has(extent uint32) bool {
	for b := range int64(extentBlocks) {
		if _, ok := d.blocks[int64(extent)*extentBlocks+b]; ok {
			return true
		}
	}
	return false
}

func (d *disk) read(op *Op) []uint64 {
	values := make([]uint64, op.Length/ident.BlockSize)
	for i := range values {
		values[i] = d.blocks[op.Offset/ident.BlockSize+int64(i)]
	}
	return values
}

func (d *disk) digest(extent uint32) wire.ExtentDigest {
	x := wire.ExtentDigest{Index: extent, Epoch: d.epochs[extent], Digest: 14695981039346656037}
	for b := range int64(extentBlocks) {
		if v, ok := d.blocks[int64(extent)*extentBlocks+b]; ok {
			x.Digest = (x.Digest^uint64(b))*1099511628211 ^ v*31
		}
	}
	return x
}

// extents are the indexes of those allocated, ascending.
func (d *disk) extents() []uint32 {
	var all []uint32
	for x := range d.epochs {
		all = append(all, x)
	}
	slices.Sort(all)
	return all
}

func (d *disk) written(extent uint32) bitmap.Bitmap {
	var b bitmap.Bitmap
	for i := range bitmap.Blocks {
		if _, ok := d.blocks[int64(extent)*extentBlocks+int64(i)]; ok {
			b.Set(i)
		}
	}
	return b
}

func (d *disk) String() string {
	keys := make([]int64, 0, len(d.blocks))
	for b := range d.blocks {
		keys = append(keys, b)
	}
	slices.Sort(keys)
	text := ""
	for _, b := range keys {
		text += fmt.Sprintf("%d:%d ", b, d.blocks[b])
	}
	return text
}
