package replication

import (
	"math/bits"
	"time"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/pace"
	"github.com/shale-storage/shale/storenode/replication/mutant"
	"github.com/shale-storage/shale/storenode/wire"
)

// mask is a set of members, by their place in Machine.members.
type mask uint8

// memberState is how a member stands to the reign of this Primary.
type memberState uint8

const (
	// memberOut follows nothing of ours.
	memberOut memberState = iota
	// memberAsked for its tail; it follows as soon as it answers.
	memberAsked
	// memberStarting was asked to join.
	memberStarting
	// memberFollowing gets every write.
	memberFollowing
)

// member is another Replica of the Record. Who is connected is known in every role, the rest has meaning only in a
// reign.
type member struct {
	id    ident.ReplicaID
	bit   mask
	state memberState
	// inSync by the Record in force; proposed to be: it must have all that is acknowledged.
	inSync, proposed bool
	// failed: it is to be evicted. Until the Record says so, it is needed like any other.
	failed bool
	// connected, or since when it is not, by the Machine's patience.
	connected bool
	since     time.Duration
	// lapsed is since when its lease is seen to be over; none while it holds.
	lapsed time.Duration
	// attempt names the present try to have it follow; asked is when, retry when the next may be made.
	attempt      uint64
	asked, retry time.Duration
	// askAgain: it was not able to answer, and is asked again at the next Tick.
	askAgain bool
	// told: it has the Record in force.
	told bool
	// leaving: its storenode is about to end. slow: it is left out for a while.
	leaving, slow bool
	// left is since when it is leaving, by the Machine's patience.
	left time.Duration

	// lastSeq, committed and powerLost are what it answered when asked for its tail.
	lastSeq, committed ident.Seq
	powerLost          bool
	// tries is how often it was asked for its tail anew.
	tries int

	join join
}

// none is no moment of the Machine's patience.
const none = time.Duration(-1)

func (m *Machine) member(id ident.ReplicaID) *member {
	for i := range m.members {
		if b := &m.members[i]; b.id == id && id != 0 {
			return b
		}
	}
	return nil
}

// each calls f for the members of a set.
func (m *Machine) each(set mask, f func(b *member)) {
	for set != 0 {
		i := bits.TrailingZeros8(uint8(set))
		set &^= 1 << i
		f(&m.members[i])
	}
}

// seat brings the members in line with the Record.
func (m *Machine) seat(r membership.Record) {
	for i := range m.members {
		if b := &m.members[i]; b.id != 0 && !r.Has(b.id) {
			m.release(b)
			*b = member{}
		}
	}
	for _, c := range r.Replicas {
		if c.ID == m.self || m.member(c.ID) != nil {
			continue
		}
		for i := range m.members {
			if m.members[i].id == 0 {
				m.members[i] = member{id: c.ID, bit: 1 << i, lapsed: none, since: m.patience}
				break
			}
		}
	}
	for i := range m.members {
		b := &m.members[i]
		b.inSync = b.id != 0 && r.IsInSync(b.id)
	}
}

// count works out the sets again after a member changed.
func (m *Machine) count() {
	m.need, m.ackers, m.targets, m.joinable, m.held = 0, 0, 0, false, 1
	for i := range m.members {
		b := &m.members[i]
		if b.id == 0 {
			continue
		}
		if b.inSync || b.proposed {
			m.need |= b.bit
		}
		if b.inSync || b.proposed || b.join.closing {
			m.ackers |= b.bit
		}
		m.joinable = m.joinable || !b.inSync
		if b.state == memberFollowing {
			m.targets |= b.bit
			if b.inSync {
				m.held++
			}
		}
	}
	m.servesUntil = 0
}

// fail gives up a member: one that is needed is evicted first, by the keeper of records; any other is dropped, as
// soon as the event at hand is dealt with, and may join again later.
func (m *Machine) fail(b *member) {
	switch {
	case m.powerLost && b.inSync && !b.powerLost:
		// It may be the only one that has all that was acknowledged: it is waited for, however long.
	case m.powerLost && m.broken && b.inSync && m.stage == stageAsking:
		// It is to be Primary, see sameLoss.
	case m.powerLost && b.inSync && m.stage == stageAsking && m.claim.look != lookOver && b.tries < maxTries:
		m.askAnew(b)
	case b.inSync || b.proposed:
		b.failed = true
	case b.state != memberOut:
		m.doomed |= b.bit
	}
}

// dropDoomed takes failed members that are not needed out of everything in flight.
func (m *Machine) dropDoomed() {
	doomed := m.doomed
	m.doomed = 0
	m.each(doomed, func(b *member) {
		if b.id != 0 && !b.inSync && !b.proposed {
			m.drop(b)
		}
	})
}

// drop takes a member that is not needed out of everything in flight.
func (m *Machine) drop(b *member) {
	m.release(b)
	b.retry = m.patience + m.c.Timing.Deadline
	switch {
	case b.slow:
		b.retry = m.patience + slowPause
	case b.join.short:
		b.retry = m.patience + shortPause
	}
	// Whatever it missed when it lost power, it will have when it is InSync again.
	b.failed, b.slow, b.powerLost, b.join = false, false, false, join{}
	m.count()
}

// release ends what waits for a member.
func (m *Machine) release(b *member) {
	b.state = memberOut
	m.count()
	var next *operation
	for o := m.order.first; o != nil; o = next {
		next = o.next
		o.pending &^= b.bit
		o.refused &^= b.bit
		o.again &^= b.bit
		m.progress(o)
	}
}

// serving reports whether clients may be answered now: the leases of all that are needed hold.
func (m *Machine) serving() bool {
	if m.now < m.servesUntil || mutant.Now == mutant.SkipPromise || mutant.Now == mutant.ServeExpired {
		return true
	}
	if m.disputed {
		return false
	}
	until := Instant(1<<63 - 1)
	m.each(m.need, func(b *member) {
		until = min(until, m.env.LeaseUntil(b.id))
	})
	m.servesUntil = until
	return m.now < until
}

// Connected tells that the storenode of a Replica can be reached, by a new connection; restarted says that it is
// another process than the last time it was reached.
func (m *Machine) Connected(now Instant, id ident.ReplicaID, restarted bool) {
	m.at(now)
	b := m.member(id)
	if b == nil {
		return
	}
	b.connected, b.told, b.leaving = true, false, false
	switch {
	case !restarted:
	case b.state == memberOut:
		b.retry = 0 // it is another process, that has not refused to join
	case b.state == memberFollowing && b.inSync && m.powerLost && m.stage == stageAsking &&
		(!b.powerLost || b.tries < maxTries || m.broken):
		b.powerLost, m.claim.handover = false, false // what it answered says nothing of what it has now
		m.askAnew(b)
	case b.state != memberAsked:
		m.fail(b)
	}
	m.reach(b)
	m.advance()
}

// Disconnected tells that what was sent to the storenode of a Replica and not answered is lost.
func (m *Machine) Disconnected(now Instant, id ident.ReplicaID) {
	m.at(now)
	if b := m.member(id); b != nil && b.connected {
		b.connected, b.since = false, m.patience
	}
	m.advance()
}

// reach tells a member all that it must know on a new connection, or in a new Epoch.
func (m *Machine) reach(b *member) {
	if !m.reigning() || !b.connected {
		return
	}
	m.tellRecord(b)
	switch b.state {
	case memberOut:
	case memberAsked:
		m.ask(b, wire.OpTail)
	case memberStarting:
		m.ask(b, wire.OpRebuildStart)
	case memberFollowing:
		for o := m.order.first; o != nil; o = o.next {
			if o.pending&^o.refused&b.bit != 0 {
				m.sendTo(o, b)
			}
		}
		if b.join.asked {
			m.askDigests(b)
		}
	}
}

func (m *Machine) tellRecord(b *member) {
	if b.told {
		return
	}
	payload := m.env.Encode(wire.AppendRecord(m.scratch[:0], m.record))
	if payload == nil {
		return // at the next Tick
	}
	b.told = true
	m.send(wire.Header{Opcode: wire.OpRecord, Epoch: m.record.Epoch, To: b.id}, payload)
}

// ask sends a question that begins the following of a member.
func (m *Machine) ask(b *member, opcode wire.Opcode) {
	if !b.told {
		m.tellRecord(b)
	}
	m.send(wire.Header{
		Opcode: opcode, Epoch: m.record.Epoch, Session: ident.SessionID(m.reign),
		Request: ident.RequestID(b.attempt), To: b.id, Generation: m.generation,
	}, nil)
}

// watch looks for members that were silent for too long; by the Machine's patience, so that a pause of this storenode
// itself is not taken for theirs.
func (m *Machine) watch() {
	deadline := m.c.Timing.Deadline
	for i := range m.members {
		b := &m.members[i]
		if b.id == 0 || b.failed {
			continue
		}
		engaged := b.inSync || b.proposed || b.state != memberOut
		waits := b.state == memberAsked || b.state == memberStarting
		switch {
		case !engaged:
		case !b.connected && m.patience-b.since > deadline:
			m.fail(b)
		case (waits || b.join.asked) && m.patience-b.asked > deadline:
			m.fail(b)
		case (b.inSync || b.proposed) && m.lapsedFor(b) > deadline/2:
			m.fail(b)
		}
	}
	var late mask
	for o := m.order.first; o != nil; o = o.next {
		if m.patience-o.sent > deadline {
			late |= o.pending &^ o.refused
		}
	}
	m.each(late, func(b *member) {
		if !b.failed {
			m.fail(b)
		}
	})
	m.listen()
}

// hesitation is for how long a Primary that hears nobody evicts nobody. It is likelier cut off itself than that all
// others are gone; they hear each other, tell so, and the operator promotes one of them, as long as they are InSync.
const hesitation = 4 * time.Second

// listen looks whether any other member of InSync is heard; of a single one it cannot be told who is cut off.
func (m *Machine) listen() {
	silent := 0
	for i := range m.members {
		b := &m.members[i]
		switch {
		case b.id == 0 || !b.inSync:
		case b.connected && m.env.LeaseUntil(b.id) > m.now:
			m.alone = 0
			return
		default:
			silent++
		}
	}
	switch {
	case silent < 2:
		m.alone = 0
	case m.alone == 0:
		m.alone = max(m.patience, 1)
	}
}

// hesitates reports whether this Primary evicts nobody for now, as it hears nobody.
func (m *Machine) hesitates() bool { return m.alone != 0 && m.patience-m.alone < hesitation }

// lapsedFor is how long the lease of a member was seen to be over.
func (m *Machine) lapsedFor(b *member) time.Duration {
	if m.env.LeaseUntil(b.id) > m.now {
		b.lapsed = none
		return 0
	}
	if b.lapsed == none {
		b.lapsed = m.patience
	}
	return m.patience - b.lapsed
}

const (
	// slowPause is how long a Replica that was too slow is left out, before it may join again.
	slowPause = time.Minute
	// paceMembers must be InSync, this Replica included, and more than minInSync: two copies are left when one leaves.
	paceMembers = 3
)

// paced reports whether the members can be compared: nobody is being brought in sync, which costs time.
func (m *Machine) paced() bool {
	return m.stage == stageServing && !m.joinable && m.held >= paceMembers && m.held > m.minInSync
}

// ended notes that one of those that an operation waits for has it: nil is this Replica.
func (m *Machine) ended(o *operation, b *member) {
	if o.begun == 0 || o.state != opRunning || !m.paced() {
		return
	}
	left, place := bits.OnesCount8(uint8(o.pending)), pace.Self
	if o.op != nil {
		left++
	}
	if b != nil {
		place = bits.TrailingZeros8(uint8(b.bit))
	}
	switch {
	case left == 1:
		o.lone = m.now
	case left == 0 && o.lone != 0:
		m.pace.Ended(place, time.Duration(m.now-o.begun), time.Duration(o.lone-o.begun))
	}
}

// watchPace evicts a member that is too slow; when it is this Replica, the Shard is handed over.
func (m *Machine) watchPace() {
	place := m.pace.Judge(m.patience)
	switch {
	case place == pace.None || !m.paced():
	case place < pace.Self:
		b := &m.members[place]
		if m.fail(b); b.failed {
			b.slow = true
			m.find(Finding{Kind: Slow, Replica: b.id})
		}
	case m.heir() != nil && !m.claim.handover:
		m.claim.handover = true
		m.find(Finding{Kind: Slow, Replica: m.self})
	}
}
