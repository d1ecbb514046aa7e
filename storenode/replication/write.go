package replication

import (
	"errors"
	"time"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/wire"
)

// begin starts the operations whose turn it is.
func (m *Machine) begin() {
	for again := true; again; {
		again = false
		for i := range m.order.queues {
			q := &m.order.queues[i]
			for o := q.head; o != nil && m.mayBegin(o); o = q.head {
				q.pop()
				m.run(o)
				again = true
			}
		}
	}
}

func (m *Machine) mayBegin(o *operation) bool {
	serves := m.stage == stageServing && (!m.broken || m.heir() == nil) && m.serving()
	switch o.lane() {
	case laneOn:
		return true
	case laneHeal:
		return m.healSlot() >= 0
	case laneInternal:
		return m.sequence.room(o.numbers())
	case laneRead:
		return serves
	case laneChange:
		return serves && m.sequence.room(o.numbers())
	}
	return false
}

// numbers is how many Seqs an operation takes: as many as the records it leaves in a Store's tail.
func (o *operation) numbers() int {
	if o.kind == kindWrite && o.offset/extentSize != (o.offset+int64(o.length)-1)/extentSize {
		return 2
	}
	return 1
}

func (m *Machine) run(o *operation) {
	o.state, o.sent = opRunning, m.patience
	if o.seq != 0 { // a copy goes on, after its range was healed
		o.state = opCopying
		m.step(o)
		return
	}
	op := Op{
		FUA: o.fua, Offset: o.offset, Length: o.length, Epoch: m.record.Epoch,
	}
	switch o.kind {
	case kindRead:
		op.Kind, op.Epoch = Read, 0
		o.op = m.store(o, op)
		return
	case kindCopy:
		m.sequence.take(o, 1)
		o.state = opCopying
		m.step(o)
		return
	case kindHeal:
		m.heal(o)
		return
	case kindScrub:
		m.check(o)
		return
	case kindWrite:
		op.Kind, op.Payload = Write, o.payload
		m.noteBare(o)
	case kindDiscard:
		op.Kind = Discard
	case kindZeroes:
		op.Kind = WriteZeroes
	case kindFlush:
		op.Kind = Flush
	}
	m.sequence.take(o, o.numbers())
	op.Seq = o.seq
	o.pending, o.begun = m.targets, m.now
	if joiner := o.steps.joiner; joiner != nil {
		o.pending &= joiner.bit // the Device here may have failed, and is none the less to be left for that one
	} else {
		o.op = m.store(o, op)
	}
	m.each(o.pending, func(b *member) { m.sendTo(o, b) })
	m.progress(o)
}

// sendTo sends a member what an operation now waits for, if it is connected; else that is done when it is again.
func (m *Machine) sendTo(o *operation, b *member) {
	if !b.connected {
		return
	}
	switch o.kind { //nolint:exhaustive // the others are replicated or copied
	case kindHeal:
		m.sendFetch(o, b, wire.OpFetch)
		return
	case kindScrub:
		m.sendCheck(o, b)
		return
	}
	h := wire.Header{
		Session: ident.SessionID(m.reign), Request: ident.RequestID(b.attempt),
		Epoch: m.record.Epoch, Seq: o.seq, To: b.id,
	}
	p := o.payload
	if o.state == opCopying {
		h.Opcode, h.Committed = wire.OpRebuildDiscard, ident.Seq(o.steps.epoch)
		h.Generation = ident.Generation(o.steps.number)
		h.Offset, h.Length = uint64(o.offset+o.steps.at), uint32(o.steps.length)
		h.Snapshot = m.mark(o, b)
		switch {
		case o.steps.spoils:
			sum, _ := m.env.Checksum(o.offset + o.steps.at)
			h.Opcode, h.Snapshot = wire.OpRebuildSpoil, uint64(sum)
		case o.steps.written:
			h.Opcode = wire.OpRebuildWrite
		}
	} else {
		h.Offset, h.Length, h.Generation, h.Snapshot = uint64(o.offset), uint32(o.length), m.generation, o.header.Snapshot
		h.Committed = m.sequence.floor
		h.Opcode = replicated(o.kind)
		if o.fua {
			h.Flags = wire.FlagFUA
		}
	}
	if p != nil {
		p.Retain()
		h.PayloadLength = h.Length
	}
	m.send(h, p)
}

// mark is what a step of a copy tells besides: who joins, how far it is; members that are made equal, the number to
// record it under, so that the next Primary makes them equal if this one does not come to an end.
func (m *Machine) mark(o *operation, b *member) uint64 {
	joiner := o.steps.joiner
	switch {
	case joiner != nil && !o.steps.mends:
		return uint64(m.joined(joiner))
	case joiner != nil:
	case m.stage == stageSettling:
		return uint64(m.claim.base)
	case m.need&b.bit != 0: // of a write that is undone some may have a record, and some none
		return uint64(o.seq)
	}
	return 0
}

func replicated(k opKind) wire.Opcode {
	switch k {
	case kindWrite:
		return wire.OpReplWrite
	case kindDiscard:
		return wire.OpReplDiscard
	case kindZeroes:
		return wire.OpReplWriteZeroes
	default:
		return wire.OpReplFlush
	}
}

// stored implements opOwner: the end of the local Op.
func (o *operation) stored(m *Machine, op *Op) {
	o.op = nil
	switch {
	case o.kind == kindHeal:
		m.healStored(o, op)
		return
	case o.kind == kindScrub:
		m.checkStored(o, op)
		return
	case o.state == opCopying:
		m.stepRead(o, op)
		return
	case o.kind == kindRead:
		m.read(o, op)
		return
	case op.Err == nil:
	case errors.Is(op.Err, ErrNoSpace):
		o.status = wire.StatusNoSpace
	default:
		o.status, m.broken = wire.StatusIO, true
	}
	m.ended(o, nil)
	m.progress(o)
}

// read answers a read, if the leases held to its end; else it is done again when they do.
func (m *Machine) read(o *operation, op *Op) {
	status := wire.StatusOK
	switch {
	case op.Err == nil && !m.serving():
		m.order.push(o)
		return
	case op.Err == nil:
	case errors.Is(op.Err, ErrBusy):
		status = wire.StatusBusy
	case m.mendable(o):
		o.mends++
		m.mend(o, o.offset, o.length)
		return
	case m.broken && m.heir() != nil:
		m.order.push(o) // the next Primary has it
		return
	case m.unsure() && !m.hasLost(o.offset, int64(o.length)):
		status = wire.StatusBusy // nobody who could be asked has it
	case errors.Is(op.Err, ErrCorruption):
		status = wire.StatusCorruption
	default:
		status = wire.StatusIO
	}
	p := op.Payload
	op.Payload = nil
	m.answer(o, status, p)
	m.finish(o)
}

// progress looks what an operation still waits for.
func (m *Machine) progress(o *operation) {
	if o.op != nil || o.kind == kindRead {
		return
	}
	m.each(o.refused&^m.need, func(b *member) { m.passOver(o, b) })
	if o.kind == kindScrub {
		if o.state == opRunning && o.pending == 0 && !o.heal.retry {
			m.checked(o)
		}
		return
	}
	if o.kind == kindHeal {
		if o.heal.fetching && o.pending == 0 { // who was asked is gone
			o.heal.fetching = false
			m.fetch(o)
		}
		return
	}
	switch o.state {
	case opWaiting, opQueued:
	case opCopying:
		switch {
		case o.steps.retry:
		case o.pending == 0:
			m.stepDone(o)
		case o.pending == o.refused:
			m.takeBack(o)
		}
	case opRunning:
		m.progressWrite(o)
	}
}

// progressWrite answers a write, discard, zeroes or flush when all that are needed have it, and ends it when all
// targets have.
func (m *Machine) progressWrite(o *operation) {
	switch o.status {
	case wire.StatusOK:
		if o.refused != 0 && o.pending == o.refused {
			o.status = wire.StatusNoSpace
			m.undo(o)
			return
		}
		m.acknowledge(o)
	case wire.StatusNoSpace:
		if o.pending == o.refused {
			m.undo(o)
		}
		return
	default:
		// The content here is not known. Another member is to be Primary, whether it has the change yet or not; without
		// one, nobody else may keep it.
		if m.need != 0 {
			return
		}
		m.each(o.pending, m.fail)
		m.answer(o, o.status, nil)
	}
	if o.pending == 0 {
		m.finish(o)
	}
}

// finish ends an operation.
func (m *Machine) finish(o *operation) {
	if o.seqs > 0 {
		m.sequence.done(o)
	}
	o.letGo()
	if o.internal {
		m.internalDone(o)
	} else if o.changes() && o.status == wire.StatusOK {
		m.forgetLost(o.offset, int64(o.length))
	}
	m.order.remove(o)
}

// reply takes an answer of a member.
func (m *Machine) reply(h *wire.Header, p Payload) {
	if h.Status == wire.StatusStaleEpoch || h.Status == wire.StatusNotPrimary {
		if r, ok := m.take(p); ok {
			m.learn(r)
		}
		p = nil
	}
	b := m.member(h.From)
	if b != nil && m.reigning() && h.Session == ident.SessionID(m.reign) && h.Request == ident.RequestID(b.attempt) {
		switch h.Opcode {
		case wire.OpTail:
			m.tailAnswered(b, h, p)
		case wire.OpRebuildStart:
			m.joinAnswered(b, h)
		case wire.OpChecksum:
			if h.Generation != 0 {
				m.compared(b, h, p)
				break
			}
			m.digestsAnswered(b, h, p)
		case wire.OpVerify:
			m.verified(b, h)
		case wire.OpFetch:
			m.fetched(b, h, p)
		default:
			m.acknowledged(b, h)
		}
	}
	if p != nil {
		p.Release()
	}
}

// acknowledged takes the answer to what was replicated or copied.
func (m *Machine) acknowledged(b *member, h *wire.Header) {
	o := m.sequence.find(h.Seq)
	if o == nil || o.pending&b.bit == 0 || b.state != memberFollowing {
		return
	}
	copied := isCopy(h.Opcode)
	if copied != (o.state == opCopying) || copied && uint64(h.Generation) != o.steps.number {
		return // of an earlier step
	}
	switch h.Status {
	case wire.StatusOK:
		o.pending &^= b.bit
		m.ended(o, b)
	case wire.StatusBusy, wire.StatusStaleEpoch, wire.StatusNotPrimary:
		o.again |= b.bit
		return
	case wire.StatusNoSpace:
		m.noRoom(o, b)
	default:
		m.fail(b)
		return
	}
	m.progress(o)
}

// again sends once more what was not taken, at a Tick.
func (m *Machine) again() {
	for i := range m.members {
		b := &m.members[i]
		if b.id == 0 || !b.connected {
			continue
		}
		m.tellRecord(b)
		if b.askAgain {
			b.askAgain = false
			m.reach(b)
		}
	}
	var next *operation
	for o := m.order.first; o != nil; o = next {
		next = o.next
		again := o.again & o.pending
		o.again = 0
		m.each(again, func(b *member) { m.sendTo(o, b) })
		switch {
		case o.kind == kindHeal && o.heal.retry:
			m.probe(o)
		case o.kind == kindScrub && o.heal.retry:
			m.readCheck(o)
		case o.state == opCopying && o.steps.retry:
			m.readStep(o)
		}
	}
}

// What follows is rule 14. A Device that is full has room for whatever lies in the Extents it has; only a write of an
// Extent's first Blocks needs another.

// shortPause is how long a Replica that had no space to be brought in sync is left out, before it may join again.
const shortPause = 10 * time.Second

// noteBare notes, before a write begins, where nothing is written yet.
func (m *Machine) noteBare(o *operation) {
	first := min(int64(o.length), extentSize-o.offset%extentSize)
	o.bare[0] = !m.holds(o.offset, int(first))
	if rest := int64(o.length) - first; rest > 0 {
		o.bare[1] = !m.holds(o.offset+first, int(rest))
	}
}

// noRoom takes it that a member has no space for an operation, or for the present step of a copy. Who joins goes on
// without; for others all is undone, once the rest has answered.
func (m *Machine) noRoom(o *operation, b *member) {
	switch {
	case m.need&b.bit == 0:
		m.passOver(o, b)
	case o.steps.mends || o.kind != kindWrite && o.kind != kindCopy:
		m.fail(b) // it has the Blocks that are healed, and the rest needs no space
	default:
		o.refused |= b.bit
	}
}

// passOver goes on without somebody who joins. It is not brought in sync this time, but goes through to the end, for
// the discards that give it space.
func (m *Machine) passOver(o *operation, b *member) {
	b.join.short = true
	o.pending &^= b.bit
	o.refused &^= b.bit
}

// undo makes the range of a write that somebody needed has no space for equal on all members, to what is here. Nothing
// of it was acknowledged.
func (m *Machine) undo(o *operation) {
	o.letGo()
	m.forgetLost(o.offset, int64(o.length)) // what the write has not made good is found anew by the copies
	o.state, o.steps, o.pending, o.refused = opCopying, steps{}, 0, 0
	m.step(o)
}

// takeBack goes on with a step that members have no space for, though they have all that was acknowledged: nothing was
// written there before. So it is discarded here, and then everywhere. If that cannot be known, they are to be evicted.
func (m *Machine) takeBack(o *operation) {
	s := &o.steps
	if !m.neverHeld(o) {
		m.each(o.refused, m.fail)
		return
	}
	o.letGo()
	o.pending, o.refused = 0, 0
	o.op = m.store(o, Op{Kind: Discard, Offset: o.offset + s.at, Length: int(s.length), Epoch: m.record.Epoch})
}

// neverHeld reports whether nothing acknowledged can be where the present step of a copy is, for which members have no
// Extent: before a write that is undone nothing was there; and when members are made equal, one that is InSync and has
// not lost power has all that was acknowledged.
func (m *Machine) neverHeld(o *operation) bool {
	if !o.internal {
		return o.bare[(o.offset+o.steps.at)/extentSize-o.offset/extentSize]
	}
	sound := !m.powerLost
	m.each(o.refused, func(b *member) { sound = sound && !b.powerLost })
	return sound
}

// tookBack takes the outcome of that discard: the step is done anew. If the Device has failed somebody else is to be
// Primary.
func (m *Machine) tookBack(o *operation, op *Op) {
	if op.Err != nil {
		m.broken, o.steps.retry = true, true
		return
	}
	m.step(o)
}
