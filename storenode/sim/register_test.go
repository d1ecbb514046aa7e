package sim_test

import (
	"errors"
	"slices"
	"time"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/replication/mutant"
	"github.com/shale-storage/shale/storenode/shard"
)

const shardSize = 8 << 20

var volume = ident.UUID{0x70}

func shardID(index uint32) ident.ShardID { return ident.ShardID{Volume: volume, Index: index} }

// register is the keeper of records with the operator and the agents' ways to it.
type register struct {
	w       *world
	records [shards]membership.Record
	// away: it cannot be reached, at last until then. deciding counts decisions on their way.
	away     bool
	awayLast int64
	deciding int
	// decidedLast is when the operator last changed a record.
	decidedLast int64
	created     int
	// silent[a][b]: a has told that it does not hear from b.
	silent [nodes][nodes]bool
	// last is the newest Replica's number, by Shard.
	last [shards]ident.ReplicaID
	// minInSync of the Volume.
	minInSync int
	// inSync is how many a Shard has in sync, by Epoch; enough is when that were at last as many as asked for.
	inSync [shards][]int
	enough [shards]int64
	// before is the record before the one in force; isBack: the keeper has gone back to it.
	before [shards]membership.Record
	isBack [shards]bool
	// restored: a decision of the operator from before is by an object that there is not any more.
	restored bool
}

func newRegister(w *world) *register {
	g := &register{w: w, minInSync: 1 + w.r.IntN(2)}
	for i := range g.inSync {
		g.inSync[i] = make([]int, 1, 64)
	}
	return g
}

func (g *register) desired(i int) shard.Desired {
	return shard.Desired{
		Shard: shardID(uint32(i)), Size: shardSize, Record: g.records[i], Generation: ident.Generation(g.w.generation),
		MinInSync: g.minInSync,
	}
}

// begin has all Replicas created, and then the first records in force.
func (g *register) begin() {
	for i := range g.records {
		r := &g.records[i]
		for _, n := range g.w.nodes {
			if nodes == replicas || n.index != nodes-1-i {
				r.Replicas = append(r.Replicas, n.replica(ident.ReplicaID(len(r.Replicas)+1)))
				r.InSync = append(r.InSync, ident.ReplicaID(len(r.Replicas)))
			}
		}
		g.last[i] = replicas
		for _, c := range r.Replicas {
			g.w.nodes[g.w.home(r, c.ID)].host.ApplyAsync(shard.Desired{
				Shard: shardID(uint32(i)), Size: shardSize, Record: membership.Record{Replicas: r.Replicas},
			}, func(err error) {
				if err != nil {
					g.w.failf("create: %v", err)
				}
				g.created++
				if g.created == replicas*shards {
					for i := range g.records {
						g.records[i].Epoch, g.records[i].Primary = 1, ident.ReplicaID(1+i%replicas)
						g.inSync[i] = append(g.inSync[i], replicas)
					}
				}
			})
		}
	}
}

func (g *register) begun() bool { return g.created == replicas*shards }

// watch is a node's look at the records, now and then.
func (g *register) watch(n *node) {
	n.run(g.w.between(2*time.Millisecond, 400*time.Millisecond), func() {
		if !g.away && !n.isolated && g.begun() {
			for i := range g.records {
				g.tell(n, i)
			}
			g.publish(n)
		}
		g.watch(n)
	})
}

// publish tells the map of the Volume, for OPEN.
func (g *register) publish(n *node) {
	n.host.Publish(shard.VolumeMap{
		Volume: volume, Size: shards * shardSize, ShardSize: shardSize, Generation: ident.Generation(g.w.generation),
		Shards: slices.Clone(g.records[:]),
	})
}

// tell has a node make what the record wants, one after the other, and delete a Replica that was replaced.
func (g *register) tell(n *node, i int) {
	if n.applying[i] {
		return
	}
	n.applying[i] = true
	life := n.life
	d := g.desired(i)
	n.host.ApplyAsync(d, func(err error) {
		if n.life != life {
			return
		}
		n.applying[i] = false
		if err != nil && !errors.Is(err, shard.ErrStaleRecord) && !g.w.sick {
			g.w.failf("n%d: %v", n.index+1, err)
		}
	})
	for _, s := range n.host.Statuses() {
		if s.Key.Shard != d.Shard || g.w.home(&d.Record, s.Key.Replica) >= 0 || d.Record.Epoch < s.Epoch {
			continue
		}
		g.w.logf("n%d deletes %s", n.index+1, s.Key)
		n.doomed[s.Key] = true
		n.host.DeleteAsync(s.Key, func(err error) {
			if n.life == life && !n.dead && err == nil {
				n.gone[s.Key] = true
			}
			if err != nil && n.life == life && !g.w.sick {
				g.w.failf("n%d: %v", n.index+1, err)
			}
		})
	}
}

// propose is the way of a proposal to the keeper and of the decision back.
func (g *register) propose(n *node, index uint32, next membership.Record) {
	w := g.w
	w.logf("n%d proposes for %d: epoch %d primary %d of %v", n.index+1, index, next.Epoch, next.Primary, next.InSync)
	life := n.life
	w.examine(n, index, &next)
	g.deciding++
	w.after(w.between(time.Millisecond, 60*time.Millisecond), func() {
		g.deciding--
		if g.away || n.isolated {
			g.deciding++
			w.after(300*time.Millisecond, func() { // the agent tries again, as long as it makes sense
				g.deciding--
				if n.life == life && !n.dead && g.records[index].Epoch < next.Epoch {
					g.propose(n, index, next)
				}
			})
			return
		}
		g.swap(index, next)
		if w.chance(90) && n.life == life {
			n.run(w.between(time.Millisecond, 30*time.Millisecond), func() {
				if !n.isolated {
					n.host.Decided(shardID(index), g.records[index])
				}
			})
		}
	})
}

// swap is the compare-and-swap.
func (g *register) swap(index uint32, next membership.Record) {
	r := &g.records[index]
	if next.Epoch != r.Epoch+1 {
		return
	}
	if !next.IsInSync(next.Primary) || len(next.Replicas) < replicas {
		g.w.failf("proposed: %+v", next)
	}
	if g.isEnough(r) {
		g.enough[index] = g.w.t
	}
	g.count(int(index), next)
	g.before[index] = *r
	*r = next
	if len(r.InSync) == 1 && g.w.rotten != nil && g.w.rotten.inSync(r) {
		g.w.torn = true
	}
	g.w.logf("in force for %d: epoch %d primary %d of %v", index, next.Epoch, next.Primary, next.InSync)
}

// leave makes the keeper unreachable for a while.
func (g *register) leave(d time.Duration) {
	g.away, g.awayLast = true, max(g.awayLast, g.w.t+int64(d))
	g.w.after(d, func() { g.away = false })
}

func (g *register) isEnough(r *membership.Record) bool { return len(r.InSync) >= g.minInSync }

// mayAcknowledge reports whether a change that was first sent at begun may be acknowledged by a Primary of that Epoch:
// as many Replicas as the Volume asks for have it now, or had it in the meantime.
func (g *register) mayAcknowledge(index uint32, epoch ident.Epoch, begun int64) bool {
	return g.isEnough(&g.records[index]) || g.enough[index] >= begun || g.inSync[index][epoch] >= g.minInSync
}

func (g *register) unreachable(n *node, addresses []string) {
	for _, other := range g.w.nodes {
		g.silent[n.index][other.index] = slices.Contains(addresses, other.address())
	}
}

// suspects reports whether a Primary seems dead: it is, or the others do not hear from it, or for no reason at all.
func (g *register) suspects(r *membership.Record, p *node) bool {
	if p.dead || p.paused {
		return true
	}
	heard := 0
	for _, n := range g.w.nodes {
		if n != p && n.idIn(r) > 0 && n.up() && !g.silent[n.index][p.index] {
			heard++
		}
	}
	return heard == 0 || g.w.faulty && g.w.chance(3)
}

// operate is the operator: it promotes when the Primary seems dead, sometimes wrongly, late, and twice.
func (g *register) operate() {
	w := g.w
	w.after(w.between(200*time.Millisecond, 800*time.Millisecond), func() {
		defer g.operate()
		for i, r := range g.records {
			if g.away || g.isBehind(i) {
				continue
			}
			if p := w.nodes[w.home(&r, r.Primary)]; !g.suspects(&r, p) {
				g.repair(i, &r)
				continue
			}
			next := membership.Record{Epoch: r.Epoch + 1, InSync: r.InSync, Replicas: r.Replicas}
			next.Primary = g.heir(r)
			if next.Primary == 0 {
				continue
			}
			switch {
			case mutant.Now == mutant.PromoteStale:
				next.InSync = []ident.ReplicaID{next.Primary}
			case !w.nodes[w.home(&r, next.Primary)].isLossy(i) && w.chance(50):
				next.InSync = slices.DeleteFunc(slices.Clone(r.InSync), func(id ident.ReplicaID) bool { return id == r.Primary })
			}
			g.decide(i, next)
			g.decide(i, next)
		}
	})
}

// decide is the way of the operator's decision to the keeper.
func (g *register) decide(i int, next membership.Record) {
	g.deciding++
	restored := g.restored
	g.w.after(g.w.between(0, 900*time.Millisecond), func() {
		g.deciding--
		if !g.away && g.restored == restored {
			g.decidedLast = g.w.t
			g.swap(uint32(i), next)
		}
	})
}

// heir is who may be promoted: a member of InSync, whoever of them it is.
func (g *register) heir(r membership.Record) (heir ident.ReplicaID) {
	candidates := r.InSync
	if mutant.Now == mutant.PromoteStale {
		candidates = candidates[:0:0]
		for _, c := range r.Replicas {
			if !r.IsInSync(c.ID) {
				candidates = append(candidates, c.ID)
			}
		}
	}
	for _, k := range g.w.r.Perm(len(candidates)) {
		if id := candidates[k]; id != r.Primary && g.w.nodes[g.w.home(&r, id)].up() {
			heir = id
		}
	}
	return heir
}
