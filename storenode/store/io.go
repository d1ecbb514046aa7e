package store

import (
	"fmt"

	"github.com/shale-storage/shale/storenode/checksum"
	"github.com/shale-storage/shale/storenode/engine"
	"github.com/shale-storage/shale/storenode/extent"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/journal"
	"github.com/shale-storage/shale/storenode/layout"
	"github.com/shale-storage/shale/storenode/replication/mutant"
)

const block = ident.BlockSize

// Submit begins an IO. It makes progress at the next Kick at the latest.
func (s *Store) Submit(io *IO) {
	// The submission itself is a part, so that nothing finishes before all pieces are made.
	io.Err, io.state = nil, ioState{parts: 1}
	if err := s.check(io); err != nil {
		io.state.err = err
		s.ioPartDone(io)
		return
	}
	switch io.Op {
	case OpRead:
		s.read(io)
		s.ioPartDone(io)
	case OpFlush:
		s.flushBehind(io)
	case OpWrite, OpDiscard, OpWriteZeroes:
		s.journal.submit(io)
	}
}

func (s *Store) check(io *IO) error {
	r := s.table.Replica(uint32(io.Replica))
	length, limit := int64(io.Length), int64(ident.MaxIO)
	switch {
	case r == nil:
		return ErrUnknownReplica
	case io.Op != OpRead && s.failed != nil:
		return s.failed
	case s.closing:
		return engine.ErrClosed
	case io.Op == OpFlush:
		return nil
	case io.Op == OpDiscard || io.Op == OpWriteZeroes:
		limit = MaxSpan
	case io.Op != OpRead && io.Op != OpWrite:
		return fmt.Errorf("operation %d: %w", io.Op, ErrBounds)
	}
	if io.Offset < 0 || length <= 0 || length > limit || io.Offset%block != 0 || length%block != 0 ||
		io.Offset > r.Size-length {
		return fmt.Errorf("%d bytes at %d of %d: %w", length, io.Offset, r.Size, ErrBounds)
	}
	return nil
}

// span is the part of an IO from at on that lies in one Extent.
func span(io *IO, at int) (logical uint32, first, blocks int) {
	offset := io.Offset + int64(at)
	within := int(offset % layout.ExtentSize)
	length := min(io.Length-at, layout.ExtentSize-within)
	return uint32(offset / layout.ExtentSize), within / block, length / block
}

// read fills the Buffer, and its sums with what each Block was found to be, so that nothing that happens to the bytes
// later passes for what was read.
func (s *Store) read(io *IO) {
	io.Buf.DropSums()
	for at := 0; at < io.Length; {
		logical, first, blocks := span(io, at)
		b := at / block
		at += blocks * block
		x := s.table.Find(uint32(io.Replica), logical)
		if x == extent.None {
			readZeros(io, b, blocks)
			continue
		}
		from, to := writtenRange(s.table.Blocks(x), first, first+blocks)
		readZeros(io, b, from-first)
		readZeros(io, b+to-first, first+blocks-to)
		s.readWritten(io, x, from, b+from-first, to-from)
	}
}

// zeroSum is the checksum of a Block of zeros.
var zeroSum = checksum.Block(make([]byte, block))

// readZeros fills blocks of io, from its b-th on.
func readZeros(io *IO, b, blocks int) {
	clear(io.Buf.Bytes()[b*block : (b+blocks)*block])
	sums := io.Buf.SumsRoom()[b : b+blocks]
	for i := range sums {
		sums[i] = zeroSum
	}
}

// readWritten reads Blocks of an Extent from their places, and those that are still in the Journal from memory: as many
// as blocks, from the Extent's from-th on, to where the b-th of io goes.
func (s *Store) readWritten(io *IO, x uint32, from, b, blocks int) {
	for end := b + blocks; b < end; {
		if page := s.carriedBlock(x, from); page != nil {
			into := io.Buf.Bytes()[b*block : (b+1)*block]
			copy(into, page)
			io.Buf.SumsRoom()[b] = checksum.Block(into)
			from, b = from+1, b+1
			continue
		}
		n := 1
		for b+n < end && s.carriedBlock(x, from+n) == nil {
			n++
		}
		p := s.newPiece(io)
		p.extent, p.first, p.block = x, from, b
		s.table.Use(x) // it is not freed and reused while it is read
		p.request = engine.Request{
			Op: engine.OpRead, Offset: s.super.ExtentStart(x) + int64(from)*block, Buf: io.Buf.Bytes()[b*block : (b+n)*block],
			Done: p,
		}
		s.device.Submit(&p.request)
		from, b = from+n, b+n
	}
}

// carriedBlock is the data of a written Block that is not in its place yet, or nil.
func (s *Store) carriedBlock(x uint32, b int) []byte {
	if len(s.placer.newest) == 0 || !s.table.Blocks(x).Has(b) {
		return nil
	}
	return s.placer.visible(x, b)
}

// writtenRange narrows [from, to) to what lies between its first and its last written Block.
func writtenRange(b *layout.Blocks, from, to int) (first, last int) {
	for from < to && !b.Has(from) {
		from++
	}
	for to > from && !b.Has(to-1) {
		to--
	}
	return from, to
}

// readDone checks what was read; unwritten Blocks are zeros, whatever the Device holds.
func (s *Store) readDone(p *piece, err error) {
	io := p.io
	if err == nil {
		err = verify(s.table.Blocks(p.extent), p.request.Buf, p.first, io.Buf.SumsRoom()[p.block:])
	} else if s.readAround(p) {
		err = nil
	}
	if err != nil && io.state.err == nil {
		io.state.err = err
	}
	s.table.Unuse(p.extent)
	s.putPiece(p)
	s.ioPartDone(io)
}

// readAround reads the written Blocks of a piece once more, without those between them that are not: a loss of power
// may leave the place of one that cannot be read, and nobody needs it. False if all are written.
func (s *Store) readAround(p *piece) bool {
	blocks, end := s.table.Blocks(p.extent), p.first+len(p.request.Buf)/block
	whole := true
	for i := p.first; i < end; i++ {
		whole = whole && blocks.Has(i)
	}
	if whole {
		return false
	}
	for from := p.first; from < end; {
		to := from + 1
		for to < end && blocks.Has(to) == blocks.Has(from) {
			to++
		}
		if b := p.block + from - p.first; blocks.Has(from) {
			s.readWritten(p.io, p.extent, from, b, to-from)
		} else {
			readZeros(p.io, b, to-from)
		}
		from = to
	}
	return true
}

// verify checks Blocks of an Extent, from its first-th on, and puts their checksums into sums.
func verify(blocks *layout.Blocks, data []byte, first int, sums []uint32) error {
	for i := range len(data) / block {
		b, n := data[i*block:(i+1)*block], first+i
		if !blocks.Has(n) {
			clear(b)
			sums[i] = zeroSum
			continue
		}
		if sums[i] = checksum.Block(b); sums[i] != blocks.CRC[n] && mutant.Now != mutant.SkipChecksum {
			return fmt.Errorf("block %d of extent: %w", n, ErrCorruption)
		}
	}
	return nil
}

// longRest is how often Rest finds nothing new before it is time for a Checkpoint: a minute or two.
const longRest = 240

// change makes the pieces of a write, discard or zeroes as far as the open batch has room; it reports whether all are
// made.
func (s *Store) change(io *IO) bool {
	if io.state.meta != nil {
		return s.changeMeta(io)
	}
	if io.Op != OpWrite && !io.state.noted {
		if !s.note(io) {
			return false
		}
		io.state.noted = true
	}
	for io.state.at < io.Length && io.state.err == nil {
		logical, first, blocks := span(io, io.state.at)
		var made bool
		if io.Op == OpWrite {
			made = s.writePiece(io, logical, first, blocks)
		} else {
			made = s.clearPiece(io, logical, first, blocks)
		}
		if !made {
			return false
		}
		io.state.at += blocks * block
	}
	return true
}

// writePiece sends the data of one Extent and its record; false when the batch has no room, or when the IO is to wait
// for an Extent.
func (s *Store) writePiece(io *IO, logical uint32, first, blocks int) bool {
	if !s.journal.hasRoom(journal.WriteSize(blocks)) {
		return false
	}
	x := s.table.Find(uint32(io.Replica), logical)
	if x == extent.None {
		if x = s.allocate(io, logical); x == extent.None {
			return !io.state.starves
		}
	}
	from, to := writtenRange(s.table.Blocks(x), first, first+blocks)
	// In place of a Block that a loss of power may bring back, data must not be before the record that it is gone.
	replaces := from < to || s.isCleared(x)
	carried := replaces && s.carries(blocks)
	if carried && !s.journal.hasRoomFor(journal.WriteSize(blocks), blocks) {
		return false
	}
	p := s.newPiece(io)
	p.extent, p.first, p.replaces = x, first, replaces && !carried
	s.table.Use(x)
	data := io.Buf.Bytes()[io.state.at : io.state.at+blocks*block]
	r := journal.Record{
		Type: journal.Write, Replica: uint32(io.Replica), Logical: logical, Extent: x, First: first, Blocks: blocks,
		Seq: io.Seq, Epoch: io.Epoch,
	}
	if carried {
		r.Type = journal.WriteData
		s.placer.carry(p, first, data)
	}
	b := journal.AppendExtent(p.room[:0], &r)
	b = appendSums(b, data, io.Buf.Sums(), io.state.at/block)
	p.record = b
	s.journal.add(p)
	if carried {
		s.journal.addData(data)
		return true
	}
	p.request = engine.Request{
		Op: engine.OpWrite, Offset: s.super.ExtentStart(x) + int64(first)*block, Buf: data, Done: p,
	}
	if !replaces {
		p.parts++
		s.placer.submit(p)
	}
	return true
}

// appendSums adds the checksums of the Blocks of data; sums, if known, are those of the IO, whose part begins at first.
func appendSums(b, data []byte, sums []uint32, first int) []byte {
	for i := range len(data) / block {
		if sums != nil {
			b = appendCRC(b, sums[first+i])
		} else {
			b = appendCRC(b, checksum.Block(data[i*block:(i+1)*block]))
		}
	}
	return b
}

func appendCRC(b []byte, crc uint32) []byte {
	return append(b, byte(crc), byte(crc>>8), byte(crc>>16), byte(crc>>24))
}

// clearPiece records that Blocks of one Extent are as never written; false when the batch has no room.
func (s *Store) clearPiece(io *IO, logical uint32, first, blocks int) bool {
	x := s.table.Find(uint32(io.Replica), logical)
	if x == extent.None {
		return true
	}
	if !s.journal.hasRoom(journal.WriteSize(0)) {
		return false
	}
	p := s.newPiece(io)
	p.extent, p.parts = x, 0
	s.table.Use(x)
	r := journal.Record{
		Type: journal.Clear, Replica: uint32(io.Replica), Logical: logical, Extent: x, First: first, Blocks: blocks,
		Epoch: io.Epoch,
	}
	p.record = journal.AppendExtent(p.room[:0], &r)
	s.journal.add(p)
	s.cleared[x] = p.frame
	return true
}

// isCleared reports whether Blocks of an Extent were cleared and that may be lost with power.
func (s *Store) isCleared(x uint32) bool {
	if len(s.cleared) == 0 {
		return false
	}
	frame, ok := s.cleared[x]
	return ok && !s.isDurable(frame)
}

func (s *Store) isDurable(frame uint64) bool {
	return frame <= s.journal.flushed || frame < s.checkpoint.frame
}

// forgetCleared drops what is durable by now.
func (s *Store) forgetCleared() {
	for x, frame := range s.cleared {
		if s.isDurable(frame) {
			delete(s.cleared, x)
		}
	}
}

// note records a discard or zeroes as a whole, for the Replica's tail; false when the batch has no room.
func (s *Store) note(io *IO) bool {
	r := journal.Record{
		Type: journal.Note, Replica: uint32(io.Replica), Seq: io.Seq, Epoch: io.Epoch,
		Offset: io.Offset, Length: uint32(io.Length),
	}
	p := s.newPiece(io)
	p.extent = noExtent
	p.record = journal.Append(p.room[:0], &r)
	if !s.journal.hasRoom(len(p.record)) {
		io.state.parts--
		s.putPiece(p)
		return false
	}
	s.journal.add(p)
	return true
}

// Rest is called now and then. When nothing has changed since the last call, it has the Journal say that all data has
// arrived, unless that is said already: a Block that rots later is then known to have been whole, even if this process
// ends before the next write. And it has the Device told of some of what was free when it was opened. After longRest
// calls without a change it writes a Checkpoint, so that nothing is in the Journal alone for long: the Journal has no
// second copy.
func (s *Store) Rest() {
	if !s.journal.rest() {
		s.rests = 0
		return
	}
	s.sweep()
	s.rests++
	if s.rests == longRest && s.journal.last >= s.checkpoint.frame {
		s.Checkpoint(func(error) {}) // who fails is told of by Health
	}
}

// Noted is the newest frame of the Journal that speaks of data, and the newest of which a later one says that its data
// has arrived.
func (s *Store) Noted() (last, noted uint64) { return s.journal.last, s.journal.noted }

// Kick moves everything that can move: completions are delivered, the Journal's batch, flushes and discards are sent.
// It is called whenever the monitor is left.
func (s *Store) Kick() {
	for {
		for io := s.ready.pop(); io != nil; io = s.ready.pop() {
			io.Done.IODone(io)
		}
		s.checkpoint.advance()
		s.placer.advance()
		s.discardLeaving()
		s.feed()
		s.journal.send()
		s.flush.send()
		if s.ready.first == nil {
			break
		}
	}
	s.device.Kick()
}
