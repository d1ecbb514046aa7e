package replication

import (
	"time"

	"github.com/shale-storage/shale/storenode/ident"
)

// Leave begins the controlled hand-over: the storenode of this Replica is about to end. A Primary that serves goes on
// serving, proposes another member of InSync in its place and itself out of InSync, and steps down when that Record is
// in force; a Backup is taken out by its Primary, whose storenode has to be told (Leaves). Nothing joins here any more.
// It cannot be taken back: only another process brings the Replica in sync again.
func (m *Machine) Leave(now Instant) {
	m.at(now)
	m.leaving = true
	m.advance()
}

// Leaves tells that the storenode of another Replica, as it is connected now, is about to end. It stays needed until a
// Record without it is in force, and answers until then, so that its end costs no write any time.
func (m *Machine) Leaves(now Instant, id ident.ReplicaID) {
	m.at(now)
	if b := m.member(id); b != nil && b.connected {
		b.leaving = true
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
func (m *Machine) retires() bool { return m.leaving && m.stage == stageServing }

// excused reports whether a member that leaves may be taken out of InSync; by the same reason only while serving.
func (m *Machine) excused(b *member) bool { return b.leaving && m.stage == stageServing }

// herald tells the next Primary that this one has stepped down, so that its reign begins at once.
func (m *Machine) herald() {
	if b := m.member(m.record.Primary); b != nil && b.connected {
		m.tellRecord(b)
	}
}

// HandOverTime is how long a storenode that ends waits at most until its Shards are served elsewhere. Rounds of the
// keeper of records take milliseconds; what takes longer is the end of a Rebuild without which nobody could take over.
const HandOverTime = 20 * time.Second
