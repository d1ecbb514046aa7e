package replication

import (
	"time"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/wire"
)

// Leave begins the controlled hand-over: the storenode of this Replica is about to end. A Primary that serves goes on
// serving, proposes another member of InSync in its place and itself out of InSync, and steps down when that Record is
// in force; a Backup is taken out by its Primary, whose storenode has to be told (Leaves). Nothing joins here any more.
// It cannot be taken back: only another process brings the Replica in sync again.
func (m *Machine) Leave(now Instant) {
	m.at(now)
	if !m.leaving {
		m.leaving, m.left = true, m.patience
	}
	m.advance()
}

// Leaves tells that the storenode of another Replica, as it is connected now, is about to end. It stays needed until a
// Record without it is in force, and answers until then, so that its end costs no write any time.
func (m *Machine) Leaves(now Instant, id ident.ReplicaID) {
	m.at(now)
	if b := m.member(id); b != nil && b.connected {
		if !b.leaving {
			b.leaving, b.left = true, m.patience
		}
	}
	m.advance()
}

// Held reports whether the end of this Replica's storenode now would cost more than later: the Replica is InSync, and
// another one has its data or will have soon.
func (m *Machine) Held() bool {
	if m.closed || m.broken || !m.record.IsInSync(m.self) {
		return false
	}
	if len(m.record.InSync) > 1 {
		return true
	}
	for i := range m.members { // the only one: worth waiting for who is being brought in sync
		if b := &m.members[i]; b.id != 0 && b.connected && !b.leaving && !b.failed && b.state != memberOut {
			return true
		}
	}
	return false
}

// retires reports whether this Replica may leave a Record: not before all members are equal, as until then it may be
// the only one that has something.
func (m *Machine) retires() bool { return m.leaving && m.stage == stageServing && m.mayGo(m.left) }

// excused reports whether a member that leaves may be taken out of InSync; by the same reason only while serving.
func (m *Machine) excused(b *member) bool {
	return b.leaving && m.stage == stageServing && m.mayGo(b.left)
}

// holdTime is how long a storenode that ends is kept because writes would wait without it.
const holdTime = HandOverTime / 2

// mayGo reports whether one of InSync may leave that has wanted to since then. Where no more than minInSync are, no
// write would be acknowledged without it, so it stays until another is brought in sync: storenodes that are restarted
// one by one wait for each other. If that takes too long, it will not be soon.
func (m *Machine) mayGo(since time.Duration) bool {
	return m.held > m.minInSync || !m.joinable || m.patience-since > holdTime
}

// herald tells the next Primary that this one has stepped down, so that its reign begins at once.
func (m *Machine) herald() {
	if b := m.member(m.record.Primary); b != nil && b.connected {
		m.tellRecord(b)
	}
}

// HandOverTime is how long a storenode that ends waits at most until its Shards are served elsewhere. Rounds of the
// keeper of records take milliseconds; what takes longer is the end of a Rebuild without which nobody could take over.
const HandOverTime = 20 * time.Second

// yieldPause is how long a Primary serves at least before it yields, so that two clients which reach different
// Replicas do not send a Shard to and fro all the time.
const yieldPause = 5 * time.Second

// Plead tells that a client cannot reach the Primary of that Epoch, and reaches this Replica. Storenodes hear that
// Primary, so nobody would replace it. It is asked to let this Replica be Primary.
func (m *Machine) Plead(now Instant, epoch ident.Epoch) {
	m.at(now)
	if m.stage == stageFollowing && epoch == m.record.Epoch && m.record.IsInSync(m.self) && !m.leaving {
		m.send(wire.Header{Opcode: wire.OpYield, Epoch: epoch, To: m.record.Primary}, nil)
	}
	m.advance()
}

// yield takes the plea of a member. This Replica stays InSync, unless it has other reasons to leave.
func (m *Machine) yield(message *Message) {
	if message.Payload != nil {
		message.Payload.Release()
	}
	b := m.member(message.From)
	if b == nil || !b.mayLead() || b.leaving || message.Epoch != m.record.Epoch ||
		m.stage != stageServing || m.claim.handover || m.patience-m.claim.served < yieldPause {
		return
	}
	m.claim.handover, m.claim.wished = true, b.id
	m.find(Finding{Kind: Yielded, Replica: m.self, From: b.id})
}

// stays reports whether a Primary that hands over remains InSync.
func (m *Machine) stays() bool { return m.claim.wished != 0 && !m.broken && !m.leaving }

const (
	// stuckDeadlines is after how many deadlines of a member the Primary's own Device is taken for stuck.
	stuckDeadlines = 2
	// stuckBefore is after how long it is while torn Blocks are looked for: whole ones may be here only.
	stuckBefore = time.Minute
)

// watchClaim notices when the Device here does not let a claim begin: it hangs with what was asked of it before, or
// does not remember the Record. Heartbeats are answered meanwhile, so nobody else would notice.
func (m *Machine) watchClaim() {
	if m.stage != stagePromised || m.owing() || m.persisted >= m.record.Epoch && m.inFlight == 0 {
		m.waits, m.stuck = none, false
		return
	}
	if m.waits == none {
		m.waits = m.patience
	}
	m.stuck = m.patience-m.waits > stuckDeadlines*m.c.Timing.Deadline
}

// watchDevice hands over when the Device here does not answer: what clients wait for would wait with it. A member that
// is in the same trouble is evicted, as it does not acknowledge.
func (m *Machine) watchDevice() {
	if m.broken || m.claim.handover || m.heir() == nil {
		return
	}
	limit := stuckDeadlines * m.c.Timing.Deadline
	if m.stage == stageAsking {
		limit = stuckBefore
	}
	for o := m.order.first; o != nil; o = o.next {
		if o.op != nil && m.patience-o.op.begun > limit {
			m.claim.handover = true
			m.find(Finding{Kind: Stuck, Replica: m.self, Offset: o.offset, Length: o.length})
			return
		}
	}
}
