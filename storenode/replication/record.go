package replication

import (
	"errors"
	"fmt"
	"slices"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/replication/mutant"
	"github.com/shale-storage/shale/storenode/wire"
)

// ErrUnsound refuses a Record that contradicts itself.
var ErrUnsound = errors.New("record contradicts itself")

// ErrSetBack refuses a Record of an Epoch that had another one before: the keeper of records was set back, and has gone
// on from there. It is a case of ErrStaleRecord.
var ErrSetBack = fmt.Errorf("another record of this epoch is known: %w", ErrStaleRecord)

// debt is the promise to a former Primary, as this storenode answered its heartbeats: until then no other is served.
type debt struct {
	// to is 0 when nobody knows to whom.
	to    ident.ReplicaID
	until Instant
	// epoch of the Record that ended its reign.
	epoch ident.Epoch
}

// Adopt takes a Record that is in force. The one known already changes at most addresses; an older one, or another one
// of the same Epoch, is refused with ErrStaleRecord.
func (m *Machine) Adopt(now Instant, r membership.Record) error {
	m.at(now)
	if r.Epoch < m.record.Epoch {
		return fmt.Errorf("epoch %d after %d: %w", r.Epoch, m.record.Epoch, ErrStaleRecord)
	}
	if err := sound(r); err != nil {
		return err
	}
	if m.contradicts(r) {
		m.disputed, m.servesUntil = true, 0
		return fmt.Errorf("epoch %d: %w", r.Epoch, ErrSetBack)
	}
	if r.Epoch == m.record.Epoch {
		m.confirmed(r)
	} else {
		m.adopt(r)
	}
	m.advance()
	return nil
}

// sound reports what is wrong with a Record.
func sound(r membership.Record) error {
	bad := func(what string) error { return fmt.Errorf("epoch %d: %s: %w", r.Epoch, what, ErrUnsound) }
	if len(r.Replicas) > membership.MaxReplicas || len(r.InSync) > membership.MaxReplicas {
		return bad("too many replicas")
	}
	if r.Primary != 0 && !r.IsInSync(r.Primary) {
		return bad("primary is not in sync")
	}
	for _, id := range r.InSync {
		if !r.Has(id) {
			return bad("a replica in sync is none of the replicas")
		}
	}
	return nil
}

// contradicts reports whether it is another Record of our Epoch, which the keeper's compare-and-swap never lets happen.
func (m *Machine) contradicts(r membership.Record) bool {
	return r.Epoch == m.record.Epoch && (!slices.Equal(r.InSync, m.record.InSync) || r.Primary != m.record.Primary)
}

// confirmed takes the Record that is known as the one in force.
func (m *Machine) confirmed(r membership.Record) {
	m.record.Replicas = r.Replicas
	m.seat(m.record)
	if m.stage == stageIdle && r.Primary == m.self && r.Epoch > 0 {
		m.stage = stageRenewing
		m.oweVaguely()
	}
}

// adopt takes a newer Record, in whatever stage.
func (m *Machine) adopt(r membership.Record) {
	old := m.record
	m.record = membership.Record{
		Epoch: r.Epoch, Primary: r.Primary, InSync: slices.Clone(r.InSync), Replicas: slices.Clone(r.Replicas),
	}
	m.changed = m.record
	m.out.Record = &m.changed
	m.owe(old)
	m.former = old.Primary
	served := m.reigning() && r.Primary != m.self
	// With a gap somebody else may have begun a reign in between; it never served, but members may follow it.
	goesOn := m.reigning() && r.Primary == m.self && r.Epoch == old.Epoch+1
	if m.reigning() && !goesOn {
		m.stepDown()
	}
	m.proposal = proposal{}
	m.disputed, m.waits, m.stuck = false, none, false
	m.out.Propose = nil
	wasInSync := old.IsInSync(m.self)
	m.seat(m.record)
	for i := range m.members {
		m.members[i].told = false
	}
	switch {
	case goesOn:
		m.goOn()
	case r.Primary == m.self:
		m.unfollow()
		m.stage = stagePromised
	default:
		m.followOn(wasInSync)
	}
	if served {
		m.herald()
	}
}

// isAlone reports whether this Replica is the only one in sync.
func (m *Machine) isAlone(r membership.Record) bool {
	return len(r.InSync) == 1 && r.InSync[0] == m.self
}

// owe notes what was promised to the Primary that a Record has superseded.
func (m *Machine) owe(old membership.Record) {
	if old.Epoch == 0 && m.record.Epoch > 1 {
		m.vague = true
	}
	if m.record.Primary == m.self && m.vague {
		if m.record.Epoch == old.Epoch+1 && len(m.introduced) > 0 && slices.Equal(m.introduced, m.record.Replicas) {
			m.vague = false
			m.owed = append(m.owed, debt{until: m.acquainted, epoch: m.record.Epoch})
		}
		m.oweVaguely()
	}
	m.owing()
	p := old.Primary
	if p == 0 || p == m.self || p == m.record.Primary {
		return
	}
	m.owed = append(m.owed, debt{to: p, until: m.env.Promised(p).After(m.c.Timing.Grace), epoch: m.record.Epoch})
}

// isVague reports whether a former life may have promised something that still binds. It has not if it was the Primary
// of the newest Record and wrote in that Epoch: it did so only after all promises were over, and to promise anything
// to a later Primary it would have had to see a later Record.
func isVague(c *Config) bool {
	if c.Record.Epoch == 0 {
		return false
	}
	if c.Record.Primary != c.Self.Replica {
		return true
	}
	return !slices.ContainsFunc(c.Environment.Tail(nil), func(t wire.TailRecord) bool { return t.Epoch == c.Record.Epoch })
}

// Introduced tells that from now on no heartbeat of the other Replicas' storenodes is answered, at the addresses in the
// Record remembered, before they are told that Record. A former Primary that it superseded thus stops before anything
// is promised to it once more. If this Replica is named Primary by the very next Record, with the same Replicas, only
// what was promised before can bind it, besides the promise to the last Primary.
func (m *Machine) Introduced(now Instant) {
	m.at(now)
	m.introduced = slices.Clone(m.record.Replicas)
	m.acquainted = m.lastPromise().After(m.c.Timing.Grace)
}

// lastPromise to any of the other Replicas' storenodes, or to one that is forgotten.
func (m *Machine) lastPromise() Instant {
	last := m.env.Promised(0)
	for _, c := range m.record.Replicas {
		if c.ID != m.self {
			last = max(last, m.env.Promised(c.ID))
		}
	}
	return last
}

// oweVaguely takes it that any other Replica, of this Record or an earlier one, may serve under our promise.
func (m *Machine) oweVaguely() {
	if !m.vague {
		return
	}
	m.vague = false
	if slices.ContainsFunc(m.record.Replicas, func(c membership.Replica) bool { return c.ID != m.self }) {
		m.owed = append(m.owed, debt{until: m.lastPromise().After(m.c.Timing.Grace), epoch: m.record.Epoch})
	}
}

// owing reports whether a promise still binds.
func (m *Machine) owing() bool {
	m.owed = slices.DeleteFunc(m.owed, func(d debt) bool { return d.until <= m.now })
	return len(m.owed) > 0 && mutant.Now != mutant.SkipPromise
}

// toldRecord takes a Record from another Replica, or its answer to ours.
func (m *Machine) toldRecord(h *wire.Header, p Payload) {
	r, ok := m.take(p)
	if h.IsReply() {
		if ok && h.Status != wire.StatusOK {
			m.learn(r)
		}
		if h.Status == wire.StatusOK {
			m.quit(h)
		} else if b := m.member(h.From); b != nil {
			b.told = false // it may not have its Device yet
		}
		return
	}
	if ok {
		m.learn(r)
		m.quit(h)
	}
	answer := wire.Header{
		Opcode: wire.OpRecord, Flags: wire.FlagReply, Epoch: m.record.Epoch, To: h.From,
		Request: h.Request, Session: h.Session,
	}
	if ok && (r.Epoch < m.record.Epoch || m.contradicts(r)) {
		m.refuse(answer, wire.StatusStaleEpoch)
		return
	}
	m.send(answer, nil)
}

// quit ends the promise to a former Primary that says that it knows the Record which superseded it.
func (m *Machine) quit(h *wire.Header) {
	m.owed = slices.DeleteFunc(m.owed, func(d debt) bool { return d.to == h.From && d.epoch <= h.Epoch })
}

// take decodes a Record that came with a message, and releases it.
func (m *Machine) take(p Payload) (membership.Record, bool) {
	if p == nil {
		return membership.Record{}, false
	}
	r, err := wire.DecodeRecord(m.env.Bytes(p))
	p.Release()
	return r, err == nil
}

// learn adopts a Record if it is newer. One that contradicts ours tells that nothing can be built on either: nothing is
// served or proposed until a person has written a newer one.
func (m *Machine) learn(r membership.Record) {
	if m.contradicts(r) && sound(r) == nil {
		m.disputed, m.servesUntil = true, 0
	}
	if r.Epoch > m.record.Epoch && sound(r) == nil {
		m.adopt(r)
	}
}

// refuse answers with our own Record, so that the other side learns it.
func (m *Machine) refuse(h wire.Header, status wire.Status) {
	h.Status = status
	m.send(h, m.encodedRecord())
}

func (m *Machine) encodedRecord() Payload {
	m.scratch = wire.AppendRecord(m.scratch[:0], m.record)
	return m.env.Encode(m.scratch)
}
