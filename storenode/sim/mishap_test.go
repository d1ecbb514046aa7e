package sim_test

import (
	"time"

	"github.com/shale-storage/shale/storenode/pace"
)

// mishaps are what harm does not do: rarer, and some last for long.
func (w *world) mishaps() {
	w.after(w.between(500*time.Millisecond, 5*time.Second), func() {
		if !w.faulty {
			return
		}
		defer w.mishaps()
		n := w.nodes[w.r.IntN(nodes)]
		if w.chance(70) {
			w.cutClients(n)
		} else {
			w.slow(n)
		}
	})
}

// ways between the clients and a node that are cut: what they send is lost, or what it sends.
type ways struct{ to, from bool }

// cutClients cuts the node of the clients off another one, one way or both; storenodes and the keeper of records reach
// that as before.
func (w *world) cutClients(n *node) {
	cut := ways{to: w.chance(60), from: w.chance(60)}
	w.logf("cut clients -> n%d %v, back %v", n.index+1, cut.to, cut.from)
	w.unreached[n.index] = cut
	w.after(w.between(500*time.Millisecond, 8*time.Second), func() { w.unreached[n.index] = ways{} })
}

// isCut reports whether what one end sends to another is lost.
func (w *world) isCut(from, to *end) bool {
	switch {
	case from.n == nil:
		return w.unreached[to.index()].to
	case to.n == nil:
		return w.unreached[from.index()].from
	}
	return w.cut[from.index()][to.index()]
}

// isApart reports whether no connection can be made.
func (w *world) isApart(from, to *node) bool {
	if from == nil {
		return w.unreached[to.index] != ways{}
	}
	return w.cut[from.index][to.index] || w.cut[to.index][from.index]
}

// slow has a Device take long for everything, though never as long as others wait for it: often long enough for the
// Primary to do without it for a minute. Healing does not end that.
func (w *world) slow(n *node) {
	last := w.between(3*time.Second, 20*time.Second)
	w.logf("the device of n%d is slow for %v", n.index+1, last)
	n.ill.slow = w.t + int64(last)
	n.suffers(last + pace.Window) // it is judged by all the changes of a window
}

// latency is how long a request takes.
func (d *device) latency() time.Duration {
	w := d.n.w
	switch {
	case d.n.ill.slow > w.t:
		return w.between(20*time.Millisecond, 400*time.Millisecond)
	case w.faulty && w.chance(0.3):
		return w.between(0, 80*time.Millisecond)
	}
	return w.between(5*time.Microsecond, 120*time.Microsecond)
}
