package store

import (
	"github.com/shale-storage/shale/storenode/engine"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/journal"
	"github.com/shale-storage/shale/storenode/membership"
)

// metaChange is a rare change that is recorded like a write; it may allocate.
type metaChange struct {
	// s counts it as being recorded, by its number; nil if nothing is.
	s      *Store
	number uint64
	record []byte
	// applied: the change must be seen at once by the caller's next call.
	done func(error)
}

// IODone implements Completer.
func (m *metaChange) IODone(io *IO) {
	if m.s != nil {
		m.s.recorded(m.number)
	}
	m.done(io.Err)
}

// recorded is the end of a rare change, for the flushes that came after it.
func (s *Store) recorded(number uint64) {
	s.recording--
	for waiting := s.behind.take(); waiting.first != nil; {
		io := waiting.pop()
		if number <= io.state.asked {
			io.state.unrecorded--
		}
		if io.state.unrecorded > 0 {
			s.behind.push(io)
		} else {
			s.flush.add(io)
		}
	}
}

// flushBehind lets a flush wait for the rare changes that were asked for before it: who is told that it was carried out
// takes it that what came with it is remembered too, as the generation of an attachment.
func (s *Store) flushBehind(io *IO) {
	if s.recording > 0 {
		io.state.asked, io.state.unrecorded = s.asked, s.recording
		s.behind.push(io)
		return
	}
	s.flush.add(io)
}

func (s *Store) submitMeta(r *journal.Record, done func(error)) {
	s.asked++
	s.recording++
	m := &metaChange{s: s, number: s.asked, record: journal.Append(nil, r), done: done}
	io := &IO{Done: m, state: ioState{parts: 1, meta: m}}
	if s.failed != nil {
		io.state.err = s.failed
		s.ioPartDone(io)
		return
	}
	s.journal.submit(io)
}

func (s *Store) changeMeta(io *IO) bool {
	record := io.state.meta.record
	if !s.journal.hasRoom(len(record)) {
		return false
	}
	p := s.newPiece(io)
	p.extent, p.record = noExtent, record
	s.journal.add(p)
	return true
}

// later calls f with the completions of the next Kick.
func (s *Store) later(f func()) {
	m := &metaChange{done: func(error) { f() }}
	s.finish(&IO{Done: m, state: ioState{meta: m}})
}

// flushMeta calls done when the rare changes before it are durable.
func (s *Store) flushMeta(done func(error)) {
	io := &IO{Op: OpFlush, Done: &metaChange{done: done}, state: ioState{parts: 1}}
	if s.closing {
		io.state.err = engine.ErrClosed
		s.ioPartDone(io)
		return
	}
	s.flush.add(io)
}

// create takes the handle and the space at once, so that nobody else gets them before the record is durable.
func (s *Store) create(h uint32, key ident.ReplicaKey, size int64, done func(Handle, error)) {
	r := journal.Record{Type: journal.Create, Replica: h, Key: key, Size: size}
	if err := s.table.Apply(&r); err != nil {
		s.later(func() { done(0, err) })
		return
	}
	s.submitMeta(&r, func(err error) { done(Handle(h), err) })
}

func (s *Store) remove(h uint32, done func(error)) {
	s.submitMeta(&journal.Record{Type: journal.Delete, Replica: h}, done)
}

func (s *Store) setRecord(h uint32, m membership.Record, done func(error)) {
	if s.table.Replica(h) == nil {
		s.later(func() { done(ErrUnknownReplica) })
		return
	}
	s.submitMeta(&journal.Record{Type: journal.SetRecord, Replica: h, Membership: m}, done)
}

func (s *Store) setGeneration(h uint32, g ident.Generation, done func(error)) {
	if s.table.Replica(h) == nil {
		s.later(func() { done(ErrUnknownReplica) })
		return
	}
	s.submitMeta(&journal.Record{Type: journal.SetGeneration, Replica: h, Generation: g}, done)
}

func (s *Store) setSound(h uint32, done func(error)) {
	if s.table.Replica(h) == nil {
		s.later(func() { done(ErrUnknownReplica) })
		return
	}
	s.submitMeta(&journal.Record{Type: journal.Sound, Replica: h}, done)
}
