package replication

import (
	"slices"
	"time"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/replication/mutant"
)

// proposal is the next Record that this Replica has asked for. While it is open it may be in force already without our
// knowing: whoever was proposed to be InSync counts as needed, whoever was to be evicted still does.
type proposal struct {
	open bool
	// at is when it was made, by the Machine's patience.
	at time.Duration
}

// propose asks for another Record if the one in force is not what is wanted.
func (m *Machine) propose() {
	if m.proposal.open || m.closed {
		return
	}
	next, wanted := m.wanted()
	if !wanted {
		return
	}
	if mutant.Now == mutant.SkipCAS && m.stage == stageServing && next.Primary == m.self {
		m.evictUnasked()
		return
	}
	m.next = next
	m.out.Propose = &m.next
	m.proposal = proposal{open: true, at: m.patience}
	for i := range m.members {
		b := &m.members[i]
		b.proposed = b.proposed || b.id != 0 && !b.inSync && next.IsInSync(b.id)
	}
	m.count()
}

// wanted is the Record that this Replica would rather have.
func (m *Machine) wanted() (membership.Record, bool) {
	r := m.record
	next := membership.Record{Epoch: r.Epoch + 1, Primary: m.self, Replicas: r.Replicas}
	switch {
	case m.disputed:
		return next, false
	case m.broken && m.stage == stageRenewing, (m.broken || m.stuck) && m.stage == stagePromised:
		return m.passOn(next)
	case m.stage == stageRenewing:
		next.InSync = slices.Clone(r.InSync)
		return next, true
	case !m.reigning():
		return next, false
	}
	forced := m.broken || m.claim.handover
	if forced || m.retires() {
		heir := m.heir()
		if b := m.member(m.claim.wished); b != nil && b.mayLead() {
			heir = b
		}
		if heir != nil && (forced || !heir.leaving) {
			next.Primary = heir.id
		}
	}
	if next.Primary == m.self && (!m.discontent() || m.hesitates()) {
		return next, false
	}
	for _, c := range r.Replicas {
		if c.ID == next.Primary || c.ID == m.self && m.stays() || c.ID != m.self && m.belongs(c.ID, next.Primary != m.self) {
			next.InSync = append(next.InSync, c.ID)
		}
	}
	return next, true
}

// passOn hands a Shard over that was never served from here, to the next other member of InSync, so that it comes
// round. Not back to where it was, at once: that one may be in the same trouble, and Epochs would fly by. Whether who
// gets it lost power is not known here; so unless this Replica did, it stays InSync, to be waited for or evicted by
// those who know.
func (m *Machine) passOn(next membership.Record) (membership.Record, bool) {
	next.Primary = 0
	all := m.record.InSync
	own := slices.Index(all, m.self)
	for i := range all {
		b := m.member(all[(own+1+i)%len(all)])
		if b != nil && b.connected && (b.id != m.former || m.stuck || m.powerLost) {
			next.Primary = b.id
			break
		}
	}
	for _, id := range all {
		if id != m.self || !m.powerLost {
			next.InSync = append(next.InSync, id)
		}
	}
	return next, next.Primary != 0
}

// discontent reports whether a member is to be evicted or added. It is asked after each event, so it makes nothing.
func (m *Machine) discontent() bool {
	for i := range m.members {
		b := &m.members[i]
		if b.id != 0 && (b.inSync && (b.failed || m.excused(b)) || !b.inSync && m.ready(b)) {
			return true
		}
	}
	return false
}

// belongs reports whether a member shall be InSync.
func (m *Machine) belongs(id ident.ReplicaID, leaves bool) bool {
	b := m.member(id)
	switch {
	case b == nil || b.failed || m.excused(b):
		return false
	case b.inSync:
		return true
	}
	return !leaves && m.ready(b)
}

// evictUnasked breaks the rule that the Record is changed first.
func (m *Machine) evictUnasked() {
	for i := range m.members {
		if b := &m.members[i]; b.id != 0 && b.inSync && b.failed {
			b.inSync = false
			m.drop(b)
		}
	}
	m.servesUntil = 0
}
