package sim_test

import (
	"slices"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
)

// home is the node that has a Replica, by a record; -1 if the record does not tell.
func (w *world) home(r *membership.Record, id ident.ReplicaID) int {
	for _, c := range r.Replicas {
		if c.ID == id {
			return slices.IndexFunc(w.nodes, func(n *node) bool { return n.address() == c.Address })
		}
	}
	if len(r.Replicas) == 0 {
		return int(id) - 1 // a client that has not seen a record yet
	}
	return -1
}

// holders are the nodes that have a Replica, by the record in force.
func (w *world) holders(index uint32) []*node {
	var all []*node
	for _, n := range w.nodes {
		if n.idIn(&w.register.records[index]) > 0 {
			all = append(all, n)
		}
	}
	return all
}

func (n *node) replica(id ident.ReplicaID) membership.Replica {
	return membership.Replica{ID: id, Device: n.uuid(), Address: n.address()}
}

// idIn is which of a record's Replicas is here; 0 if none.
func (n *node) idIn(r *membership.Record) ident.ReplicaID {
	for _, c := range r.Replicas {
		if c.Address == n.address() {
			return c.ID
		}
	}
	return 0
}

func (n *node) inSync(r *membership.Record) bool { return r.IsInSync(n.idIn(r)) }

// key is that of the Replica here, by the record in force.
func (n *node) key(index uint32) ident.ReplicaKey {
	return ident.ReplicaKey{Shard: shardID(index), Replica: n.idIn(&n.w.register.records[index])}
}

// repair is the operator's: a Replica that is lost is replaced on a node that has none, and taken off the record when
// enough are in sync without it. It may come back at any time.
func (g *register) repair(i int, r *membership.Record) {
	w := g.w
	next := membership.Record{Epoch: r.Epoch + 1, Primary: r.Primary, InSync: slices.Clone(r.InSync)}
	if surplus := g.surplus(r); surplus > 0 {
		next.InSync = slices.DeleteFunc(next.InSync, func(id ident.ReplicaID) bool { return id == surplus })
		isIt := func(c membership.Replica) bool { return c.ID == surplus }
		next.Replicas = slices.DeleteFunc(slices.Clone(r.Replicas), isIt)
		w.logf("replica %d of %d is to be taken off", surplus, i)
		g.decide(i, next)
		return
	}
	lost := slices.ContainsFunc(r.Replicas, func(c membership.Replica) bool {
		return !r.IsInSync(c.ID) && w.nodes[w.home(r, c.ID)].dead
	})
	free := slices.IndexFunc(w.nodes, func(n *node) bool { return n.idIn(r) == 0 && n.up() })
	if !lost || free < 0 || len(r.Replicas) > replicas || !w.chance(50) {
		return
	}
	g.last[i]++
	w.logf("replica %d of %d is to be on n%d", g.last[i], i, free+1)
	next.Replicas = append(slices.Clone(r.Replicas), w.nodes[free].replica(g.last[i]))
	g.decide(i, next)
}

// surplus is the Replica that is not needed, as the operator chooses it; 0 if there is none.
func (g *register) surplus(r *membership.Record) (found ident.ReplicaID) {
	if len(r.Replicas) <= replicas {
		return 0
	}
	rank := 0
	for _, c := range r.Replicas {
		inSync, now := r.IsInSync(c.ID), 1
		switch {
		case c.ID == r.Primary, len(r.InSync) < replicas, inSync && len(r.InSync) == replicas:
			continue
		case !inSync && g.w.nodes[g.w.home(r, c.ID)].dead:
			now = 3
		case !inSync:
			now = 2
		}
		if now >= rank {
			found, rank = c.ID, now
		}
	}
	return found
}
