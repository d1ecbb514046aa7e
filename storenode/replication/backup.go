package replication

import (
	"errors"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/replication/mutant"
	"github.com/shale-storage/shale/storenode/wire"
)

// follow is how this Replica follows the reign of another.
type follow struct {
	// reign and attempt, whose upper bits are the Primary's life, name the following; they only grow. primary is whose
	// it is.
	reign   ident.Epoch
	attempt uint64
	primary ident.ReplicaID
	// number counts followings, so that an Op of an earlier one is known when it ends.
	number uint64
	// unanswered is the question that began it, while local Ops of before are in flight or the Record is not remembered.
	unanswered bool
	question   wire.Header
	// progress while joining, of Whole.
	progress int
	arrivals arrivals
	// fetches are the questions for Blocks of this Replica.
	fetches [MaxHeals]fetching
}

// replicated takes what a Primary asks of a Backup.
func (m *Machine) replicated(h *wire.Header, p Payload) {
	status := m.obeys(h)
	if status == wire.StatusOK {
		switch h.Opcode {
		case wire.OpTail, wire.OpRebuildStart:
			status = m.asked(h)
		case wire.OpChecksum:
			status = m.digests(h)
		case wire.OpFetch, wire.OpVerify:
			status = m.fetchHere(h)
		case wire.OpReplWrite, wire.OpReplDiscard, wire.OpReplWriteZeroes, wire.OpReplFlush,
			wire.OpRebuildWrite, wire.OpRebuildDiscard, wire.OpRebuildSpoil:
			status = m.apply(h, p)
		default:
			status = wire.StatusInvalid
		}
	}
	if p != nil {
		p.Release()
	}
	switch status {
	case wire.StatusOK:
	case wire.StatusStaleEpoch:
		m.refuse(answerTo(h, status), status)
	default:
		m.send(answerTo(h, status), nil)
	}
}

// answerTo is the answer to a Primary's message.
func answerTo(h *wire.Header, status wire.Status) wire.Header {
	a := *h
	a.Flags, a.Status, a.To, a.PayloadLength = wire.FlagReply, status, h.From, 0
	return a
}

// obeys reports whether a message is of the Primary in force.
func (m *Machine) obeys(h *wire.Header) wire.Status {
	switch {
	case mutant.Now == mutant.FollowAnyone:
		return wire.StatusOK
	case h.Epoch < m.record.Epoch || h.Epoch == m.record.Epoch && h.From != m.record.Primary:
		return wire.StatusStaleEpoch
	case h.Epoch > m.record.Epoch || m.closed:
		return wire.StatusBusy
	}
	return wire.StatusOK
}

// asked begins a following: of a new reign by a member of InSync, or of one that wants to bring this Replica in sync.
func (m *Machine) asked(h *wire.Header) wire.Status {
	f := &m.follow
	reign, attempt := ident.Epoch(h.Session), uint64(h.Request)
	joins := h.Opcode == wire.OpRebuildStart
	switch {
	case reign < f.reign || reign == f.reign && attempt < f.attempt:
		return wire.StatusOK // late: nobody waits for an answer
	case joins == m.record.IsInSync(m.self) || joins && m.leaving || !m.record.Has(m.self):
		return wire.StatusNotFound
	}
	m.raise(h.Generation)
	if reign != f.reign || attempt != f.attempt {
		*f = follow{reign: reign, attempt: attempt, primary: h.From, number: f.number + 1}
		if m.stage = stageFollowing; joins {
			m.stage, m.known = stageJoining, 0
		}
	} else if m.stage != stageFollowing && m.stage != stageJoining {
		return wire.StatusNotFound
	}
	f.unanswered, f.question = true, *h
	return wire.StatusOK
}

// followed answers the question that began the following, once nothing of before can happen any more.
func (m *Machine) followed() {
	f := &m.follow
	if f.unanswered && m.broken && m.persisted < m.record.Epoch && f.question.Opcode == wire.OpTail {
		m.unfollow()
		m.stage = stageIdle
		m.send(answerTo(&f.question, wire.StatusIO), nil) // it cannot promise to remember whom it follows
		return
	}
	if !f.unanswered || m.inFlight > 0 || m.persisted < m.record.Epoch {
		return
	}
	a := answerTo(&f.question, wire.StatusOK)
	a.Epoch, a.Seq, a.Committed, a.Generation = m.record.Epoch, m.env.LastSeq(), m.known, m.generation
	var payload Payload
	if a.Opcode == wire.OpTail {
		m.claim.own = m.env.Tail(m.claim.own[:0])
		m.scratch = wire.AppendTail(m.scratch[:0], m.claim.own)
		if payload = m.env.Encode(m.scratch); payload == nil {
			return // at the next Tick
		}
		if m.powerLost {
			a.Flags |= wire.FlagPowerLost
		}
	}
	f.unanswered = false
	m.send(a, payload)
}

// unfollow ends the following: nothing more is taken by it, nor answered.
func (m *Machine) unfollow() {
	m.follow.number++
	m.follow.unanswered = false
}

// followOn sees whether the following goes on in a new Epoch with another Replica as Primary.
func (m *Machine) followOn(wasInSync bool) {
	inSync := m.record.IsInSync(m.self)
	follows := m.stage == stageFollowing || m.stage == stageJoining
	if !follows || m.record.Primary != m.follow.primary || !m.record.Has(m.self) || wasInSync && !inSync {
		m.unfollow()
		m.stage = stageIdle
		return
	}
	if m.stage == stageJoining && inSync {
		m.stage = stageFollowing
		m.sound()
	}
}

// apply carries out a replicated write, or a copy; at most once.
func (m *Machine) apply(h *wire.Header, p Payload) wire.Status {
	f := &m.follow
	if !m.follows(h) {
		return wire.StatusNotFound
	}
	if f.unanswered {
		return wire.StatusBusy
	}
	op := Op{FUA: h.Flags&wire.FlagFUA != 0, Offset: int64(h.Offset), Length: int(h.Length), Seq: h.Seq, Epoch: h.Epoch}
	step := uint64(0)
	switch h.Opcode {
	case wire.OpReplWrite:
		op.Kind, op.Payload = Write, p
	case wire.OpReplDiscard:
		op.Kind = Discard
	case wire.OpReplWriteZeroes:
		op.Kind = WriteZeroes
	case wire.OpReplFlush:
		op.Kind = Flush
	case wire.OpRebuildWrite:
		op.Kind, op.Payload, op.Seq, op.Epoch, step = Write, p, 0, ident.Epoch(h.Committed), uint64(h.Generation)
	case wire.OpRebuildSpoil:
		op.Kind, op.Seq, op.Epoch, step = Spoil, 0, ident.Epoch(h.Committed), uint64(h.Generation)
		op.Sum = uint32(h.Snapshot)
	default:
		op.Kind, op.Seq, op.Epoch, step = Discard, 0, ident.Epoch(h.Committed), uint64(h.Generation)
	}
	if op.Kind == Write && p == nil {
		return wire.StatusInvalid
	}
	switch {
	case step == 0 || h.Opcode == wire.OpRebuildSpoil:
	case m.stage == stageFollowing, h.Snapshot == uint64(h.Seq):
		// If this reign ends before all members are equal, the next one finds in the tail that they may not be. The step of
		// a write that is undone bears its own number; it counts for who joins too, who may be a member without knowing.
		op.Seq = ident.Seq(h.Snapshot)
	case h.Snapshot <= Whole:
		f.progress = max(f.progress, int(h.Snapshot))
	}
	if step == 0 {
		m.raise(h.Generation)
		m.known = max(m.known, h.Committed)
	}
	verdict, status := f.arrivals.admit(h.Seq, step)
	switch {
	case verdict == fresh, mutant.Now == mutant.SkipDedupe:
	case verdict == repeated:
		m.send(answerTo(h, status), nil)
		return wire.StatusOK
	default:
		return wire.StatusOK
	}
	op.request, op.follows = *h, f.number
	if op.Kind == Spoil && m.keeps(&op) || op.Kind == Flush && mutant.Now == mutant.LoseFlush {
		f.stored(m, &op)
		return wire.StatusOK
	}
	m.store(f, op)
	return wire.StatusOK
}

// keeps reports whether a Block that is to be spoiled, because the Primary cannot read it, is by its checksum the very
// content that is missed there. Whether it can be read now or not, it may be the last copy.
func (m *Machine) keeps(op *Op) bool {
	sum, written := m.env.Checksum(op.Offset)
	return written && sum == op.Sum
}

// follows reports whether a message belongs to the following.
func (m *Machine) follows(h *wire.Header) bool {
	if mutant.Now == mutant.FollowAnyone {
		return true
	}
	return (m.stage == stageFollowing || m.stage == stageJoining) &&
		ident.Epoch(h.Session) == m.follow.reign && uint64(h.Request) == m.follow.attempt
}

// stored implements opOwner: the end of what a Primary asked for.
func (f *follow) stored(m *Machine, op *Op) {
	if op.follows != f.number {
		return
	}
	if op.request.Opcode == wire.OpFetch || op.request.Opcode == wire.OpVerify {
		m.fetchedHere(f, op)
		return
	}
	status := wire.StatusOK
	switch {
	case op.Err == nil:
	case errors.Is(op.Err, ErrNoSpace):
		status = wire.StatusNoSpace
	case errors.Is(op.Err, ErrBusy):
		status = wire.StatusBusy
	default:
		status = wire.StatusIO
	}
	step := uint64(0)
	if h := &op.request; isCopy(h.Opcode) {
		step = uint64(h.Generation)
	}
	if status == wire.StatusBusy {
		f.arrivals.undo(op.request.Seq, step)
	} else {
		f.arrivals.end(op.request.Seq, step, status)
	}
	m.send(answerTo(&op.request, status), nil)
}

// isCopy reports whether an opcode is a step of a copy.
func isCopy(o wire.Opcode) bool {
	return o == wire.OpRebuildWrite || o == wire.OpRebuildDiscard || o == wire.OpRebuildSpoil
}

// digests answers with the digests of a part of this Replica's Extents.
func (m *Machine) digests(h *wire.Header) wire.Status {
	if !m.follows(h) {
		return wire.StatusNotFound
	}
	from := uint32(h.Offset / extentSize)
	end := uint64(from) + uint64(h.Length)
	covered := h.Length
	m.claim.digests = m.claim.digests[:0]
	m.env.Extents(from, func(d wire.ExtentDigest) bool {
		if uint64(d.Index) >= end {
			return false
		}
		if len(m.claim.digests) == wire.MaxDigests {
			covered = d.Index - from
			return false
		}
		m.claim.digests = append(m.claim.digests, d)
		return true
	})
	m.scratch = wire.AppendDigests(m.scratch[:0], m.claim.digests)
	payload := m.env.Encode(m.scratch)
	if payload == nil {
		return wire.StatusBusy
	}
	m.follow.progress = max(m.follow.progress, int(h.Offset*Whole/uint64(m.c.Size)))
	a := answerTo(h, wire.StatusOK)
	a.Length = covered
	m.send(a, payload)
	return wire.StatusOK
}
