package shard

import (
	"sync/atomic"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/replication"
	"github.com/shale-storage/shale/storenode/wire"
)

// mark is an Instant that only moves forward, read without a lock.
type mark struct{ at atomic.Int64 }

func (m *mark) load() replication.Instant { return replication.Instant(m.at.Load()) }

func (m *mark) raise(to replication.Instant) {
	for {
		old := m.at.Load()
		if int64(to) <= old || m.at.CompareAndSwap(old, int64(to)) {
			return
		}
	}
}

// leases are what two storenodes have promised each other. Times are readings of this storenode's own clock: a lease
// counts from when we asked, which is before the other side answered, and a promise from when we answer, which is
// before the other side hears it. So theirs is over before ours, whatever the network does, if Grace exceeds Lease by
// the drift of the two clocks' speeds.
type leases struct {
	// until is how long the other storenode takes no other Primary than ours.
	until mark
	// promised is when we last promised the same.
	promised mark
	// asked is when the last heartbeat was sent; 0 if none was on the present connection.
	asked replication.Instant
	// since is when the present connection was made: answers to what was asked before do not count.
	since replication.Instant
	// follows since when; heard is the last heartbeat. For the silence of a Primary.
	followed replication.Instant
	heard    mark
}

// connected begins a new connection. A process that was started anew knows nothing of promises of the one before it.
func (l *leases) connected(now replication.Instant, restarted bool) {
	l.since, l.asked = now, 0
	if restarted {
		l.until.at.Store(0)
	}
}

// due reports whether it is time to ask again, and takes it as asked.
func (l *leases) due(now replication.Instant, t replication.Timing) bool {
	if l.asked != 0 && now < l.asked.After(t.Heartbeat) {
		return false
	}
	l.asked = now
	return true
}

// granted takes the answer to what was asked at sent; it reports whether a lapsed lease holds again.
func (l *leases) granted(sent, now replication.Instant, t replication.Timing) (regained bool) {
	if !l.isAnswer(sent) {
		return false
	}
	lapsed := l.until.load() <= now
	l.until.raise(sent.After(t.Lease))
	return lapsed && l.until.load() > now
}

// isAnswer reports whether that was asked by us, on the present connection.
func (l *leases) isAnswer(sent replication.Instant) bool { return sent >= l.since && sent <= l.asked }

// answer makes the promise.
func (l *leases) answer(now replication.Instant) {
	l.promised.raise(now)
	l.heard.raise(now)
}

// unanswered reports whether nothing that was asked on the present connection was answered for longer than the grace
// period: a network that was cut and mended may keep a connection waiting for much longer than a new one takes.
func (l *leases) unanswered(now replication.Instant, t replication.Timing) bool {
	return l.asked != 0 && now > max(l.until.load().After(-t.Lease), l.since).After(t.Grace)
}

// silent reports whether a Primary has not been heard of for longer than the grace period.
func (l *leases) silent(now replication.Instant, t replication.Timing) bool {
	return now > max(l.heard.load(), l.followed).After(t.Grace)
}

// Storenodes make promises to each other, for all Shards at once; what one is worth for a Shard hangs on its Replicas.
// A Primary counts what a member's storenode promises on a connection only after the member itself has answered there
// that it knows the Primary's Record: it vouches for it. And the member notes on whose connection it said so: that
// storenode relies on it, whatever address the Authority has for it now, or none. So a Primary that the rest has left
// behind is told, or hears nothing that it could count, though every Replica was moved elsewhere and the objects with
// its address are gone.

// reliance is the Primary that counts our promises, and where it is.
type reliance struct {
	id   ident.ReplicaID
	peer *peer
}

// vouched takes a member's answer to our Record, on a connection that we dialed. Before the Machine sees it.
func (r *replica) vouched(l *link, h *wire.Header) {
	m := r.member(h.From)
	switch {
	case m == nil || m.peer != l.peer:
	case h.Status != wire.StatusOK:
		m.vouch, m.carried = nil, 0
	case m.served && h.Epoch == r.machine.Record().Epoch && m.vouch != l:
		m.carried = m.leaseUntil()
		m.vouch = l
	}
}

// leaseUntil is how long the member's storenode takes no other Primary of this Shard.
func (m *member) leaseUntil() replication.Instant {
	if m.vouch == nil || m.vouch.incarnation != m.peer.process.Load() {
		return 0 // another process knows nothing of promises of the one before it
	}
	return max(m.carried, m.vouch.until.load())
}

// reliedOn notes that we have just told the Primary that we know its Record.
func (r *replica) reliedOn(l *link, from ident.ReplicaID, epoch ident.Epoch) {
	if record := r.machine.Record(); record.Primary == from && record.Epoch == epoch {
		r.reliance = reliance{from, l.peer}
	}
}

// promisee is the storenode of another Replica as far as our promises to it are concerned, nil if it is not known.
func (r *replica) promisee(id ident.ReplicaID) *peer {
	if id != 0 && id == r.reliance.id {
		return r.reliance.peer
	}
	return r.peerOf(id)
}

// disappoint tells the Primary that relies on this Replica that it is no more, before anything else is promised.
func (r *replica) disappoint() {
	p := r.reliance.peer
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.in == nil {
		return
	}
	told := p.in.sendOne(wire.Header{
		Opcode: wire.OpRecord, Flags: wire.FlagReply, Status: wire.StatusNotFound, Shard: r.key.Shard,
		From: r.key.Replica, To: r.reliance.id, Epoch: r.machine.Record().Epoch,
	}, nil)
	if !told {
		p.in.close(errNoMemory)
		return
	}
	p.in.written(r.monitor)
}
