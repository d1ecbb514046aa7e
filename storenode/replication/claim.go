package replication

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/replication/mutant"
	"github.com/shale-storage/shale/storenode/wire"
)

const (
	// settleCopies bounds the ranges that are made equal at a time.
	settleCopies = 8
	// maxTries bounds how often a member is asked anew that is gone again while torn Blocks are looked for.
	maxTries = 3
)

// lifeShift leaves so many bits of an attempt to the tries of one life.
const lifeShift = 24

// claim is the way from the Record to serving.
type claim struct {
	// tails of the other members, own that of this Replica.
	tails, own []wire.TailRecord
	digests    []wire.ExtentDigest
	// spans are the ranges that may differ, next the first that was not begun; copies are in flight.
	spans        []span
	next, copies int
	flushing     bool
	flushed      bool
	handover     bool
	// look is for torn Blocks; looks are in flight.
	look  lookState
	looks int
	// base is the highest Seq of before this reign.
	base ident.Seq
	// wished to be Primary by a client that does not reach this one; 0 if nobody is.
	wished ident.ReplicaID
	// served is since when, by the Machine's patience.
	served time.Duration
}

// lookState is how far torn Blocks were looked for.
type lookState uint8

const (
	lookNot lookState = iota
	lookNow
	lookOver
)

// span is a range of the Shard within one Extent, in bytes.
type span struct{ from, to int64 }

// claimOn goes on with the claim as far as it can.
func (m *Machine) claimOn() {
	// Alone, it is the only one that may claim this Record, and what can be read is read, though the Device has failed.
	remembers := m.persisted >= m.record.Epoch || m.broken && m.isAlone(m.record)
	if m.stage == stagePromised && !m.owing() && remembers && m.inFlight == 0 {
		m.reignBegins()
	}
	if m.stage == stageAsking && !m.leavesToOther() && m.allAnswered() && m.whole() && m.sameLoss() {
		m.compareTails()
	}
	if m.stage == stageSettling {
		m.settle()
	}
}

// reignBegins asks all InSync Replicas for their tails.
func (m *Machine) reignBegins() {
	m.reign, m.stage, m.attempts = m.record.Epoch, stageAsking, m.c.Life<<lifeShift
	m.claim = claim{tails: m.claim.tails[:0], own: m.claim.own[:0], digests: m.claim.digests[:0], spans: m.claim.spans[:0]}
	m.sessions.forget()
	m.doomed, m.lost, m.alone = 0, m.lost[:0], 0
	m.pace.Begin(m.patience)
	for i := range m.members {
		b := &m.members[i]
		*b = member{
			id: b.id, bit: b.bit, inSync: b.inSync, connected: b.connected, leaving: b.leaving, left: b.left,
			attempt: m.attempts, since: m.patience, lapsed: none, asked: m.patience,
		}
		if b.inSync {
			b.state = memberAsked
		}
	}
	m.count()
	for i := range m.members {
		m.reach(&m.members[i])
	}
}

// goOn is a new Epoch of the same reign.
func (m *Machine) goOn() {
	m.claim.handover, m.claim.wished = false, 0
	m.lost = m.lost[:0] // a new member may have kept what the others lost
	for i := range m.members {
		b := &m.members[i]
		if b.id == 0 {
			continue
		}
		b.proposed = false
		switch {
		case b.inSync && b.state != memberFollowing && b.state != memberAsked:
			b.failed = true // somebody else put it there; it must be evicted to be brought in sync
		case b.inSync:
			b.join = join{}
		case b.state != memberOut && (!b.join.active || b.failed):
			m.drop(b)
		case b.state == memberOut:
			b.failed = false
		}
	}
	m.count()
	for i := range m.members {
		m.reach(&m.members[i])
	}
	var next *operation
	for o := m.order.first; o != nil; o = next {
		next = o.next
		m.progress(o)
	}
	m.turnAway()
}

// stepDown ends the reign: clients are sent to the next Primary, local Ops are left to end by themselves.
func (m *Machine) stepDown() {
	if m.stage == stageServing {
		m.known = max(m.known, m.sequence.floor)
	}
	m.abandon()
}

// abandon ends all operations; none is acknowledged any more.
func (m *Machine) abandon() {
	var next *operation
	for o := m.order.first; o != nil; o = next {
		next = o.next
		if o.op != nil {
			o.op.owner = nil
		}
		m.answer(o, wire.StatusNotPrimary, nil)
		o.letGo()
		if o.kind == kindCopy && o.steps.joiner != nil && !o.steps.mends {
			m.env.ReleaseRebuild()
		}
	}
	m.order, m.healing, m.lost, m.scrub = order{}, [MaxHeals]*operation{}, m.lost[:0], scrub{}
	m.sessions.forget()
	m.reign, m.claim.handover, m.claim.wished = 0, false, 0
	for i := range m.members {
		b := &m.members[i]
		b.state, b.failed, b.proposed, b.join = memberOut, false, false, join{}
	}
	m.count()
}

// tailAnswered takes the tail of a member, which follows from now on.
func (m *Machine) tailAnswered(b *member, h *wire.Header, p Payload) {
	if b.state != memberAsked {
		return
	}
	if h.Status == wire.StatusIO {
		m.fail(b)
		b.askAgain = !b.failed // it is waited for
		return
	}
	if h.Status != wire.StatusOK || p == nil {
		b.askAgain = true // it may not have its Device yet; the deadline ends this
		return
	}
	tails, err := wire.DecodeTail(m.env.Bytes(p), m.claim.tails)
	if err != nil {
		m.fail(b)
		return
	}
	m.claim.tails = tails
	b.lastSeq, b.committed, b.powerLost = h.Seq, h.Committed, h.Flags&wire.FlagPowerLost != 0
	b.state = memberFollowing
	m.raise(h.Generation)
	m.count()
}

func (m *Machine) allAnswered() bool {
	for i := range m.members {
		if b := &m.members[i]; b.id != 0 && b.inSync && (b.state != memberFollowing || b.failed) {
			return false
		}
	}
	return true
}

// awaited says what a claim waits for, and why that may take without limit.
func (m *Machine) awaited() string {
	var names []string
	for i := range m.members {
		if b := &m.members[i]; b.id != 0 && b.inSync && (b.state != memberFollowing || !b.connected) {
			name := fmt.Sprint(b.id)
			if !b.connected {
				name += " (its storenode cannot be reached)"
			}
			names = append(names, name)
		}
	}
	switch {
	case len(names) > 0:
	case m.claim.handover || m.broken:
		return "Waits for a Record with another Replica as Primary"
	case m.claim.look == lookOver:
		return "Waits for a Record without the Replicas that lost power too"
	default:
		return "Looks for Blocks that were torn when power was lost"
	}
	text := "Waits for the recent writes of Replica " + strings.Join(names, ", ")
	if m.powerLost {
		text += "; power was lost here, so they may be the only copy, and are waited for without limit"
	}
	return text
}

// leavesToOther reports whether power was lost here and another member has answered that did not lose it: where power
// was lost, writes may be missing of which no tail tells, so that one is to be Primary.
func (m *Machine) leavesToOther() bool {
	m.each(m.need&m.targets, func(b *member) {
		m.claim.handover = m.claim.handover || m.powerLost && !b.powerLost
	})
	return m.claim.handover
}

// whole looks for Blocks that were torn when all lost power, before those leave that may have them whole, as they were
// flushed, or newer. It looks at what recovery found, and at what any member wrote last: of a torn write the record may
// be lost. It reports whether that is done.
func (m *Machine) whole() bool {
	c := &m.claim
	switch c.look {
	case lookOver:
		return true
	case lookNot:
		c.look, c.next, c.spans = lookNow, 0, m.doubtful(c.spans[:0])
	case lookNow:
	}
	for c.next < len(c.spans) && c.looks < MaxHeals && !m.yields() {
		s := c.spans[c.next]
		if c.next++; !m.holds(s.from, int(s.to-s.from)) {
			continue
		}
		o := m.order.get()
		o.kind, o.internal, o.offset, o.length = kindHeal, true, s.from, int(s.to-s.from)
		o.heal.claims = true
		c.looks++
		m.order.insert(o)
	}
	if c.looks > 0 || c.next < len(c.spans) || m.yields() {
		return false
	}
	c.look, c.next, c.spans = lookOver, 0, c.spans[:0]
	return true
}

// doubtful are the ranges that may be torn; none if somebody did not lose power.
func (m *Machine) doubtful(into []span) []span {
	lost := false
	m.each(m.need, func(b *member) { lost = lost || b.powerLost })
	if !m.powerLost || !lost {
		return into
	}
	m.env.Doubtful(func(offset, length int64) { into = append(into, span{offset, offset + length}) })
	m.claim.own = m.env.Tail(m.claim.own[:0])
	into = m.spans(into, m.claim.own, 0)
	return merge(m.spans(into, m.claim.tails, 0))
}

// askAnew waits for a member that is gone while torn Blocks are looked for: it may have them whole. Then all is looked
// through once more.
func (m *Machine) askAnew(b *member) {
	b.tries++
	m.release(b)
	m.claim.look = lookNot
	b.state, b.asked, b.lapsed = memberAsked, m.patience, none
	if !b.connected {
		b.since = m.patience
	}
	m.count()
	m.reach(b)
}

// sameLoss evicts the members that lost power; if this one did too, all did, and it goes on alone. It reports whether
// all that are left may go on together.
func (m *Machine) sameLoss() bool {
	if m.broken && m.powerLost && m.need != 0 {
		return false // as long as there is another one, that is to be Primary, whether it is reached or not
	}
	together := true
	m.each(m.need, func(b *member) {
		if b.powerLost {
			b.failed, together = true, false
		}
	})
	return together
}

// compareTails finds the ranges that may differ: those of writes above what is known to be everywhere. The window
// bounds how far that can be behind.
func (m *Machine) compareTails() {
	last, committed := m.env.LastSeq(), m.known
	m.each(m.targets, func(b *member) {
		last, committed = max(last, b.lastSeq), max(committed, b.committed)
	})
	floor := committed
	if last > MaxWindow {
		floor = max(floor, last-MaxWindow)
	}
	// Flushes and copies take numbers that no tail has, so Committed may be beyond all tails.
	m.claim.base = max(last, committed)
	m.sequence.begin(m.claim.base)
	m.stage = stageSettling
	if m.targets == 0 || mutant.Now == mutant.SkipReconcile {
		m.claim.flushed = true
		return
	}
	m.claim.own = m.env.Tail(m.claim.own[:0])
	m.claim.spans = m.spans(m.claim.spans[:0], m.claim.own, floor)
	m.claim.spans = m.spans(m.claim.spans, m.claim.tails, floor)
	m.claim.spans = merge(m.claim.spans)
	m.claim.flushed = len(m.claim.spans) == 0
}

// spans cuts the ranges of records above floor at Extents.
func (m *Machine) spans(into []span, tail []wire.TailRecord, floor ident.Seq) []span {
	for _, t := range tail {
		if t.Seq <= floor || t.Offset > uint64(m.c.Size) {
			continue
		}
		from, to := int64(t.Offset), min(int64(t.Offset)+int64(t.Length), m.c.Size)
		for from < to {
			end := min(to, (from/extentSize+1)*extentSize)
			into = append(into, span{from, end})
			from = end
		}
	}
	return into
}

// merge sorts spans and joins those that overlap or touch within an Extent.
func merge(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	kept := spans[:0]
	for _, s := range spans {
		if n := len(kept); n > 0 && s.from <= kept[n-1].to && s.from/extentSize == kept[n-1].from/extentSize {
			kept[n-1].to = max(kept[n-1].to, s.to)
			continue
		}
		kept = append(kept, s)
	}
	return kept
}

// settle makes the ranges equal on all members to what is here, flushes, and begins to serve.
func (m *Machine) settle() {
	c := &m.claim
	for c.next < len(c.spans) && c.copies < settleCopies {
		s := c.spans[c.next]
		c.next++
		c.copies++
		m.order.insert(m.newCopy(s.from, int(s.to-s.from), nil))
	}
	switch {
	case c.next < len(c.spans) || c.copies > 0:
	case !c.flushing && !c.flushed:
		c.flushing = true
		o := m.order.get()
		o.kind, o.internal = kindFlush, true
		m.order.insert(o)
	case c.flushed:
		m.stage, c.served = stageServing, m.patience
		m.sound()
	}
}

// sound: nothing is missing here any more, or whatever was is given up by all.
func (m *Machine) sound() {
	if m.powerLost {
		m.powerLost, m.out.Sound = false, true
	}
}

// mayLead reports whether a member may be Primary: it has everything, and answers.
func (b *member) mayLead() bool {
	return b.inSync && !b.failed && b.state == memberFollowing && b.connected
}

// yields reports whether the Device here has failed and another Replica can do better. Without one this Replica goes on
// as well as it can, and brings another in sync, that can.
func (m *Machine) yields() bool { return m.broken && m.heir() != nil }

// heir is another member that may be Primary in place of this Replica, nil if there is none. Who lost power is none for
// a Replica that did not: what is here may be the only copy.
func (m *Machine) heir() *member {
	var found *member
	for i := range m.members {
		b := &m.members[i]
		if b.id == 0 || !b.mayLead() || b.powerLost && !m.powerLost {
			continue
		}
		switch {
		case found == nil, found.powerLost && !b.powerLost:
			found = b
		case found.powerLost == b.powerLost && found.leaving && !b.leaving:
			found = b
		}
	}
	return found
}
