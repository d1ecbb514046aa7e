package replication

import (
	"errors"
	"math"
	"math/bits"
	"time"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/wire"
)

const (
	// MaxHeals bounds the ranges of a Shard that are healed at a time.
	MaxHeals = 16
	// MaxLost bounds the lost Blocks of a Shard that are remembered; of more, each read looks for a copy again.
	MaxLost = 4096
	// maxMends bounds how often a read looks for copies: other Blocks may rot while some are healed.
	maxMends = 4
	// lookAgain is after how long a copy is looked for again that only I/O errors hid. They may pass.
	lookAgain = 10 * time.Second
)

// heal is how far a range of the Primary was looked through. The operation holds the range lock against everybody, so
// that nothing is ever put over a newer write; it takes no Seq, because it changes nothing that anybody can read.
type heal struct {
	// slot in Machine.healing.
	slot int
	// at and length of the part that is being read, in bytes from the operation's offset: halved until it is one Block.
	at, length int64
	// fetching a Block from another Replica: number and tries name the question, asked are those that have answered,
	// bad those among them that could not read it either, from who had it.
	fetching   bool
	number     uint64
	tries      uint64
	asked, bad mask
	from       *member
	// written: the Block at the beginning of the part was written anew; if it still cannot be read, the Device is sick.
	written bool
	// unsteady: some Replica failed to read the Block for another reason than its checksum, so it may have it all the
	// same. until when all are asked again, by the Machine's patience; 0 before that was necessary. Each Block that was
	// healed gives time for another one.
	unsteady bool
	until    time.Duration
	// claims: the claim waits for it.
	claims bool
	// retry: there was no memory to read into, or somebody is unsteady; at the next Tick.
	retry bool
	// compares: a scrub compares the Extent; its members answer with epochs.
	compares bool
	// unreadable: a scrub could not read the range here.
	unreadable bool
	epochs     [membership.MaxReplicas]ident.Epoch
}

// mend heals a range of this Replica before an operation that could not read it goes on. What came meanwhile goes
// before a read, but not before a copy, for whose Seq it may wait.
func (m *Machine) mend(o *operation, offset int64, length int) {
	h := m.order.get()
	h.kind, h.internal, h.offset, h.length = kindHeal, true, offset, length
	if o.seq != 0 {
		m.order.ahead(o, h)
		return
	}
	m.order.behind(o, h)
}

// mendable reports whether it may help to heal what an operation could not read.
func (m *Machine) mendable(o *operation) bool {
	return o.mends < maxMends && !m.yields() && !m.hasLost(o.offset, int64(o.length))
}

// healSlot is a free place for an operation that heals, -1 if there is none.
func (m *Machine) healSlot() int {
	for i, o := range m.healing {
		if o == nil {
			return i
		}
	}
	return -1
}

func (m *Machine) heal(o *operation) {
	slot := m.healSlot()
	m.healing[slot] = o
	o.heal = heal{slot: slot, length: int64(o.length), claims: o.heal.claims}
	m.probe(o)
}

// probe reads the present part, or ends.
func (m *Machine) probe(o *operation) {
	h := &o.heal
	h.retry = false
	if h.at >= int64(o.length) || m.yields() {
		m.finish(o)
		return
	}
	o.op = m.store(o, Op{Kind: Read, Offset: o.offset + h.at, Length: int(h.length)})
}

// healStored takes the outcome of a probe, or of the writing anew.
func (m *Machine) healStored(o *operation, op *Op) {
	h := &o.heal
	switch {
	case op.Kind == Write && op.Err != nil, op.Kind == Read && h.written && op.Err != nil && !errors.Is(op.Err, ErrBusy):
		m.broken = true
		m.finish(o)
	case op.Kind == Write:
		h.written = true
		m.probe(o)
	case op.Err == nil:
		m.passed(o)
	case errors.Is(op.Err, ErrBusy):
		h.retry = true
	case h.length > ident.BlockSize:
		h.length = (h.length/2 + ident.BlockSize - 1) / ident.BlockSize * ident.BlockSize
		m.probe(o)
	default:
		h.asked, h.bad, h.from, h.unsteady = 0, 0, nil, !errors.Is(op.Err, ErrCorruption)
		m.fetch(o)
	}
}

// passed: the present part can be read.
func (m *Machine) passed(o *operation) {
	h := &o.heal
	if h.written {
		at := o.offset + h.at
		m.find(Finding{Kind: Healed, Replica: m.self, From: h.from.id, Offset: at, Length: ident.BlockSize})
		m.forgetLost(at, ident.BlockSize)
		if h.until = 0; m.stage != stageAsking {
			m.each(h.bad, func(b *member) { m.healMember(b, at, ident.BlockSize) })
		}
	}
	m.nextPart(o)
}

func (m *Machine) nextPart(o *operation) {
	h := &o.heal
	h.at += h.length
	h.length, h.written = int64(o.length)-h.at, false
	m.probe(o)
}

// fetch asks the next Replica for the Block. When none is left, all are asked again for a while if some are unsteady;
// then the Block is lost.
func (m *Machine) fetch(o *operation) {
	h := &o.heal
	b := m.source(h.asked)
	if b == nil {
		h.fetching = false
		if h.unsteady && h.until == 0 {
			h.until = m.patience + m.c.Timing.Deadline/2
		}
		if h.unsteady && m.patience < h.until {
			h.retry = true
			return
		}
		if !m.unsure() {
			m.lose(o.offset+h.at, h.unsteady)
		}
		m.nextPart(o)
		return
	}
	m.fetches++
	h.fetching, h.number, h.tries = true, m.fetches, 0
	o.pending, o.sent = b.bit, m.patience
	m.sendTo(o, b)
}

// unsure reports whether a member of InSync cannot be asked for what it has: it has just restarted, or is not reached.
// It may have a good copy, and either answers soon or is evicted.
func (m *Machine) unsure() bool {
	for i := range m.members {
		if b := &m.members[i]; b.id != 0 && b.inSync && (b.failed || !b.connected || b.state != memberFollowing) {
			return true
		}
	}
	return false
}

// source is who to ask: a member that can be reached before one that cannot, one that is about to be evicted if it can
// be reached, as it has everything until then, and last a Replica that is being brought in sync, which may have kept
// what is wanted.
func (m *Machine) source(asked mask) *member {
	var best *member
	value := func(b *member) int {
		switch {
		case b.inSync && b.connected && !b.failed:
			return 4
		case b.inSync && b.connected:
			return 3
		case b.inSync:
			return 2
		}
		return 1
	}
	m.each(m.targets&^asked, func(b *member) {
		if m.doomed&b.bit != 0 || !b.connected && (b.failed || !b.inSync) || b.failed && !b.inSync {
			return
		}
		if best == nil || value(b) > value(best) {
			best = b
		}
	})
	return best
}

func (m *Machine) sendFetch(o *operation, b *member, opcode wire.Opcode) {
	h := &o.heal
	h.tries++
	m.send(wire.Header{
		Opcode: opcode, Session: ident.SessionID(m.reign), Request: ident.RequestID(b.attempt),
		Epoch: m.record.Epoch, To: b.id, Offset: uint64(o.offset + h.at), Length: uint32(h.length),
		Committed: ident.Seq(h.slot), Generation: ident.Generation(h.number), Snapshot: h.tries,
	}, nil)
}

// inquiry is the operation that an answer belongs to, nil if none waits for it.
func (m *Machine) inquiry(b *member, h *wire.Header) *operation {
	if h.Committed >= MaxHeals {
		return nil
	}
	o := m.healing[h.Committed]
	if o == nil || o.pending&b.bit == 0 || uint64(h.Generation) != o.heal.number {
		return nil
	}
	return o
}

// fetched takes the answer. What a member of InSync can read is what was acknowledged; anybody else's content is that
// only if it has the checksum that is remembered here.
func (m *Machine) fetched(b *member, h *wire.Header, p Payload) {
	o := m.inquiry(b, h)
	if o == nil || o.kind != kindHeal {
		return
	}
	switch h.Status {
	case wire.StatusBusy, wire.StatusStaleEpoch, wire.StatusNotPrimary:
		o.again |= b.bit
		return
	case wire.StatusCorruption, wire.StatusIO:
		if b.inSync {
			o.heal.bad |= b.bit
		}
		o.heal.unsteady = o.heal.unsteady || h.Status == wire.StatusIO
	default:
	}
	o.heal.asked |= b.bit
	o.pending, o.heal.fetching = 0, false
	if h.Status == wire.StatusNotFound && b.inSync {
		m.fail(b) // it follows no more, but may have it
	}
	good := h.Status == wire.StatusOK && p != nil && h.PayloadLength == ident.BlockSize
	if !good || !b.inSync && !m.remembers(o, p) {
		m.fetch(o)
		return
	}
	at := o.offset + o.heal.at
	o.heal.from = b
	op := Op{
		Kind: Write, Offset: at, Length: ident.BlockSize, Epoch: m.epochOf(uint32(at / extentSize)), Payload: p,
		FUA: o.heal.claims, // whoever has it whole leaves next
	}
	if m.stage == stageSettling {
		op.Seq = m.claim.base // it may be what only that member had
	}
	o.op = m.store(o, op)
}

func (m *Machine) remembers(o *operation, p Payload) bool {
	sum, written := m.env.Checksum(o.offset + o.heal.at)
	return written && sum == m.env.Sum(p)
}

// healMember copies a range to a member of InSync that cannot read its own.
func (m *Machine) healMember(b *member, offset int64, length int) {
	o := m.newCopy(offset, length, b)
	o.steps.mends = true
	m.order.insert(o)
}

// find notes news for people.
func (m *Machine) find(f Finding) { m.out.Findings = append(m.out.Findings, f) }

// lostBlock is a Block that no Replica could read.
type lostBlock struct {
	// offset in bytes within the Shard.
	offset int64
	// until when, by the Machine's patience, nobody is asked again.
	until time.Duration
}

// lose notes that no Replica can read a Block: for good, or, if some are unsteady, for a while.
func (m *Machine) lose(offset int64, unsteady bool) {
	until := time.Duration(math.MaxInt64)
	if unsteady {
		until = m.patience + lookAgain
	}
	for i := range m.lost {
		if m.lost[i].offset == offset {
			m.lost[i].until = until
			return
		}
	}
	m.find(Finding{Kind: Lost, Replica: m.self, Offset: offset, Length: ident.BlockSize})
	if len(m.lost) < MaxLost {
		m.lost = append(m.lost, lostBlock{offset, until})
	}
}

// hasLost reports whether a Block is in a range that nobody is to be asked for.
func (m *Machine) hasLost(offset, length int64) bool {
	for _, l := range m.lost {
		if offset <= l.offset && l.offset < offset+length && m.patience < l.until {
			return true
		}
	}
	return false
}

// forgetLost: the Blocks of a range can be read again, because they were written.
func (m *Machine) forgetLost(offset, length int64) {
	if len(m.lost) == 0 {
		return
	}
	kept := m.lost[:0]
	for _, l := range m.lost {
		if l.offset < offset || offset+length <= l.offset {
			kept = append(kept, l)
		}
	}
	m.lost = kept
}

// fetching is what a Backup has of a question for one of its Blocks: a late one is never carried out beside a newer
// write, because the Primary that waits for none asks by no number it has used.
type fetching struct {
	number, tries uint64
	running       bool
	request       wire.Header
}

// fetchHere answers with a Block as this Replica has it.
func (m *Machine) fetchHere(h *wire.Header) wire.Status {
	f := &m.follow
	switch {
	case !m.follows(h):
		return wire.StatusNotFound
	case h.Committed >= MaxHeals || h.Length == 0 || h.Length > scrubStep:
		return wire.StatusInvalid
	case f.unanswered:
		return wire.StatusBusy
	}
	x := &f.fetches[h.Committed]
	number := uint64(h.Generation)
	if number < x.number || number == x.number && h.Snapshot <= x.tries {
		return wire.StatusOK // late
	}
	running := x.running && x.number == number
	*x = fetching{number: number, tries: h.Snapshot, running: true, request: *h}
	if running {
		return wire.StatusOK // its end answers this one
	}
	m.store(f, Op{Kind: Read, Offset: int64(h.Offset), Length: int(h.Length), request: *h, follows: f.number})
	return wire.StatusOK
}

func (m *Machine) fetchedHere(f *follow, op *Op) {
	x := &f.fetches[op.request.Committed]
	if x.number != uint64(op.request.Generation) {
		return
	}
	x.running = false
	a := answerTo(&x.request, wire.StatusOK)
	var p Payload
	switch {
	case op.Err == nil && a.Opcode == wire.OpVerify:
	case op.Err == nil:
		p, op.Payload = op.Payload, nil
		a.PayloadLength = a.Length
	case errors.Is(op.Err, ErrBusy):
		a.Status = wire.StatusBusy
	case errors.Is(op.Err, ErrCorruption):
		a.Status = wire.StatusCorruption
	default:
		a.Status = wire.StatusIO
	}
	m.send(a, p)
}

// scrubStep is how much is looked through under one range lock, in bytes: little, because writes wait for it.
const scrubStep = 64 << 10

// scrub is how far an Extent was looked through.
type scrub struct {
	active, running bool
	extent          uint32
	// at is the next step, in bytes from the Extent's beginning.
	at int64
	// rested: a Tick has passed since the last step; with clients at work one step is made for each.
	rested bool
	// doubtful: the Extent seemed to differ somewhere, and is compared once more.
	doubtful bool
}

// Scrub begins to look through an Extent on all members of InSync: whether it can be read, and is the same. What is
// wrong is healed. It reports false when it cannot be done now; a scrub that was begun may be given up when the reign
// ends.
func (m *Machine) Scrub(now Instant, extent uint32) bool {
	m.at(now)
	if m.scrub.active || m.stage != stageServing || m.broken || m.closed || extent >= m.extents() {
		return false
	}
	m.scrub = scrub{active: true, extent: extent, rested: true}
	m.advance()
	return true
}

// Scrubbing reports whether an Extent is being looked through.
func (m *Machine) Scrubbing() bool { return m.scrub.active }

// scrubOn makes the next step.
func (m *Machine) scrubOn() {
	s := &m.scrub
	if s.running || m.order.clients > 0 && !s.rested || s.doubtful && !s.rested {
		return
	}
	s.rested = false
	first := int64(s.extent) * extentSize
	size := min(extentSize, m.c.Size-first)
	for s.at < size && !m.holds(first+s.at, scrubStep) {
		s.at += scrubStep
	}
	o := m.order.get()
	o.kind, o.internal, o.offset, o.length = kindScrub, true, first, int(size)
	o.heal.compares = s.at >= size
	if !o.heal.compares {
		o.offset, o.length = first+s.at, int(min(scrubStep, size-s.at))
		s.at += scrubStep
	}
	s.running = true
	m.order.insert(o)
}

// holds reports whether any Block of a range within an Extent was written here.
func (m *Machine) holds(offset int64, length int) bool {
	from := int(offset % extentSize / ident.BlockSize)
	written := m.env.Written(uint32(offset / extentSize))
	return written.Any(from, from+length/ident.BlockSize)
}

// check asks all members of InSync at once, this Replica included.
func (m *Machine) check(o *operation) {
	h := &o.heal
	m.fetches++
	h.slot, h.number, h.length = m.healSlot(), m.fetches, int64(o.length)
	m.healing[h.slot] = o
	m.each(m.targets&m.need, func(b *member) {
		if b.inSync && b.connected && !b.failed {
			o.pending |= b.bit
		}
	})
	if !h.compares {
		m.readCheck(o)
	}
	m.each(o.pending, func(b *member) { m.sendTo(o, b) })
	m.progress(o)
}

func (m *Machine) readCheck(o *operation) {
	o.heal.retry = false
	o.op = m.store(o, Op{Kind: Read, Offset: o.offset, Length: o.length})
}

func (m *Machine) sendCheck(o *operation, b *member) {
	if !o.heal.compares {
		m.sendFetch(o, b, wire.OpVerify)
		return
	}
	m.send(wire.Header{
		Opcode: wire.OpChecksum, Session: ident.SessionID(m.reign), Request: ident.RequestID(b.attempt),
		Epoch: m.record.Epoch, To: b.id, Offset: uint64(o.offset), Length: 1,
		Committed: ident.Seq(o.heal.slot), Generation: ident.Generation(o.heal.number),
	}, nil)
}

func (m *Machine) checkStored(o *operation, op *Op) {
	switch {
	case op.Err == nil:
	case errors.Is(op.Err, ErrBusy):
		o.heal.retry = true
	default:
		o.heal.unreadable = true
	}
	m.progress(o)
}

// verified takes a member's word on whether it can read the range.
func (m *Machine) verified(b *member, h *wire.Header) {
	o := m.inquiry(b, h)
	if o == nil || o.kind != kindScrub || o.heal.compares {
		return
	}
	switch h.Status {
	case wire.StatusBusy, wire.StatusStaleEpoch, wire.StatusNotPrimary:
		o.again |= b.bit
		return
	case wire.StatusCorruption, wire.StatusIO:
		o.heal.bad |= b.bit
	default: // it may be too old to know the question
	}
	o.pending &^= b.bit
	m.progress(o)
}

// compared takes the digest of a member's Extent. Its Epoch may be another: what reconcile has made equal is stamped
// anew at members only.
func (m *Machine) compared(b *member, h *wire.Header, p Payload) {
	o := m.inquiry(b, h)
	if o == nil || o.kind != kindScrub || !o.heal.compares {
		return
	}
	if h.Status == wire.StatusOK && h.Length == 1 && p != nil {
		m.compare(o, b, m.env.Bytes(p))
	}
	o.pending &^= b.bit
	m.progress(o)
}

func (m *Machine) compare(o *operation, b *member, digests []byte) {
	theirs, err := wire.DecodeDigests(digests, nil)
	if err != nil {
		return
	}
	there := wire.ExtentDigest{Index: m.scrub.extent}
	if len(theirs) > 0 {
		there = theirs[0]
	}
	if m.digestOf(m.scrub.extent).Digest != there.Digest {
		o.heal.bad |= b.bit
	}
	o.heal.epochs[bits.TrailingZeros8(uint8(b.bit))] = there.Epoch
}

// digestOf an Extent here; zero but for the index if there is none.
func (m *Machine) digestOf(extent uint32) wire.ExtentDigest {
	found := wire.ExtentDigest{Index: extent}
	m.env.Extents(extent, func(d wire.ExtentDigest) bool {
		if d.Index == extent {
			found = d
		}
		return false
	})
	return found
}

// checked is the end of a step: what is wrong is healed, first here and then elsewhere.
func (m *Machine) checked(o *operation) {
	h := o.heal
	offset, length, s := o.offset, o.length, &m.scrub
	m.finish(o)
	switch {
	case !h.compares:
		if h.unreadable && !m.hasLost(offset, int64(length)) {
			x := m.order.get()
			x.kind, x.internal, x.offset, x.length = kindHeal, true, offset, length
			m.order.insert(x)
		}
	case h.bad == 0:
		*s = scrub{}
		return
	case !s.doubtful:
		s.doubtful = true // a change may have been half accounted for somewhere
		return
	default:
		mine := m.epochOf(s.extent)
		m.each(h.bad, func(b *member) {
			there := h.epochs[bits.TrailingZeros8(uint8(b.bit))]
			m.find(Finding{
				Kind: Differs, Replica: b.id, From: m.self, Offset: offset, Length: length, Epochs: [2]ident.Epoch{there, mine},
			})
		})
		*s = scrub{}
	}
	m.each(h.bad, func(b *member) { m.healMember(b, offset, length) })
}
