package sim_test

import (
	"time"

	"github.com/shale-storage/shale/storenode/membership"
)

// convalescence is for how long something that was wrong may be the reason of an eviction.
const convalescence = 4 * time.Second

// suffers tells that something is wrong with a process or its Device for a time, or has just been.
func (n *node) suffers(d time.Duration) { n.unwell = max(n.unwell, n.w.t+int64(d)) }

// loses tells the same of its ways to others.
func (n *node) loses(d time.Duration) { n.unlinked = max(n.unlinked, n.w.t+int64(d)) }

// examine looks whether those whom a Primary wants to evict have deserved it: that a Device of the Primary fails is no
// reason. Only processes that the Primary can have heard of all the time are judged, and that did not lose power.
func (w *world) examine(primary *node, index uint32, next *membership.Record) {
	have := &w.register.records[index]
	if next.Epoch != have.Epoch+1 || !have.IsInSync(primary.idIn(have)) {
		return
	}
	since := w.t - int64(convalescence)
	if primary.paused || max(primary.unlinked, w.register.awayLast, w.register.decidedLast) > since {
		return
	}
	for _, n := range w.nodes {
		if n == primary || n.dead || !n.inSync(have) || n.inSync(next) || n.isLossy(int(index)) {
			continue
		}
		if max(n.unwell, n.unlinked) > since {
			continue
		}
		w.failf("n%d evicts n%d, which is well: %+v", primary.index+1, n.index+1, *next)
	}
}
