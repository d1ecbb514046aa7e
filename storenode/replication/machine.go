package replication

import (
	"fmt"
	"time"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/invariant"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/pace"
	"github.com/shale-storage/shale/storenode/wire"
)

// stage is what the Machine is in the middle of; docs/replication.md draws how one leads to another.
type stage uint8

const (
	// stageIdle: part of no reign: created, restarted, evicted, or the Record names another Primary that has not called.
	stageIdle stage = iota + 1
	// stageFollowing the reign of another Replica, InSync.
	stageFollowing
	// stageJoining: following, and being brought in sync.
	stageJoining
	// stageRenewing: Primary by a Record that an earlier life of this Replica may have served under; a new Epoch comes
	// first.
	stageRenewing
	// stagePromised: Primary by the Record, while another may still serve under our promise, or the Record is not yet
	// remembered, or local Ops of before are in flight.
	stagePromised
	// stageAsking all InSync Replicas for their tails. The reign has begun.
	stageAsking
	// stageSettling: making them equal.
	stageSettling
	// stageServing clients, as long as the leases hold.
	stageServing
)

// Machine is one Replica.
type Machine struct {
	c    Config
	env  Environment
	self ident.ReplicaID

	// now is the newest reading of the clock. patience is time as far as this storenode was there to see it pass: it
	// advances at Ticks, by a heartbeat at most, and is what others are given to answer.
	now      Instant
	ticked   Instant
	patience time.Duration

	stage stage
	// record is the newest known, persisted the Epoch of the newest that the Replica remembers on its Device.
	record     membership.Record
	persisted  ident.Epoch
	generation ident.Generation
	// known is the highest Committed that this Replica was told, or knew as a Primary.
	known ident.Seq
	// powerLost: acknowledged writes may be missing here; until the Replica has served or was rebuilt.
	powerLost bool
	// broken: the local Device has failed. leaving: the storenode is about to end.
	broken, leaving bool
	// alone is since when no other member of InSync is heard, by the Machine's patience; 0 while one is.
	alone time.Duration
	// former is the Primary of the Record before.
	former ident.ReplicaID
	// waits is since when a claim waits for the Device here alone, by the Machine's patience, none if it does not; stuck:
	// that has taken too long.
	waits time.Duration
	stuck bool
	// disputed: another Replica has another Record of this Epoch.
	disputed bool
	// left is since when it is, by the Machine's patience.
	left time.Duration
	// healing are the operations that heal, fetches numbers their questions; lost are the Blocks nobody can read.
	healing [MaxHeals]*operation
	fetches uint64
	lost    []lostBlock
	scrub   scrub
	// owed are promises to former Primaries; vague: a former life may have made some that nobody remembers.
	owed  []debt
	vague bool
	// introduced are the Replicas that were told the Record from before, acquainted the end of what was promised before.
	introduced []membership.Replica
	acquainted Instant

	// reign is the Epoch in which the present reign of this Replica began, 0 without one.
	reign   ident.Epoch
	members [membership.MaxReplicas]member
	// need are InSync, or may be without our knowing; ackers must have what is acknowledged: those, and who is about to
	// be proposed. targets get what is written.
	need, ackers, targets mask
	// held is how many Replicas are in sync, minInSync how many must be for a change to be acknowledged; 0 until Require.
	held, minInSync int
	// doomed are joining members to be dropped when the event at hand is dealt with.
	doomed mask
	// joinable: some Replica is not InSync.
	joinable    bool
	servesUntil Instant
	attempts    uint64
	order       order
	sequence    sequence
	sessions    sessions
	proposal    proposal
	claim       claim
	pace        pace.Pace

	follow follow

	// inFlight are local Ops.
	inFlight int
	freeOps  *Op
	// out gathers what is Ready next, taken is what the driver has.
	out, taken Ready
	changed    membership.Record
	next       membership.Record
	scratch    []byte
	closed     bool
}

// opOwner is told of the end of an Op.
type opOwner interface {
	stored(m *Machine, op *Op)
}

// New makes a Machine that follows nobody yet.
func New(c Config) *Machine {
	m := &Machine{
		c: c, env: c.Environment, self: c.Self.Replica, stage: stageIdle,
		record: c.Record, persisted: c.Record.Epoch, generation: c.Generation,
		powerLost: c.Environment.PowerLost(), vague: isVague(&c),
	}
	m.seat(m.record)
	return m
}

// Step takes a message, with its Payload.
func (m *Machine) Step(now Instant, message *Message) {
	m.at(now)
	h, p := &message.Header, message.Payload
	switch {
	case message.Route != nil:
		m.request(message)
	case h.Opcode == wire.OpRecord:
		m.toldRecord(h, p)
	case h.Opcode == wire.OpYield:
		m.yield(message)
	case h.IsReply():
		m.reply(h, p)
	default:
		m.replicated(h, p)
	}
	m.advance()
}

// Stored tells the end of an Op; its Err and, for a Read, its Payload are set.
func (m *Machine) Stored(now Instant, op *Op) {
	m.at(now)
	m.inFlight--
	if m.inFlight < 0 { // a Check's arguments would be allocated each time
		invariant.Check(false, "replica %s: an operation was stored twice", m.c.Self)
	}
	if op.owner != nil {
		op.owner.stored(m, op)
	}
	if op.Payload != nil {
		op.Payload.Release()
	}
	*op = Op{Slot: op.Slot, next: m.freeOps}
	m.freeOps = op
	m.advance()
}

// Persisted tells that the Replica remembers the Record of that Epoch.
func (m *Machine) Persisted(now Instant, epoch ident.Epoch, err error) {
	m.at(now)
	if err != nil {
		m.broken = true
	} else {
		m.persisted = max(m.persisted, epoch)
		// It takes changes. What it failed to write as the Primary is over with the reign, and was made good before the
		// Replica came in sync again. A Device that has failed for good fails at this too.
		m.broken = m.broken && m.reigning()
	}
	m.advance()
}

// Fence refuses clients of lower generations from now on.
func (m *Machine) Fence(now Instant, g ident.Generation) {
	m.at(now)
	m.raise(g)
}

func (m *Machine) raise(g ident.Generation) {
	if g > m.generation {
		m.generation, m.out.Generation = g, g
	}
}

// Tick lets time pass; called every Timing.Heartbeat / 4 or so while Busy.
func (m *Machine) Tick(now Instant) {
	m.at(now)
	m.patience += min(max(time.Duration(now-m.ticked), 0), m.c.Timing.Heartbeat)
	m.ticked = now
	m.watchClaim()
	if m.reigning() {
		m.watch()
		m.again()
		m.watchDevice()
		m.watchPace()
		m.scrub.rested = true
	}
	if m.proposal.open && m.patience-m.proposal.at > m.c.Timing.Deadline {
		m.proposal.open = false // it may still be decided; what it proposed stays needed until then
	}
	m.advance()
}

// Busy reports whether time matters: something is in flight, waited for or out of sync.
func (m *Machine) Busy() bool {
	if m.closed {
		return false
	}
	switch m.stage {
	case stageIdle, stageFollowing, stageJoining:
		return m.follow.unanswered
	case stageRenewing, stagePromised, stageAsking, stageSettling:
		return true
	case stageServing:
	}
	if m.order.first != nil || m.scrub.active || m.proposal.open || m.broken {
		return true
	}
	for i := range m.members {
		b := &m.members[i]
		if b.id != 0 && (!b.inSync || !b.connected || b.failed || !b.told || b.lapsed != none) {
			return true
		}
	}
	return false
}

// advance does what has become possible, until nothing more is.
func (m *Machine) advance() {
	if m.closed {
		return
	}
	m.followed()
	for m.doomed != 0 {
		m.dropDoomed()
	}
	m.claimOn()
	if m.stage == stageServing && m.joinable {
		m.rebuild()
	}
	if m.scrub.active {
		m.scrubOn()
	}
	m.begin()
	m.propose()
}

// at notes the time; it never goes back.
func (m *Machine) at(now Instant) { m.now = max(m.now, now) }

func (m *Machine) reigning() bool { return m.reign != 0 }

// Ready is what is to be done, and whether there is anything. Done ends it.
func (m *Machine) Ready() (*Ready, bool) {
	if m.out.Record == nil && m.out.Generation == 0 && !m.out.Sound && len(m.out.Stores) == 0 && len(m.out.Sends) == 0 &&
		m.out.Propose == nil && len(m.out.Findings) == 0 {
		return nil, false
	}
	m.out, m.taken = m.taken, m.out
	return &m.taken, true
}

// Done says that everything in Ready was begun.
func (m *Machine) Done() {
	clear(m.taken.Stores)
	clear(m.taken.Sends)
	m.taken = Ready{Stores: m.taken.Stores[:0], Sends: m.taken.Sends[:0], Findings: m.taken.Findings[:0]}
}

// store begins a local Op.
func (m *Machine) store(owner opOwner, op Op) *Op {
	x := m.freeOps
	if x == nil {
		x = &Op{}
	}
	m.freeOps = x.next
	slot := x.Slot
	*x = op
	x.Slot, x.owner, x.begun = slot, owner, m.patience
	if x.Payload != nil {
		x.Payload.Retain()
	}
	m.inFlight++
	m.out.Stores = append(m.out.Stores, x)
	return x
}

// send queues a message; its Payload goes with it.
func (m *Machine) send(h wire.Header, p Payload) {
	h.Shard, h.From = m.c.Self.Shard, m.self
	if p != nil && h.PayloadLength == 0 {
		h.PayloadLength = uint32(len(m.env.Bytes(p)))
	}
	m.out.Sends = append(m.out.Sends, Message{Header: h, Payload: p})
}

// Record is the newest known.
func (m *Machine) Record() membership.Record { return m.record }

// Close drops everything, releasing what it holds; Ops that were Ready are still to be Stored.
func (m *Machine) Close() {
	if m.closed {
		return
	}
	m.abandon()
	m.unfollow()
	m.closed, m.stage = true, stageIdle
	for i := range m.out.Sends {
		if p := m.out.Sends[i].Payload; p != nil {
			p.Release()
		}
	}
	for _, op := range m.out.Stores { // nobody has seen them yet
		if op.Payload != nil {
			op.Payload.Release()
		}
		m.inFlight--
	}
	m.out.Sends, m.out.Stores, m.out.Record, m.out.Propose = m.out.Sends[:0], m.out.Stores[:0], nil, nil
}

// Status is what people are shown.
func (m *Machine) Status() Status {
	s := Status{Record: m.record, Progress: Whole, PowerLost: m.powerLost, Disputed: m.disputed}
	if m.disputed {
		s.Role, s.Message = RoleIdle, "Another Replica has another Record of this Epoch: was the API server restored from a "+
			"backup? See docs/operate/restored-api-server.md"
		return s
	}
	switch m.stage {
	case stageIdle:
		s.Role, s.Message = RoleIdle, "Waits for the Primary"
	case stageFollowing:
		s.Role = RoleBackup
	case stageJoining:
		s.Role, s.Progress, s.Message = RoleJoining, m.follow.progress, "Is compared with the Primary"
	case stageRenewing:
		s.Role, s.Message = RoleClaiming, "Waits for a new Epoch after a restart"
	case stagePromised:
		s.Role, s.Message = RoleClaiming, "Waits until the promise to the former Primary is over"
	case stageAsking:
		s.Role, s.Message = RoleClaiming, m.awaited()
	case stageSettling:
		s.Role, s.Message = RoleClaiming, "Makes the Replicas equal"
	case stageServing:
		s.Role, s.Progress, s.Lost = RolePrimary, m.worst(), len(m.lost)
		switch {
		case m.broken:
			s.Message = "The Device has failed"
		case !m.serving():
			s.Role, s.Message = RoleClaiming, "Waits for the leases of the other Replicas"
		case m.proposal.open:
			s.Message = "Waits for the decision about a new Record"
		case m.lacks():
			s.Message = m.shortageText()
		case m.leaving:
			s.Message = "The storenode ends, and no other Replica can take over"
		}
	}
	return s
}

// shortageText says why changes are not acknowledged.
func (m *Machine) shortageText() string {
	if m.minInSync == 0 {
		return "Has not been told how many Replicas must be in sync; changes wait"
	}
	const text = "%d Replicas are in sync, and the Volume asks for %d (minInSync); changes wait"
	return fmt.Sprintf(text, m.held, m.minInSync)
}
