package store

import (
	"github.com/shale-storage/shale/storenode/engine"
	"github.com/shale-storage/shale/storenode/journal"
	"github.com/shale-storage/shale/storenode/layout"
)

// ioState is what the Store keeps in an IO while it has it.
type ioState struct {
	// parts of the IO that are not done.
	parts int
	// at is how far its pieces were made, in bytes from Offset.
	at    int
	noted bool
	err   error
	// starves: it is to wait for Extents. When it first did, lastFrame was the newest record's, and so many rounds of the
	// placer were over.
	starves           bool
	lastFrame, rounds uint64
	// A flush waits for so many rare changes yet, of those that had been asked for before it.
	asked      uint64
	unrecorded int
	// meta is set in the Store's own IOs that change metadata.
	meta *metaChange
}

// ioList is a queue of IOs.
type ioList struct{ first, last *IO }

func (l *ioList) push(io *IO) {
	io.Next = nil
	if l.last == nil {
		l.first = io
	} else {
		l.last.Next = io
	}
	l.last = io
}

func (l *ioList) pop() *IO {
	io := l.first
	if io != nil {
		if l.first = io.Next; l.first == nil {
			l.last = nil
		}
		io.Next = nil
	}
	return io
}

func (l *ioList) take() ioList {
	all := *l
	*l = ioList{}
	return all
}

// piece is the part of an IO within one Extent, or one record of metadata.
type piece struct {
	s  *Store
	io *IO
	// request is the data's way; not used by records without data.
	request engine.Request
	// record is the encoded journal record; it lies in room if it fits there.
	record []byte
	room   [maxPieceRecord]byte
	extent uint32
	// first Block of its data in the Extent; block is where in the IO that is read.
	first, block int
	// parts that are not done: data, record.
	parts int
	era   int
	// replaces: some of the Blocks were written before, so the data waits for the record.
	replaces bool
	// carried are the Blocks whose data goes to the Journal with the record; pages keep it until it is in its place.
	carried int
	pages   [maxCarried]uint16
	// frame has the record.
	frame uint64
	err   error

	previous, next *piece
}

// maxPieceRecord is the largest record of a write.
const maxPieceRecord = 33 + 4*layout.ExtentBlocks

// pieceList is the pieces in flight in the order of their records.
type pieceList struct{ first, last *piece }

func (l *pieceList) push(p *piece) {
	p.previous, p.next = l.last, nil
	if l.last == nil {
		l.first = p
	} else {
		l.last.next = p
	}
	l.last = p
}

func (l *pieceList) remove(p *piece) {
	if p.previous == nil {
		l.first = p.next
	} else {
		p.previous.next = p.next
	}
	if p.next == nil {
		l.last = p.previous
	} else {
		p.next.previous = p.previous
	}
	p.previous, p.next = nil, nil
}

// pieceSlab is how many pieces are made at a time.
const pieceSlab = 64

func (s *Store) newPiece(io *IO) *piece {
	if s.freePiece == nil {
		slab := make([]piece, pieceSlab)
		for i := range slab {
			slab[i].s = s
			slab[i].next = s.freePiece
			s.freePiece = &slab[i]
		}
	}
	p := s.freePiece
	s.freePiece = p.next
	p.io, p.parts, p.err, p.next, p.record, p.replaces, p.carried = io, 0, nil, nil, nil, false, 0
	io.state.parts++
	return p
}

func (s *Store) putPiece(p *piece) {
	p.io, p.record = nil, nil
	p.request.Buf = nil
	p.next = s.freePiece
	s.freePiece = p
}

// Complete implements engine.Completer: the data of a piece is read or written.
func (p *piece) Complete(r *engine.Request) {
	if p.io.Op == OpRead {
		p.s.readDone(p, r.Err)
		return
	}
	if p.err == nil { // the record may have failed before
		p.err = r.Err
	}
	if r.Err != nil {
		p.s.journal.missing(p.frame)
	}
	p.s.partDone(p)
}

// partDone counts one part of a change; after the last it is applied.
func (s *Store) partDone(p *piece) {
	if p.parts--; p.parts > 0 {
		return
	}
	s.inFlight.remove(p)
	s.piecesOf[p.era]--
	io := p.io
	if p.err == nil {
		p.err = s.apply(p)
	}
	s.placer.recorded(p)
	if p.extent != noExtent {
		s.table.Unuse(p.extent)
	}
	if io.state.err == nil {
		io.state.err = p.err
	}
	s.putPiece(p)
	s.ioPartDone(io)
}

// noExtent marks a piece that writes to none.
const noExtent = ^uint32(0)

func (s *Store) apply(p *piece) error {
	var r journal.Record
	if _, err := journal.Next(p.record, &r); err != nil {
		return err
	}
	if r.Type == journal.Clear {
		s.placer.killAll(r.Extent, r.First, r.Blocks)
	}
	if r.Type == journal.Delete {
		s.placer.killReplica(r.Replica)
	}
	return s.table.Apply(&r)
}

// ioPartDone counts one part of an IO; after the last it is finished, or flushed first.
func (s *Store) ioPartDone(io *IO) {
	if io.state.parts--; io.state.parts > 0 {
		return
	}
	if io.FUA && io.state.err == nil {
		io.FUA = false
		io.state.parts = 1
		s.flush.add(io)
		return
	}
	s.finish(io)
}

func (s *Store) finish(io *IO) {
	io.Err = io.state.err
	if io.Op == OpRead && io.Err == nil && io.Buf.Len() == io.Length {
		io.Buf.SetSums()
	}
	s.ready.push(io)
}
