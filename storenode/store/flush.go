package store

import (
	"errors"

	"github.com/shale-storage/shale/storenode/engine"
	"github.com/shale-storage/shale/storenode/extent"
	"github.com/shale-storage/shale/storenode/layout"
)

const (
	// maxDiscards bounds the discards in flight, so that foreground IOs find the Device free.
	maxDiscards = 4
	// maxLeaving bounds the Extents that are freed and wait for a flush or a discard outside the table.
	maxLeaving = 4096
	// maxSwept bounds the discards that each Rest begins of what an earlier process has left.
	maxSwept = 16
)

// flusher lets IOs share flushes: one is in flight, whoever comes meanwhile shares the next.
type flusher struct {
	s        *Store
	request  engine.Request
	inFlight bool
	// wanted are the IOs for the next flush, waiting those of the one in flight.
	wanted, waiting ioList
	// settled is the highest frame that the flush in flight makes durable with all its data.
	settled uint64
	// leaving are Extents whose freeing the one in flight makes durable, toDiscard those where it is.
	leaving, toDiscard []uint32
}

func (f *flusher) init(s *Store) { f.s = s }

// add lets an IO wait for a flush that begins from now on.
func (f *flusher) add(io *IO) { f.wanted.push(io) }

func (f *flusher) send() {
	if f.s.failed != nil { // a flush that succeeds now says nothing: the Device has told of its error once
		f.end(f.wanted.take(), f.s.failed)
		return
	}
	if f.inFlight {
		return
	}
	// A flush takes along what there is, but for Extents alone there is one only when all before are told of: a Device
	// that is emptied would have nothing but flushes to do.
	if f.wanted.first != nil || len(f.toDiscard) == 0 {
		f.leaving = f.s.table.Leaving(f.leaving, maxLeaving-len(f.toDiscard))
	}
	if f.wanted.first == nil && len(f.leaving) == 0 {
		return
	}
	f.waiting = f.wanted.take()
	f.settled = f.s.journal.settled()
	f.inFlight = true
	f.request = engine.Request{Op: engine.OpFlush, Done: f}
	f.s.device.Submit(&f.request)
}

// Complete implements engine.Completer.
func (f *flusher) Complete(r *engine.Request) {
	f.inFlight = false
	if r.Err != nil {
		f.s.fail(r.Err) // what was thought to be on its way to the medium may be nowhere
	}
	if f.s.failed == nil { // another flush may have failed meanwhile, and taken what was wrong with this one
		f.s.journal.flushed = max(f.s.journal.flushed, f.settled)
		f.toDiscard = append(f.toDiscard, f.leaving...)
		f.s.forgetCleared()
	}
	f.leaving = f.leaving[:0]
	f.end(f.waiting.take(), f.s.failed)
}

// end is the end of a flush for those who shared it.
func (f *flusher) end(waiting ioList, err error) {
	for io := waiting.pop(); io != nil; io = waiting.pop() {
		if io.state.err == nil {
			io.state.err = err
		}
		f.s.ioPartDone(io)
	}
}

// discardLeaving tells the Device of freed Extents; then they are free. One that takes no discards need not be told.
func (s *Store) discardLeaving() {
	for len(s.flush.toDiscard) > 0 && s.discards < maxDiscards {
		last := len(s.flush.toDiscard) - 1
		x := s.flush.toDiscard[last]
		s.flush.toDiscard = s.flush.toDiscard[:last]
		if !s.discardable {
			s.table.Left(x)
			continue
		}
		s.discards++
		// Rare beside reads and writes, so it may allocate.
		s.device.Submit(&engine.Request{
			Op: engine.OpDiscard, Offset: s.super.ExtentStart(x), Length: layout.ExtentSize, Tag: uint64(x), Done: discarded{s},
		})
	}
}

type discarded struct{ s *Store }

// Complete implements engine.Completer. A discard that failed only costs the Device's own housekeeping.
func (d discarded) Complete(r *engine.Request) {
	d.s.discards--
	d.s.noteDiscard(r.Err)
	d.s.table.Left(uint32(r.Tag))
	d.s.feed() // before anybody else takes it
}

// noteDiscard has the log say once that discards fail, and ends them where the medium does not know them.
func (s *Store) noteDiscard(err error) {
	switch {
	case err == nil || errors.Is(err, engine.ErrClosed):
		return
	case errors.Is(err, errors.ErrUnsupported):
		s.discardable = false
	}
	if !s.undiscarded {
		s.undiscarded = true
		s.o.Log.Warn("Device takes no discards: it does not learn which space is free", "path", s.Path(), "error", err)
	}
}

// sweep tells the Device of some more of what is free since Open. It is spread over hours, and done while nothing else
// changes: discards are slow on some SSDs, and in the way of everything else. What made them free is durable since
// Open.
func (s *Store) sweep() {
	if s.failed == nil && !s.closing && s.discards+len(s.flush.toDiscard) == 0 && s.discardable {
		s.flush.toDiscard = s.table.Stale(s.flush.toDiscard, maxSwept)
	}
}

// allocate finds an Extent for a change. If there is none it fails, or is to wait while some may come free: a Backup
// may be behind with that, and would be found Full where the Primary is not. First come, first served, whatever each
// needs.
func (s *Store) allocate(io *IO, logical uint32) uint32 {
	next := s.starved.first == nil || s.starved.first == io
	if next {
		if x := s.table.Allocate(uint32(io.Replica), logical); x != extent.None {
			return x
		}
	}
	if io.state.lastFrame == 0 {
		io.state.lastFrame, io.state.rounds = s.journal.last, s.placer.rounds
	}
	if io.state.starves = !next || s.mayFree(io); !io.state.starves {
		io.state.err = ErrNoSpace
	}
	return extent.None
}

// mayFree reports whether Extents may come free by what was begun before a change that needs one. All of it ends by
// itself, or with the Device's failure, and the first that comes free is for whoever waits longest, so nobody waits for
// ever. It is records on their way; Blocks on their way to places that were discarded meanwhile; and what is leaving.
func (s *Store) mayFree(io *IO) bool {
	p := s.inFlight.first
	recorded := p == nil || p.frame > io.state.lastFrame
	placed := s.placer.phase != moving || s.placer.rounds > io.state.rounds
	return s.failed == nil && (!recorded || !placed || s.table.Coming() > 0)
}

// feed goes on with changes that wait for Extents. While they do they hold their Buffers, and the Extents of pieces
// that are made; the Journal, and what gives Extents back, wait for none of them.
func (s *Store) feed() {
	for io := s.starved.first; io != nil; io = s.starved.first {
		io.state.starves = false
		if s.failed != nil && io.state.err == nil {
			io.state.err = s.failed
		} else if !s.change(io) {
			return
		}
		s.starved.pop()
		s.ioPartDone(io)
	}
}
