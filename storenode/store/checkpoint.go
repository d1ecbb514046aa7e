package store

import (
	"fmt"
	"io"
	"slices"

	"github.com/shale-storage/shale/storenode/engine"
	"github.com/shale-storage/shale/storenode/layout"
)

// maxSlotWrites bounds the slots on their way, so that foreground IOs find the Device free.
const maxSlotWrites = 8

// phase of a Checkpoint.
type phase uint8

const (
	idle phase = iota + 1
	// draining: pieces recorded before the Checkpoint's frame are on their way.
	draining
	// placingData: Blocks that the Journal carries go to their place.
	placingData
	// slots: changed Extents are written to their free slots.
	slots
	// flushingSlots, writing, flushingArea: the Checkpoint becomes durable.
	flushingSlots
	writing
	flushingArea
)

// checkpointer writes Checkpoints, one at a time.
type checkpointer struct {
	s     *Store
	phase phase
	// area and generation of the last Checkpoint; frame and previous where it and the one before it begin to replay.
	area            int
	generation      uint64
	frame, previous uint64
	// next is the frame from which the Checkpoint under way will replay.
	next uint64
	// placed is the round of the placer that it waits for.
	placed uint64
	// clean: the Store was closing when it began, so that nothing comes after it.
	clean bool

	changed []uint32
	writes  int
	memory  [maxSlotWrites]slotWrite
	encoded []byte
	request engine.Request
	// wanted are told of the end of the next Checkpoint, waiting of the one under way.
	wanted, waiting []func(error)
}

// slotWrite is one slot on its way.
type slotWrite struct {
	c       *checkpointer
	request engine.Request
	buf     []byte
	extent  uint32
	copied  layout.Copy
	busy    bool
}

func (c *checkpointer) init(s *Store, r *Recovered) error {
	c.s, c.phase = s, idle
	c.area, c.generation = r.Area, r.Checkpoint.Generation
	c.frame, c.previous = r.Checkpoint.Frame, r.Checkpoint.Frame
	for i := range c.memory {
		b, err := s.o.memory().Map(layout.Unit)
		if err != nil {
			return err
		}
		c.memory[i] = slotWrite{c: c, buf: b}
	}
	return nil
}

// Checkpoint writes the state of now; done is told when it is durable.
func (s *Store) Checkpoint(done func(error)) {
	if s.failed != nil {
		s.later(func() { done(s.failed) })
		return
	}
	s.checkpoint.wanted = append(s.checkpoint.wanted, done)
}

// advance goes as far as it can without waiting.
func (c *checkpointer) advance() {
	if c.s.failed != nil {
		c.end(c.s.failed)
		return
	}
	if c.phase == idle && (len(c.wanted) > 0 || c.s.journal.isFilling(c.frame) || c.s.journal.isStarved()) {
		c.begin()
	}
	if c.phase == draining && c.s.piecesOf[1-c.s.era] == 0 {
		c.placed = c.s.placer.drain()
		c.phase = placingData
	}
	if c.phase == placingData && c.s.placer.rounds >= c.placed {
		c.changed = c.s.table.TakeDirty(c.changed[:0])
		c.phase = slots
	}
	if c.phase == slots {
		c.writeSlots()
	}
}

func (c *checkpointer) begin() {
	c.phase = draining
	c.s.table.HoldHandles()
	c.waiting, c.wanted = c.wanted, c.waiting[:0]
	c.next, c.clean = c.s.journal.next, c.s.closing
	c.s.era = 1 - c.s.era
}

// writeSlots keeps slots on their way until all changed Extents are written.
func (c *checkpointer) writeSlots() {
	for i := range c.memory {
		w := &c.memory[i]
		for !w.busy && len(c.changed) > 0 {
			x := c.changed[len(c.changed)-1]
			c.changed = c.changed[:len(c.changed)-1]
			c.writeSlot(w, x)
		}
	}
	if c.writes == 0 && len(c.changed) == 0 {
		c.phase = flushingSlots
		c.send(engine.OpFlush, nil, 0)
	}
}

func (c *checkpointer) writeSlot(w *slotWrite, x uint32) {
	slot, allocated := c.s.table.Slot(x)
	if !allocated {
		c.s.table.SetCopy(x, layout.CopyNone)
		return
	}
	w.extent, w.copied, w.busy = x, layout.CopyFirst, true
	if c.s.table.Copy(x) == layout.CopyFirst {
		w.copied = layout.CopySecond
	}
	slot.Encode(w.buf, c.s.super.Salt)
	c.writes++
	w.request = engine.Request{
		Op: engine.OpWrite, Offset: c.s.super.SlotStart(x, int(w.copied-layout.CopyFirst)), Buf: w.buf, Done: w,
	}
	c.s.device.Submit(&w.request)
}

// Complete implements engine.Completer: a slot is written.
func (w *slotWrite) Complete(r *engine.Request) {
	w.busy = false
	w.c.writes--
	if r.Err != nil {
		w.c.s.fail(fmt.Errorf("write slot: %w", r.Err))
	} else {
		w.c.s.table.SetCopy(w.extent, w.copied)
	}
	w.c.kickWhileOpening()
}

func (c *checkpointer) kickWhileOpening() {
	if c.s.opening {
		c.s.Kick()
	}
}

// Complete implements engine.Completer: a flush or the area is done.
func (c *checkpointer) Complete(r *engine.Request) {
	switch {
	case r.Err != nil:
		c.s.fail(fmt.Errorf("write checkpoint: %w", r.Err))
	case c.s.failed == nil:
		c.step()
	}
	c.kickWhileOpening()
}

// step goes on after a flush or the area.
func (c *checkpointer) step() {
	switch c.phase {
	case flushingSlots:
		c.writeArea()
	case writing:
		c.phase = flushingArea
		c.send(engine.OpFlush, nil, 0)
	case flushingArea:
		c.area, c.generation = 1-c.area, c.generation+1
		c.previous, c.frame = c.frame, c.next
		c.s.journal.keep = c.previous
		c.s.table.ReleaseHandles()
		c.s.forgetCleared()
		c.end(nil)
		c.s.journal.resume()
	case idle, draining, placingData, slots:
	}
}

func (c *checkpointer) writeArea() {
	state := c.s.table.Checkpoint(c.generation+1, c.next)
	state.Boot, state.Clean = c.s.o.Boot, c.clean
	encoded := state.Encode(nil, c.s.super.Salt)
	if len(c.encoded) < len(encoded) {
		c.s.o.memory().Unmap(c.encoded)
		var err error
		if c.encoded, err = c.s.o.memory().Map(len(encoded)); err != nil {
			c.s.fail(err)
			return
		}
	}
	c.phase = writing
	n := copy(c.encoded, encoded)
	c.send(engine.OpWrite, c.encoded[:n], c.s.super.CheckpointStart(1-c.area))
}

func (c *checkpointer) send(op engine.Op, b []byte, offset int64) {
	c.request = engine.Request{Op: op, Buf: b, Offset: offset, Done: c}
	c.s.device.Submit(&c.request)
}

// end tells who waited. After a failure the phase stays where it was: there is no next Checkpoint.
func (c *checkpointer) end(err error) {
	waiting := c.waiting
	if err != nil {
		waiting = append(waiting, c.wanted...)
		c.wanted = nil
	} else {
		c.phase = idle
	}
	c.waiting = nil
	for _, done := range waiting {
		c.s.later(func() { done(err) })
	}
}

// slotsAtOnce is of how many Extents the slots are read at a time: those of consecutive Extents are adjacent.
const slotsAtOnce = bounce / (2 * layout.Unit)

// readSlots reads the slots that the Checkpoint names.
func (v *Recovered) readSlots(r io.ReaderAt, s *layout.Superblock) error {
	chunk, first := make([]byte, bounce), 0
	for copies := range slices.Chunk(v.Checkpoint.Copies, slotsAtOnce) {
		used := func(c layout.Copy) bool { return c != layout.CopyNone }
		if from := slices.IndexFunc(copies, used); from >= 0 {
			end := len(copies)
			for !used(copies[end-1]) {
				end--
			}
			if err := v.readRun(r, s, uint32(first+from), copies[from:end], chunk); err != nil {
				return err
			}
		}
		first += len(copies)
	}
	return nil
}

// readRun reads the slots of consecutive Extents, in one go if all of the range can be read: what nobody needs may not.
func (v *Recovered) readRun(r io.ReaderAt, s *layout.Superblock, x uint32, copies []layout.Copy, chunk []byte) error {
	_, unread := r.ReadAt(chunk[:len(copies)*2*layout.Unit], s.SlotStart(x, 0))
	slot := layout.Slot{Blocks: &layout.Blocks{}}
	for i, copied := range copies {
		if copied == layout.CopyNone {
			continue
		}
		x, which := x+uint32(i), int(copied-layout.CopyFirst)
		b := chunk[(2*i+which)*layout.Unit:][:layout.Unit]
		if unread != nil {
			if _, err := r.ReadAt(b, s.SlotStart(x, which)); err != nil {
				return fmt.Errorf("read slot of extent %d: %w", x, err)
			}
		}
		if err := slot.Decode(b, s.Salt, x); err != nil {
			return fmt.Errorf("%w: extent %d: %w", ErrCorruptDevice, x, err)
		}
		if err := v.Table.RestoreSlot(&slot, copied); err != nil {
			return fmt.Errorf("%w: %w", ErrCorruptDevice, err)
		}
	}
	return nil
}
