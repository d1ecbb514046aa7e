package sim_test

import (
	"slices"
	"time"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
)

// setBacks is in how many of a hundred runs the keeper is restored from a backup, once all faults are over: all reach
// each other then, as the fault model asks.
const setBacks = 30

// setBack has the keeper forget the newest record of each Shard that a member of InSync who is up knows, and often a
// process end at the same time, other than the last of these. After a while a person acts by the runbook.
func (g *register) setBack() {
	w := g.w
	if w.fail != nil || !w.chance(setBacks) {
		return
	}
	g.restored = true
	for i := range g.records {
		r, before := &g.records[i], g.before[i]
		if before.Epoch == 0 || !slices.Equal(before.Replicas, r.Replicas) {
			continue
		}
		n := w.nodes[w.r.IntN(nodes)]
		if w.chance(60) && g.isKnown(i, n) {
			n.kill(false, 0)
			w.after(w.between(50*time.Millisecond, time.Second), n.recover)
		}
		if !g.isKnown(i, nil) {
			continue
		}
		w.logf("the keeper forgets epoch %d of %d: primary %d of %v", r.Epoch, i, before.Primary, before.InSync)
		*r, g.isBack[i], g.decidedLast = before, true, w.t
		w.after(w.between(500*time.Millisecond, 2500*time.Millisecond), func() { g.mend(i) })
	}
}

// isKnown reports whether a member of InSync on another node than that one is up and knows the record in force.
func (g *register) isKnown(i int, but *node) bool {
	r := &g.records[i]
	return slices.ContainsFunc(g.w.nodes, func(n *node) bool {
		return n != but && n.up() && n.inSync(r) && n.knows(i).Epoch == r.Epoch
	})
}

// knows is the newest record that a Replica of a Shard here remembers.
func (n *node) knows(i int) (newest membership.Record) {
	for _, info := range n.store.Replicas() {
		if info.Key.Shard == shardID(uint32(i)) && info.Record.Epoch > newest.Epoch {
			newest = info.Record
		}
	}
	return newest
}

// newest is the newest record that anybody who is up knows, of two of an Epoch the one that the keeper does not have.
func (g *register) newest(i int) membership.Record {
	var newest membership.Record
	for _, n := range g.w.nodes {
		if !n.up() {
			continue
		}
		known := n.knows(i)
		tie := known.Epoch == newest.Epoch && sameReign(&newest, &g.records[i])
		if known.Epoch > newest.Epoch || tie {
			newest = known
		}
	}
	return newest
}

func sameReign(a, b *membership.Record) bool {
	return a.Epoch == b.Epoch && a.Primary == b.Primary && slices.Equal(a.InSync, b.InSync)
}

// mend is the person's: the newest record is the truth, and comes in force once more.
func (g *register) mend(i int) {
	next := g.newest(i)
	if next.Epoch < g.records[i].Epoch || sameReign(&next, &g.records[i]) {
		g.isBack[i] = false
		return
	}
	next.Epoch++
	g.w.logf("a person writes epoch %d of %d: primary %d of %v", next.Epoch, i, next.Primary, next.InSync)
	g.records[i], g.isBack[i], g.decidedLast = next, false, g.w.t
	g.count(i, next)
}

// count notes how many are in sync by a record. Of two of one Epoch either may be the one that counts.
func (g *register) count(i int, r membership.Record) {
	for ident.Epoch(len(g.inSync[i])) <= r.Epoch {
		g.inSync[i] = append(g.inSync[i], 0)
	}
	g.inSync[i][r.Epoch] = max(g.inSync[i][r.Epoch], len(r.InSync))
}

// isBehind reports whether a Replica tells of a newer record than the keeper has, or of another one of that Epoch: then
// the operator does nothing.
func (g *register) isBehind(i int) bool {
	newest, has := g.newest(i), &g.records[i]
	return g.isBack[i] && (newest.Epoch > has.Epoch || newest.Epoch == has.Epoch && !sameReign(&newest, has))
}
