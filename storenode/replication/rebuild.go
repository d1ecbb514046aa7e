package replication

import (
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/replication/mutant"
	"github.com/shale-storage/shale/storenode/wire"
)

// MaxCopies bounds the Extents of a joining Replica that are copied at a time.
const MaxCopies = 4

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
	// todo are the Extents of the page that differ and were not begun, copies those in flight.
	todo   []uint32
	copies int
	// flushing and flushed at the end: what is InSync has on flash what clients were told to be.
	flushing, flushed bool
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
		case b.failed || !b.connected:
		case b.state == memberOut && m.patience >= b.retry && !m.broken:
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

// joinOn goes on with one Replica.
func (m *Machine) joinOn(b *member) {
	j := &b.join
	if m.sequence.floor < j.after || j.asked {
		return
	}
	for len(j.todo) > 0 && j.copies < MaxCopies {
		if !m.env.AcquireRebuild() {
			return
		}
		first := int64(j.todo[0]) * extentSize
		j.todo = j.todo[1:]
		j.copies++
		m.order.insert(m.newCopy(first, int(min(extentSize, m.c.Size-first)), b))
	}
	switch {
	case len(j.todo) > 0 || j.copies > 0:
	case j.cursor < m.extents() && mutant.Now != mutant.JoinEarly:
		j.asked, b.asked = true, m.patience
		m.askDigests(b)
	case !j.flushing:
		j.flushing = true
		o := m.order.get()
		o.kind, o.internal, o.steps = kindFlush, true, steps{joiner: b, attempt: b.attempt}
		m.order.insert(o)
	}
}

// ready reports whether a Replica has everything.
func (m *Machine) ready(b *member) bool {
	return b.state == memberFollowing && b.join.flushed && !b.failed && b.connected && m.doomed&b.bit == 0 &&
		m.env.LeaseUntil(b.id) > m.now && // it is needed from the proposal on
		(b.join.last < m.sequence.next || m.sequence.room(1))
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
	j.todo = m.differ(j.todo[:0], j.cursor, uint32(end), theirs)
	j.cursor, j.asked = uint32(end), false
}

// differ appends the Extents of [from, end) that are not the same here and in theirs.
func (m *Machine) differ(into []uint32, from, end uint32, theirs []wire.ExtentDigest) []uint32 {
	m.env.Extents(from, func(d wire.ExtentDigest) bool {
		if d.Index >= end {
			return false
		}
		for len(theirs) > 0 && theirs[0].Index < d.Index {
			into, theirs = append(into, theirs[0].Index), theirs[1:]
		}
		if len(theirs) > 0 && theirs[0].Index == d.Index {
			if theirs[0] != d {
				into = append(into, d.Index)
			}
			theirs = theirs[1:]
			return true
		}
		into = append(into, d.Index)
		return true
	})
	for _, d := range theirs {
		if d.Index >= from && d.Index < end {
			into = append(into, d.Index)
		}
	}
	return into
}

// percent compared, of the worst joining Replica.
func (m *Machine) percent() int {
	worst := 100
	for i := range m.members {
		if b := &m.members[i]; b.id != 0 && !b.inSync {
			worst = min(worst, int(uint64(b.join.cursor)*100/uint64(max(m.extents(), 1))))
		}
	}
	return worst
}
