package store

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/storenode/extent"
	"github.com/shale-storage/shale/storenode/journal"
	"github.com/shale-storage/shale/storenode/layout"
)

// replayChunk is how much of the Journal is read at a time, in bytes.
const replayChunk = 256 << 10

// Recovered is a Device's state as Recover found it.
type Recovered struct {
	Table      *extent.Table
	Checkpoint layout.Checkpoint
	// Area of the Checkpoint; Fallback says that the other, newer one was damaged.
	Area     int
	Fallback bool
	// PowerLost says that the machine was reset since the Device was in service, so that what was not flushed may be lost.
	PowerLost bool
	// NextFrame is the number behind the last frame.
	NextFrame uint64
	// Replayed counts records, Verified Blocks that were looked at, Reverted those that hold what they held before an
	// unfinished write, Damaged those that hold neither: reading them fails until they are written.
	Replayed, Verified, Reverted, Damaged int
}

// ReadSuperblock finds a valid copy; bad is the number of the other if it is damaged, else -1.
func ReadSuperblock(r io.ReaderAt, size int64) (s layout.Superblock, bad int, err error) {
	bad, found := -1, false
	var damage error
	for i, at := range layout.SuperblockCopies() {
		b := make([]byte, layout.Unit)
		if at+layout.Unit > size {
			continue
		}
		if _, err := r.ReadAt(b, at); err != nil {
			return s, -1, fmt.Errorf("read superblock: %w", err)
		}
		var one layout.Superblock
		switch err := one.Decode(b); {
		case err != nil:
			bad, damage = i, err
		case one.Size > size:
			bad, damage = i, fmt.Errorf("%w: device has shrunk from %d to %d bytes", layout.ErrCorruptSuperblock, one.Size, size)
		default:
			s, found = one, true
		}
	}
	if !found {
		return s, -1, damage
	}
	return s, bad, nil
}

// Recover reads the state of a Device: the newest Checkpoint, and the Journal behind it. It writes nothing.
func Recover(r io.ReaderAt, s *layout.Superblock, boot uint64) (*Recovered, error) {
	v := &Recovered{Table: extent.New(s.Geometry)}
	if err := v.readCheckpoint(r, s); err != nil {
		return nil, err
	}
	for i := range v.Checkpoint.Replicas {
		if err := v.Table.Restore(&v.Checkpoint.Replicas[i]); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCorruptDevice, err)
		}
	}
	if err := v.readSlots(r, s); err != nil {
		return nil, err
	}
	doubts := doubts{table: v.Table, boot: boot, extents: map[uint32]*doubtful{}}
	if err := v.replay(r, s, &doubts); err != nil {
		return nil, err
	}
	if err := doubts.settle(r, s, v); err != nil {
		return nil, err
	}
	v.PowerLost = doubts.powerLost || v.lossy(boot)
	v.Table.Ready()
	return v, nil
}

// lossy reports whether the machine was reset while the Device was in service. That stays so for this run of the
// machine, as a process that ends early has not told anybody.
func (v *Recovered) lossy(boot uint64) bool {
	c := &v.Checkpoint
	if c.Boot == boot {
		return c.Lossy
	}
	return !c.Clean || v.Replayed > 0
}

// readCheckpoint takes the newer of the two that are valid.
func (v *Recovered) readCheckpoint(r io.ReaderAt, s *layout.Superblock) error {
	var newest [2]uint64
	found := false
	for area := range 2 {
		head := make([]byte, layout.Unit)
		if _, err := r.ReadAt(head, s.CheckpointStart(area)); err != nil {
			return fmt.Errorf("read checkpoint: %w", err)
		}
		generation, length, err := layout.CheckpointHead(head, s.Geometry, s.Salt)
		if err != nil {
			continue
		}
		newest[area] = generation
		whole := make([]byte, length)
		if _, err := r.ReadAt(whole, s.CheckpointStart(area)); err != nil {
			return fmt.Errorf("read checkpoint: %w", err)
		}
		var c layout.Checkpoint
		if c.Decode(whole, s.Geometry, s.Salt) != nil {
			continue
		}
		if !found || c.Generation > v.Checkpoint.Generation {
			v.Checkpoint, v.Area, found = c, area, true
		}
	}
	if !found {
		return fmt.Errorf("%w: no valid checkpoint", ErrCorruptDevice)
	}
	v.Fallback = newest[1-v.Area] > v.Checkpoint.Generation
	return nil
}

func (v *Recovered) readSlots(r io.ReaderAt, s *layout.Superblock) error {
	b := make([]byte, layout.Unit)
	blocks := &layout.Blocks{}
	for x, copied := range v.Checkpoint.Copies {
		if copied == layout.CopyNone {
			continue
		}
		if _, err := r.ReadAt(b, s.SlotStart(uint32(x), int(copied-layout.CopyFirst))); err != nil {
			return fmt.Errorf("read slot of extent %d: %w", x, err)
		}
		slot := layout.Slot{Blocks: blocks}
		if err := slot.Decode(b, s.Salt, uint32(x)); err != nil {
			return fmt.Errorf("%w: extent %d: %w", ErrCorruptDevice, x, err)
		}
		if err := v.Table.RestoreSlot(&slot, copied); err != nil {
			return fmt.Errorf("%w: %w", ErrCorruptDevice, err)
		}
	}
	return nil
}

// replay applies every frame from the Checkpoint's on, up to the first gap.
func (v *Recovered) replay(r io.ReaderAt, s *layout.Superblock, d *doubts) error {
	chunk := make([]byte, replayChunk)
	number := v.Checkpoint.Frame
	for {
		place := int64(number%s.Frames()) * journal.FrameSize
		n := min(int64(len(chunk)), s.JournalSize-place)
		if _, err := r.ReadAt(chunk[:n], s.JournalStart()+place); err != nil {
			return fmt.Errorf("read journal: %w", err)
		}
		for b := chunk[:n]; len(b) > 0; b = b[journal.FrameSize:] {
			f, err := journal.Open(b, s.Salt, number)
			if errors.Is(err, journal.ErrNoFrame) {
				v.NextFrame = number
				return nil
			}
			if err := v.applyFrame(f, d); err != nil {
				return fmt.Errorf("%w: frame %d: %w", ErrCorruptDevice, number, err)
			}
			if number++; number-v.Checkpoint.Frame >= s.Frames() {
				v.NextFrame = number
				return nil
			}
		}
	}
}

func (v *Recovered) applyFrame(f journal.Frame, d *doubts) error {
	d.flushed = max(d.flushed, f.Flushed)
	d.powerLost = d.powerLost || f.Boot != d.boot
	for rest := f.Records; len(rest) > 0; {
		var r journal.Record
		var err error
		if rest, err = journal.Next(rest, &r); err != nil {
			return err
		}
		d.before(&r)
		if err := v.Table.Apply(&r); err != nil {
			return err
		}
		d.after(&r, f.Number)
		v.Replayed++
	}
	return nil
}

// doubts are the Blocks whose data may not have arrived although their record did.
type doubts struct {
	table   *extent.Table
	extents map[uint32]*doubtful
	// flushed is the highest frame known to be durable with its data.
	flushed uint64
	// boot is this run of the machine's; powerLost is set when a frame is from another.
	boot      uint64
	powerLost bool
}

// doubtful is an Extent with such Blocks.
type doubtful struct {
	replica, logical uint32
	blocks           map[int]*history
}

// history is what a Block may hold: first what it held at the Checkpoint, then what each record says, newest last.
type history struct {
	written bool // before the first record
	crcs    []uint32
	frames  []uint64
}

// before notes what Blocks held before a record changes them.
func (d *doubts) before(r *journal.Record) {
	if r.Type != journal.Write {
		return
	}
	x := d.extents[r.Extent]
	if x == nil || x.replica != r.Replica || x.logical != r.Logical {
		x = &doubtful{replica: r.Replica, logical: r.Logical, blocks: map[int]*history{}}
		d.extents[r.Extent] = x
	}
	if d.table.Replica(r.Replica) == nil || r.Extent >= d.table.Len() {
		return
	}
	owner, logical := d.table.Owner(r.Extent)
	mine := owner == r.Replica && logical == r.Logical
	for i := r.First; i < r.First+r.Blocks; i++ {
		if x.blocks[i] != nil {
			continue
		}
		h := &history{}
		if mine && d.table.Blocks(r.Extent).Has(i) {
			h.written = true
			h.crcs, h.frames = append(h.crcs, d.table.Blocks(r.Extent).CRC[i]), append(h.frames, 0)
		}
		x.blocks[i] = h
	}
}

// after notes what a record says of Blocks.
func (d *doubts) after(r *journal.Record, frame uint64) {
	x := d.extents[r.Extent]
	switch {
	case x == nil:
	case r.Type == journal.Write:
		for i := range r.Blocks {
			if h := x.blocks[r.First+i]; h != nil {
				h.crcs, h.frames = append(h.crcs, r.CRC(i)), append(h.frames, frame)
			}
		}
	case r.Type == journal.Clear && x.replica == r.Replica && x.logical == r.Logical:
		for i := r.First; i < r.First+r.Blocks; i++ {
			delete(x.blocks, i)
		}
	}
}

// settle looks at the doubtful Blocks. A Block that holds what a record says is that; one that holds something older is
// the older, unless the newer was durable; one whose first write did not arrive is as never written. Anything else is
// damaged.
func (d *doubts) settle(r io.ReaderAt, s *layout.Superblock, v *Recovered) error {
	data := make([]byte, layout.ExtentSize)
	for number, x := range d.extents {
		owner, logical := d.table.Owner(number)
		if owner != x.replica || logical != x.logical || !d.needsReading(x) {
			continue
		}
		if _, err := r.ReadAt(data, s.ExtentStart(number)); err != nil {
			return fmt.Errorf("read extent %d: %w", number, err)
		}
		blocks := d.table.Blocks(number)
		for i, h := range x.blocks {
			if h.frames[len(h.frames)-1] > d.flushed {
				v.Verified++
				d.settleBlock(blocks, i, h, layout.CRC(data[i*block:(i+1)*block]), v)
			}
		}
	}
	return nil
}

func (d *doubts) needsReading(x *doubtful) bool {
	for _, h := range x.blocks {
		if h.frames[len(h.frames)-1] > d.flushed {
			return true
		}
	}
	return false
}

func (d *doubts) settleBlock(blocks *layout.Blocks, i int, h *history, crc uint32, v *Recovered) {
	last := len(h.crcs) - 1
	for n := last; n >= 0; n-- {
		if h.crcs[n] == crc {
			if n < last {
				v.Reverted++
			}
			blocks.Set(i, crc)
			return
		}
		if h.frames[n] <= d.flushed && (n > 0 || !h.written) {
			break // this one was durable: nothing older may be here
		}
	}
	// The first write to a Block, without its data, never was. But if power was lost, there may have been a later one
	// whose record is gone and whose data has destroyed what the first one wrote: then zeros would be a lie.
	if !h.written && len(h.crcs) == 1 && !d.powerLost {
		v.Reverted++
		blocks.Clear(i)
		return
	}
	// Reads must fail, and a Rebuild must see that the Block differs from a good one: no content has this checksum here.
	v.Damaged++
	blocks.Set(i, ^crc)
}

func unmap(b []byte) {
	if len(b) > 0 {
		_ = unix.Munmap(b) // memory of our own: it cannot fail
	}
}
