package replication

import (
	"errors"

	"github.com/shale-storage/shale/storenode/bitmap"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/replication/mutant"
	"github.com/shale-storage/shale/storenode/wire"
)

const (
	// MaxCopies bounds the parts of Extents of a joining Replica that are copied at a time.
	MaxCopies = 8
	// copyPart is how much is copied under one range lock, in bytes: little, because writes wait for it.
	copyPart = 128 << 10
	// Whole is the Progress of what is done.
	Whole = 10000
)

// join is how far a Replica is brought in sync.
type join struct {
	active bool
	// after is the last write that was not sent to it; nothing is compared before all those have ended here.
	after ident.Seq
	// last is the highest Seq it has seen; the reign must be beyond it before it is InSync.
	last ident.Seq
	// cursor is the Extent behind the present page; asked for digests from it on and not answered yet.
	cursor uint32
	asked  bool
	// todo are the Extents of the page that differ, from the first on which is copied up to part; copies are in flight.
	todo   []uint32
	part   int64
	copies int
	// At the end nothing more is acknowledged without it (closing); then it is flushed: what is InSync has on flash what
	// clients were told to be.
	closing, flushing, flushed bool
	// short: it had no space for something, see noRoom.
	short bool
}

func (m *Machine) extents() uint32 { return uint32((m.c.Size + extentSize - 1) / extentSize) }

// rebuild goes on with all Replicas that are not InSync.
func (m *Machine) rebuild() {
	for i := range m.members {
		b := &m.members[i]
		if b.id == 0 || b.inSync || b.proposed {
			continue
		}
		switch {
		case b.failed || !b.connected || b.leaving:
		case b.state == memberOut && m.patience >= b.retry && !m.yields():
			m.attempts++
			b.state, b.attempt, b.asked, b.join = memberStarting, m.attempts, m.patience, join{active: true}
			m.reach(b)
		case b.state == memberFollowing:
			m.joinOn(b)
		}
	}
}

// joinAnswered: from now on the Replica gets every write.
func (m *Machine) joinAnswered(b *member, h *wire.Header) {
	if b.state != memberStarting {
		return
	}
	if h.Status != wire.StatusOK {
		b.askAgain = true
		return
	}
	b.state = memberFollowing
	b.join.after, b.join.last = m.sequence.next-1, h.Seq
	m.sequence.jump = max(m.sequence.jump, h.Seq)
	m.count()
}

// isWritten reports whether all Blocks of an Extent were written here.
func (m *Machine) isWritten(extent uint32) bool {
	written := m.env.Written(extent)
	return written.Has(0) && written.Run(0) == bitmap.Blocks
}

// joinOn goes on with one Replica.
func (m *Machine) joinOn(b *member) {
	j := &b.join
	if m.sequence.floor < j.after || j.asked {
		return
	}
	for len(j.todo) > 0 && j.copies < MaxCopies {
		first := int64(j.todo[0])*extentSize + j.part
		end := min(int64(j.todo[0]+1)*extentSize, m.c.Size)
		length, cost := int(min(copyPart, end-first)), copyPart
		if j.short || !m.holds(first, int(end-first)) {
			length, cost = int(end-first), 0 // nothing more to be copied
		}
		if j.short && m.isWritten(j.todo[0]) {
			j.todo, j.part = j.todo[1:], 0 // there is nothing to discard
			continue
		}
		if !m.env.AcquireRebuild(cost) {
			return
		}
		if j.part += int64(length); first+int64(length) >= end {
			j.todo, j.part = j.todo[1:], 0
		}
		j.copies++
		m.order.insert(m.newCopy(first, length, b))
	}
	switch {
	case len(j.todo) > 0 || j.copies > 0:
	case j.cursor < m.extents() && mutant.Now != mutant.JoinEarly:
		j.asked, b.asked = true, m.patience
		m.askDigests(b)
	case j.short:
		m.doomed |= b.bit
	case !j.closing:
		j.closing = true
		m.count()
		m.flushJoiner(b)
	default:
		m.flushJoiner(b)
	}
}

// flushJoiner flushes a Replica that has got all copies, once, and when no write is on its way to it any more that was
// acknowledged without it: that may have been flushed at all others.
func (m *Machine) flushJoiner(b *member) {
	if b.join.flushing || m.lags(b) {
		return
	}
	b.join.flushing = true
	o := m.order.get()
	o.kind, o.internal, o.steps = kindFlush, true, steps{joiner: b, attempt: b.attempt}
	m.order.insert(o)
}

// ready reports whether a Replica has everything.
func (m *Machine) ready(b *member) bool {
	return b.state == memberFollowing && b.join.flushed && !b.join.short &&
		!b.failed && !b.leaving && b.connected && m.doomed&b.bit == 0 &&
		m.env.LeaseUntil(b.id) > m.now && // it is needed from the proposal on
		!m.lags(b) &&
		(b.join.last < m.sequence.next || m.sequence.room(1))
}

// lags reports whether a Replica has not got something yet that was acknowledged without it.
func (m *Machine) lags(b *member) bool {
	for o := m.order.first; o != nil; o = o.next {
		if o.answered && o.pending&b.bit != 0 {
			return true
		}
	}
	return false
}

func (m *Machine) askDigests(b *member) {
	if !b.connected {
		return
	}
	m.send(wire.Header{
		Opcode: wire.OpChecksum, Epoch: m.record.Epoch, Session: ident.SessionID(m.reign),
		Request: ident.RequestID(b.attempt), To: b.id,
		Offset: uint64(b.join.cursor) * extentSize, Length: min(m.extents()-b.join.cursor, wire.MaxDigests),
	}, nil)
}

// digestsAnswered compares a page of Extents. One is passed over only if Epoch and digest are equal; a write on its way
// to both makes them equal later, or different now, and then it is copied in its turn.
func (m *Machine) digestsAnswered(b *member, h *wire.Header, p Payload) {
	j := &b.join
	if b.state != memberFollowing || !j.asked || h.Offset != uint64(j.cursor)*extentSize {
		return
	}
	if h.Status == wire.StatusBusy || h.Status == wire.StatusStaleEpoch {
		b.askAgain = true
		return
	}
	if h.Status != wire.StatusOK || p == nil || h.Length == 0 {
		m.fail(b)
		return
	}
	theirs, err := wire.DecodeDigests(m.env.Bytes(p), nil)
	if err != nil {
		m.fail(b)
		return
	}
	end := min(uint64(j.cursor)+uint64(h.Length), uint64(m.extents()))
	j.todo = m.differ(j.todo[:0], j.cursor, uint32(end), theirs, j.short)
	j.cursor, j.asked = uint32(end), false
}

// differ appends the Extents of [from, end) that are not the same here and in theirs. Who is short has nothing to
// discard in those it lacks.
func (m *Machine) differ(into []uint32, from, end uint32, theirs []wire.ExtentDigest, short bool) []uint32 {
	m.env.Extents(from, func(d wire.ExtentDigest) bool {
		if d.Index >= end {
			return false
		}
		for len(theirs) > 0 && theirs[0].Index < d.Index {
			into, theirs = append(into, theirs[0].Index), theirs[1:]
		}
		if len(theirs) > 0 && theirs[0].Index == d.Index {
			if theirs[0] != d && (mutant.Now != mutant.ForgetDelta || theirs[0].Epoch >= d.Epoch) {
				into = append(into, d.Index)
			}
			theirs = theirs[1:]
			return true
		}
		if !short {
			into = append(into, d.Index)
		}
		return true
	})
	for _, d := range theirs {
		if d.Index >= from && d.Index < end {
			into = append(into, d.Index)
		}
	}
	return into
}

// progress of bringing a Replica in sync, of Whole: Extents that were found equal or were copied.
func (m *Machine) joined(b *member) int {
	done := uint64(b.join.cursor) - uint64(len(b.join.todo))
	return int(done * Whole / uint64(max(m.extents(), 1)))
}

// worst progress of the joining Replicas.
func (m *Machine) worst() int {
	worst := Whole
	for i := range m.members {
		if b := &m.members[i]; b.id != 0 && !b.inSync {
			worst = min(worst, m.joined(b))
		}
	}
	return worst
}

// steps is how far a copy is: run by run of Blocks that were written, or were not, one after the other. All steps of a
// copy go by one Seq and are numbered, so that a copy never waits for room in the window it holds up itself.
type steps struct {
	// joiner and its attempt, for whom the copy is; nil if it is for all members.
	joiner  *member
	attempt uint64
	// number of the present step, from 1.
	number uint64
	// at and length of the present run, in bytes from the operation's offset; written says which kind.
	at, length int64
	written    bool
	// epoch of the Extent, so that a later comparison finds the copy equal.
	epoch ident.Epoch
	// retry: there was no memory to read into; at the next Tick.
	retry bool
	// Up to mended, Blocks that could not be read were looked for elsewhere; up to single, some are lost, and the copy
	// goes Block by Block. spoils: the present step makes the Block one that cannot be read there either.
	mended, single int64
	spoils         bool
	// mends: the copy heals a member that has everything else.
	mends bool
}

// newCopy is a copy of a range to a joining member, or to all that follow.
func (m *Machine) newCopy(offset int64, length int, joiner *member) *operation {
	o := m.order.get()
	o.kind, o.internal, o.offset, o.length = kindCopy, true, offset, length
	if o.steps.joiner = joiner; joiner != nil {
		o.steps.attempt = joiner.attempt
	}
	return o
}

// copyTo are the members that a copy goes to.
func (m *Machine) copyTo(o *operation) mask {
	b := o.steps.joiner
	switch {
	case b == nil:
		return m.targets
	case b.attempt == o.steps.attempt:
		return b.bit & m.targets
	}
	return 0
}

// step begins the next step of a copy.
func (m *Machine) step(o *operation) {
	s := &o.steps
	if s.at >= int64(o.length) || m.copyTo(o) == 0 {
		m.copied(o)
		return
	}
	m.measure(o)
	for s.written && s.joiner != nil && s.joiner.join.short && !s.mends {
		if s.at += s.length; s.at >= int64(o.length) {
			m.copied(o)
			return
		}
		m.measure(o)
	}
	s.number++
	if s.written {
		m.readStep(o)
		return
	}
	m.sendStep(o)
}

// measure finds the run that begins where the copy is, and the Epoch of its Extent.
func (m *Machine) measure(o *operation) {
	s := &o.steps
	offset := o.offset + s.at
	extent := uint32(offset / extentSize)
	within := int(offset % extentSize / ident.BlockSize)
	written := m.env.Written(extent)
	s.written = written.Has(within)
	s.length = min(int64(o.length)-s.at, int64(written.Run(within)-within)*ident.BlockSize)
	if s.at < s.single {
		s.length = min(s.length, ident.BlockSize)
	}
	s.epoch, s.spoils = m.record.Epoch, false
	if s.joiner != nil {
		s.epoch = m.epochOf(extent)
	}
}

// epochOf is that of an Extent here.
func (m *Machine) epochOf(extent uint32) ident.Epoch {
	epoch := m.record.Epoch
	m.env.Extents(extent, func(d wire.ExtentDigest) bool {
		if d.Index == extent {
			epoch = d.Epoch
		}
		return false
	})
	return epoch
}

func (m *Machine) readStep(o *operation) {
	o.steps.retry = false
	o.op = m.store(o, Op{Kind: Read, Offset: o.offset + o.steps.at, Length: int(o.steps.length)})
}

// stepRead takes what was read of the local Replica.
func (m *Machine) stepRead(o *operation, op *Op) {
	switch {
	case op.Kind == Discard:
		m.tookBack(o, op)
	case op.Err == nil:
		o.payload, op.Payload = op.Payload, nil
		m.sendStep(o)
	case errors.Is(op.Err, ErrBusy):
		o.steps.retry = true
	default:
		m.unreadable(o)
	}
}

// unreadable goes on with a copy whose present step could not be read: after good copies were looked for, Block by
// Block, and with those that nobody has made unreadable there too. Nothing else stops for them. But nothing is made
// unreadable at members that have everything, while one of them could not be asked.
func (m *Machine) unreadable(o *operation) {
	s := &o.steps
	switch {
	case m.yields():
		s.retry = true // the next Primary has it
	case s.mended < s.at+s.length:
		s.mended = s.at + s.length
		m.mend(o, o.offset+s.at, int(s.length))
	case s.length > ident.BlockSize:
		s.single = max(s.single, s.at+s.length)
		s.length = ident.BlockSize
		m.readStep(o)
	case s.mends && m.unsure():
		m.copied(o) // the next scrub finds it again
	case s.joiner == nil && m.unsure():
		s.mended, s.retry = s.at, true // nobody who could be asked has it
	default:
		s.spoils = true
		m.sendStep(o)
	}
}

func (m *Machine) sendStep(o *operation) {
	o.pending, o.sent = m.copyTo(o), m.patience
	m.each(o.pending, func(b *member) { m.sendTo(o, b) })
	m.progress(o)
}

// stepDone goes on to the next step.
func (m *Machine) stepDone(o *operation) {
	o.letGo()
	o.steps.at += o.steps.length
	m.step(o)
}

// copied is the end of a copy.
func (m *Machine) copied(o *operation) {
	if !o.internal {
		m.answer(o, o.status, nil)
	}
	m.finish(o)
}

// internalDone tells whoever began an internal operation.
func (m *Machine) internalDone(o *operation) {
	b := o.steps.joiner
	switch {
	case o.kind == kindHeal:
		if m.healing[o.heal.slot] = nil; o.heal.claims {
			m.claim.looks--
		}
	case o.kind == kindScrub:
		m.healing[o.heal.slot] = nil
		m.scrub.running = false
	case o.steps.mends:
		if o.steps.at >= int64(o.length) && !o.steps.spoils {
			m.find(Finding{Kind: Healed, Replica: b.id, From: m.self, Offset: o.offset, Length: o.length})
		}
	case b == nil && o.kind == kindCopy:
		m.claim.copies--
	case b == nil:
		m.claim.flushed = true
	case o.kind == kindCopy:
		m.env.ReleaseRebuild()
		if b.attempt == o.steps.attempt {
			b.join.copies--
		}
	case b.attempt == o.steps.attempt:
		b.join.flushed = o.status == wire.StatusOK
	}
}
