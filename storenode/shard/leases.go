package shard

import (
	"sync/atomic"

	"github.com/shale-storage/shale/storenode/replication"
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
	if sent < l.since || sent > l.asked {
		return false // not asked by us, or of another process
	}
	lapsed := l.until.load() <= now
	l.until.raise(sent.After(t.Lease))
	return lapsed && l.until.load() > now
}

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
