package store

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"

	"github.com/shale-storage/shale/storenode/checksum"
	"github.com/shale-storage/shale/storenode/extent"
	"github.com/shale-storage/shale/storenode/journal"
	"github.com/shale-storage/shale/storenode/layout"
	"github.com/shale-storage/shale/storenode/replication/mutant"
)

// replayChunk is how much of the Journal is read at a time, in bytes.
const replayChunk = 256 << 10

// Recovered is a Device's state as Recover found it.
type Recovered struct {
	Table      *extent.Table
	Checkpoint layout.Checkpoint
	// Area of the Checkpoint; Fallback says that the other was damaged, and may be newer.
	Area     int
	Fallback bool
	// PowerLost says that the machine was reset since the Device was in service, so that what was not flushed may be lost.
	PowerLost bool
	// NextFrame is the number behind the last frame.
	NextFrame uint64
	// Replayed counts records, Verified Blocks that were looked at, Reverted those that hold what they held before an
	// unfinished write.
	Replayed, Verified, Reverted int
	// Damaged are those that hold neither: reading them fails until they are written.
	Damaged []Damaged
	// Lossy are the Replicas that were before this recovery: an earlier one may have found Blocks of theirs damaged.
	Lossy []uint32
	// Carried are the Blocks whose place does not hold yet what the Journal does.
	Carried []Carried
}

// Damaged is a Block of a Replica, by its offset there in bytes.
type Damaged struct {
	Replica uint32
	Offset  int64
}

// Carried is a Block whose data is in the Journal, at a place of the Device in bytes.
type Carried struct {
	Extent  uint32
	Block   int
	Journal int64
}

// bring copies carried Blocks to their places; then nothing needs the Journal any more, once it is flushed.
func bring(d *direct, s *layout.Superblock, all []Carried) error {
	slices.SortFunc(all, func(a, b Carried) int {
		return cmp.Or(cmp.Compare(a.Extent, b.Extent), cmp.Compare(a.Block, b.Block))
	})
	data := make([]byte, block)
	for _, c := range all {
		if _, err := d.ReadAt(data, c.Journal); err != nil {
			return err
		}
		if err := d.write(data, s.ExtentStart(c.Extent)+int64(c.Block)*block); err != nil {
			return err
		}
	}
	return nil
}

// ReadSuperblock finds a valid copy; bad is the number of the other if it is damaged, else -1.
func ReadSuperblock(r io.ReaderAt, size int64) (s layout.Superblock, bad int, err error) {
	bad, found := -1, false
	var damage, unreadable error
	for i, at := range layout.SuperblockCopies() {
		b := make([]byte, layout.Unit)
		if at+layout.Unit > size {
			continue
		}
		if _, err := r.ReadAt(b, at); err != nil {
			bad, unreadable = i, fmt.Errorf("read superblock: %w", err)
			continue
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
	switch {
	case found:
		return s, bad, nil
	case unreadable != nil: // nobody knows what is there
		return s, -1, unreadable
	}
	return s, -1, damage
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
	doubts.settle(r, s, v)
	v.markLossy(boot, doubts.powerLost)
	v.Table.Ready()
	return v, nil
}

// markLossy notes who is marked already, and marks all Replicas if the machine was reset while the Device was in
// service. Each keeps its mark until it was made equal to others, whatever else ends or starts meanwhile.
func (v *Recovered) markLossy(boot uint64, otherFrames bool) {
	c := &v.Checkpoint
	v.Table.Handles(func(handle uint32, r *extent.Replica) {
		if r.Lossy {
			v.Lossy = append(v.Lossy, handle)
		}
	})
	reset := otherFrames || c.Boot != boot && (!c.Clean || v.Replayed > 0)
	if reset {
		v.Table.Handles(func(_ uint32, r *extent.Replica) { r.Lossy = true })
	}
	v.PowerLost = reset || c.Boot == boot && c.Lossy
}

// readCheckpoint takes the newer of the two that are valid.
func (v *Recovered) readCheckpoint(r io.ReaderAt, s *layout.Superblock) error {
	var newest [2]uint64
	var unreadable error
	found := false
	for area := range 2 {
		head := make([]byte, layout.Unit)
		if _, err := r.ReadAt(head, s.CheckpointStart(area)); err != nil {
			unreadable, newest[area] = fmt.Errorf("read checkpoint: %w", err), math.MaxUint64
			continue
		}
		generation, length, err := layout.CheckpointHead(head, s.Geometry, s.Salt)
		if err != nil {
			continue
		}
		newest[area] = generation
		whole := make([]byte, length)
		if _, err := r.ReadAt(whole, s.CheckpointStart(area)); err != nil {
			unreadable = fmt.Errorf("read checkpoint: %w", err)
			continue
		}
		var c layout.Checkpoint
		if c.Decode(whole, s.Geometry, s.Salt) != nil {
			continue
		}
		if !found || c.Generation > v.Checkpoint.Generation {
			v.Checkpoint, v.Area, found = c, area, true
		}
	}
	switch {
	case found:
	case unreadable != nil:
		return unreadable
	default:
		return fmt.Errorf("%w: no valid checkpoint", ErrCorruptDevice)
	}
	v.Fallback = newest[1-v.Area] > v.Checkpoint.Generation
	return nil
}

// ring reads the units of a Journal by their numbers.
type ring struct {
	r     io.ReaderAt
	s     *layout.Superblock
	chunk []byte
	// [first, end) are the numbers of the units in chunk.
	first, end uint64
}

func (j *ring) place(number uint64) int64 {
	return j.s.JournalStart() + int64(number%j.s.Frames())*journal.FrameSize
}

// unit is valid until the next call.
func (j *ring) unit(number uint64) ([]byte, error) {
	if number < j.first || number >= j.end {
		n := min(replayChunk/journal.FrameSize, j.s.Frames()-number%j.s.Frames())
		_, err := j.r.ReadAt(j.chunk[:n*journal.FrameSize], j.place(number))
		if err != nil { // it may be of a unit that nobody needs
			n = 1
			_, err = j.r.ReadAt(j.chunk[:journal.FrameSize], j.place(number))
		}
		if err != nil {
			return nil, fmt.Errorf("read journal: %w", err)
		}
		j.first, j.end = number, number+n
	}
	at := (number - j.first) * journal.FrameSize
	return j.chunk[at : at+journal.FrameSize], nil
}

// frame reads the one with the number into b.
func (j *ring) frame(number uint64, b []byte) (journal.Frame, error) {
	unit, err := j.unit(number)
	if err != nil {
		return journal.Frame{}, err
	}
	copy(b, unit)
	return journal.Open(b, j.s.Salt, number)
}

// carried is a unit of data behind a frame: its place, or lostUnit, and its checksum in full.
type carried struct {
	place int64
	whole uint64
}

// lostUnit is the place of data that the Journal should have and has not.
const lostUnit = -1

// data is what lies behind a frame; lost says that some of it is not what its records say, or cannot be read.
func (j *ring) data(f *journal.Frame) (data []carried, lost bool, err error) {
	for rest := f.Records; len(rest) > 0; {
		var r journal.Record
		if rest, err = journal.Next(rest, &r); err != nil {
			return nil, false, err
		}
		if r.Type != journal.WriteData {
			continue
		}
		for i := range r.Blocks {
			number := f.Number + 1 + uint64(len(data))
			if number-f.Number >= j.s.Frames() {
				return nil, false, errors.New("carries more than the journal holds")
			}
			unit := carried{place: lostUnit}
			if b, err := j.unit(number); err == nil {
				if whole := checksum.Whole(b); uint32(whole) == r.CRC(i) {
					unit = carried{j.place(number), whole}
				}
			}
			lost = lost || unit.place == lostUnit
			data = append(data, unit)
		}
	}
	return data, lost, nil
}

// survey reads the marks of all frames that there are before end, also behind a hole. They say up to which frame the
// Device had made all durable; or had taken it, which counts if this is still the run of the machine in which it did.
// No end of a process and no loss of power takes that away.
func (d *doubts) survey(j *ring, first, end uint64) {
	settled := uint64(0)
	for number := first; number < end; number++ {
		b, err := j.unit(number)
		if err != nil {
			continue
		}
		if f, err := journal.Open(b, j.s.Salt, number); err == nil {
			d.sure, settled = max(d.sure, f.Flushed), max(settled, f.Settled)
			d.powerLost = d.powerLost || f.Boot != d.boot
		}
	}
	if !d.powerLost {
		d.sure = max(d.sure, settled)
	}
}

// replay applies every frame from the Checkpoint's on, up to the end of the Journal: the first that is not there, nor
// was. Of one that was there, lost data is damage to its Blocks; without the frame itself nobody knows what is missing.
func (v *Recovered) replay(r io.ReaderAt, s *layout.Superblock, d *doubts) error {
	j := &ring{r: r, s: s, chunk: make([]byte, replayChunk)}
	b, end := make([]byte, journal.FrameSize), v.Checkpoint.Frame+s.Frames()
	v.NextFrame = v.Checkpoint.Frame
	if _, err := j.frame(v.NextFrame, b); err != nil && v.Checkpoint.Clean {
		return nil // the Store was closed then
	}
	d.survey(j, v.NextFrame, end)
	for v.NextFrame < end {
		f, missing := j.frame(v.NextFrame, b)
		var data []carried
		lost := missing != nil
		if missing == nil {
			var err error
			if data, lost, err = j.data(&f); err != nil {
				return fmt.Errorf("%w: frame %d: %w", ErrCorruptDevice, f.Number, err)
			}
		}
		switch {
		case lost && v.NextFrame > d.sure:
			return nil
		case missing != nil:
			return fmt.Errorf("%w: frame %d of the journal was there, as later ones say, and is damaged: %w",
				ErrCorruptDevice, v.NextFrame, missing)
		}
		if err := v.applyFrame(f, data, d); err != nil {
			return fmt.Errorf("%w: frame %d: %w", ErrCorruptDevice, f.Number, err)
		}
		v.NextFrame += 1 + uint64(len(data))
	}
	return nil
}

func (v *Recovered) applyFrame(f journal.Frame, data []carried, d *doubts) error {
	for rest := f.Records; len(rest) > 0; {
		var r journal.Record
		var err error
		if rest, err = journal.Next(rest, &r); err != nil {
			return err
		}
		if isForgotten(&r) {
			continue
		}
		d.before(&r, f.Number)
		if err := v.Table.Apply(&r); err != nil {
			return err
		}
		if r.Type == journal.WriteData {
			d.after(&r, f.Number, data[:r.Blocks])
			data = data[r.Blocks:]
		} else {
			d.after(&r, f.Number, nil)
		}
		v.Replayed++
	}
	return nil
}

// isForgotten reports whether a broken rule has recovery pass over a record.
func isForgotten(r *journal.Record) bool {
	return r.Type == journal.SetRecord && mutant.Now == mutant.ForgetRecord ||
		r.Type == journal.SetGeneration && mutant.Now == mutant.ForgetGeneration
}

// doubts are the Blocks whose data may not have arrived although their record did.
type doubts struct {
	table   *extent.Table
	extents map[uint32]*doubtful
	// sure is the highest frame known to be there with its data. Of what is written by itself up to there nothing is
	// noted, so that memory is for what is in doubt.
	sure uint64
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
	// data is where the Journal has what the record says, 0 if it was not to have it, lostUnit if it has it no more; whole
	// its checksum in full.
	data  []int64
	whole []uint64
}

// before notes what Blocks held before a record of the frame changes them.
func (d *doubts) before(r *journal.Record, frame uint64) {
	switch r.Type {
	case journal.Write:
		if frame <= d.sure { // whatever was in doubt before is over
			d.drop(r)
			return
		}
	case journal.WriteData:
	case journal.Create, journal.Delete:
		d.forget(r)
		return
	case journal.Clear, journal.SetRecord, journal.SetGeneration, journal.Note, journal.Sound:
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
			h.data, h.whole = append(h.data, 0), append(h.whole, 0)
		}
		x.blocks[i] = h
	}
}

// drop drops what was noted of the Blocks of a record.
func (d *doubts) drop(r *journal.Record) {
	x := d.extents[r.Extent]
	if x == nil || x.replica != r.Replica || x.logical != r.Logical {
		return
	}
	for i := r.First; i < r.First+r.Blocks; i++ {
		delete(x.blocks, i)
	}
}

// forget drops what was noted of a Replica that ends: the next one with its handle is another.
func (d *doubts) forget(r *journal.Record) {
	old := d.table.Replica(r.Replica)
	if old == nil || r.Type == journal.Create && old.Key == r.Key {
		return
	}
	maps.DeleteFunc(d.extents, func(_ uint32, x *doubtful) bool { return x.replica == r.Replica })
}

// after notes what a record says of Blocks, and what the Journal carries of them.
func (d *doubts) after(r *journal.Record, frame uint64, data []carried) {
	x := d.extents[r.Extent]
	switch r.Type {
	case journal.Write, journal.WriteData:
		if r.Type == journal.Write && frame <= d.sure {
			return
		}
		for i := range r.Blocks {
			var unit carried
			if data != nil {
				unit = data[i]
			}
			if h := x.blocks[r.First+i]; h != nil {
				h.crcs, h.frames = append(h.crcs, r.CRC(i)), append(h.frames, frame)
				h.data, h.whole = append(h.data, unit.place), append(h.whole, unit.whole)
			}
		}
	case journal.Clear:
		d.drop(r)
	case journal.Create, journal.Delete, journal.SetRecord, journal.SetGeneration, journal.Note, journal.Sound:
	}
}

// settle looks at the doubtful Blocks. A Block that holds what a record says is that; one that the Journal carries is
// what it carries, and is to be restored; one that holds something older is the older, unless the newer was durable;
// one whose first write did not arrive is as never written. Anything else is damaged.
func (d *doubts) settle(r io.ReaderAt, s *layout.Superblock, v *Recovered) {
	data := make([]byte, layout.ExtentSize)
	for _, number := range slices.Sorted(maps.Keys(d.extents)) {
		x := d.extents[number]
		owner, logical := d.table.Owner(number)
		first, end := d.doubtfulRange(x)
		if owner != x.replica || logical != x.logical || first == end {
			continue
		}
		_, err := r.ReadAt(data[first*block:end*block], s.ExtentStart(number)+int64(first)*block)
		blocks := d.table.Blocks(number)
		for i, h := range x.blocks {
			if !h.isDoubtful(d.sure) {
				continue
			}
			v.Verified++
			b, at := data[i*block:(i+1)*block], place{number, i}
			if err != nil {
				if _, err := r.ReadAt(b, s.ExtentStart(number)+int64(i)*block); err != nil {
					d.unreadable(at, blocks, h, v)
					continue
				}
			}
			d.settleBlock(at, blocks, h, checksum.Whole(b), v)
		}
	}
}

// doubtfulRange is from the first to behind the last doubtful Block of an Extent; empty if there is none.
func (d *doubts) doubtfulRange(x *doubtful) (first, end int) {
	for i, h := range x.blocks {
		switch {
		case !h.isDoubtful(d.sure):
		case first == end:
			first, end = i, i+1
		default:
			first, end = min(first, i), max(end, i+1)
		}
	}
	return first, end
}

// isDoubtful reports whether the last write may be elsewhere than in its place, or nowhere.
func (h *history) isDoubtful(flushed uint64) bool {
	last := len(h.frames) - 1
	return h.frames[last] > flushed || h.data[last] != 0
}

// place of a Block on the Device.
type place struct {
	extent uint32
	block  int
}

func (d *doubts) settleBlock(at place, blocks *layout.Blocks, h *history, whole uint64, v *Recovered) {
	if n := d.holds(h, whole); n >= 0 {
		if n < len(h.crcs)-1 {
			v.Reverted++
		}
		if !h.matches(n, whole) {
			v.Carried = append(v.Carried, Carried{Extent: at.extent, Block: at.block, Journal: h.data[n]})
		}
		blocks.Set(at.block, h.crcs[n])
		return
	}
	// The first write to a Block, without its data, never was. But if power was lost, there may have been a later one
	// whose record is gone and whose data has destroyed what the first one wrote: then zeros would be a lie.
	if !h.written && len(h.crcs) == 1 && h.data[0] != lostUnit && !d.powerLost {
		v.Reverted++
		blocks.Clear(at.block)
		return
	}
	// Reads must fail, and a Rebuild must see that the Block differs from a good one: no content has this checksum here.
	d.damaged(at, v)
	blocks.Set(at.block, ^uint32(whole))
}

// unreadable settles a Block whose place cannot be read. What the Journal carries last is written there again; else the
// newest record stands, and reads fail until it is written.
func (d *doubts) unreadable(at place, blocks *layout.Blocks, h *history, v *Recovered) {
	last := len(h.crcs) - 1
	blocks.Set(at.block, h.crcs[last])
	if h.data[last] <= 0 {
		d.damaged(at, v)
		return
	}
	v.Carried = append(v.Carried, Carried{Extent: at.extent, Block: at.block, Journal: h.data[last]})
}

func (d *doubts) damaged(at place, v *Recovered) {
	replica, logical := d.table.Owner(at.extent)
	v.Damaged = append(v.Damaged, Damaged{replica, int64(logical)*layout.ExtentSize + int64(at.block)*block})
}

// matches reports whether the place holds what the n-th record says; of what the Journal carries all 64 bits are known.
func (h *history) matches(n int, whole uint64) bool {
	return h.crcs[n] == uint32(whole) && (h.data[n] <= 0 || h.whole[n] == whole)
}

// holds is which record says what a Block holds whose place has the checksum; -1 if none does. What the Journal carries
// counts, wherever the place is behind it. But if power was lost, and the place is not behind, then what came last may
// have been durable, and been destroyed by something whose record is lost: that is none.
func (d *doubts) holds(h *history, whole uint64) int {
	last, carried := len(h.crcs)-1, -1
	for n := last; n >= 0; n-- {
		if h.data[n] > 0 && carried < 0 {
			carried = n
			if n == last || !d.powerLost {
				return n
			}
		}
		if h.matches(n, whole) {
			return max(n, carried)
		}
		if h.data[n] <= 0 && h.frames[n] <= d.sure && (n > 0 || !h.written) {
			break // this one was durable: nothing older may be here
		}
	}
	return -1
}
