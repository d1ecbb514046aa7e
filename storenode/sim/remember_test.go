package sim_test

import (
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/store"
)

// keep notes what the Device has to remember of its Replicas when the process ends: all that the Store has. If power is
// lost it is what the Store had when it was opened, as that was flushed.
func (n *node) keep() {
	n.kept, n.keptBoot = map[ident.ReplicaKey]store.ReplicaInfo{}, n.boot
	for _, info := range n.store.Replicas() {
		if info.Key.Shard.Volume == volume && info.Record.Epoch > 0 {
			n.kept[info.Key] = info
		}
	}
}

// remembers looks whether the Device has kept it, now that it is opened. The keeper of records and other Replicas tell
// most of it soon after, so nobody else would see that it was forgotten.
func (n *node) remembers() {
	kept := n.kept
	if n.boot != n.keptBoot {
		kept = n.safe
	}
	n.safe = map[ident.ReplicaKey]store.ReplicaInfo{}
	for _, info := range n.store.Replicas() {
		n.safe[info.Key] = info
		if n.gone[info.Key] {
			n.w.failf("%s is back, which was deleted", info.Key)
		}
	}
	for key, old := range kept {
		switch now, ok := n.safe[key]; {
		case n.doomed[key]:
		case !ok:
			n.w.failf("%s is gone", key)
		case now.Record.Epoch < old.Record.Epoch, now.Generation < old.Generation:
			n.w.failf("%s remembers epoch %d, generation %d after %d, %d",
				key, now.Record.Epoch, now.Generation, old.Record.Epoch, old.Generation)
		}
	}
}

// isFenced looks whether all in sync remember the generation of an attachment that has opened a Shard in that Epoch.
func (w *world) isFenced(index uint32, epoch ident.Epoch, g ident.Generation) {
	r := &w.register.records[index]
	if r.Epoch != epoch || w.register.isBack[index] {
		return
	}
	for _, n := range w.nodes {
		if n.dead || !n.inSync(r) {
			continue
		}
		handle, _ := n.store.Lookup(n.key(index))
		info, err := n.store.Info(handle)
		if err != nil || info.Generation < g {
			w.failf("n%d remembers generation %d of shard %d, which was opened with %d", n.index+1, info.Generation, index, g)
		}
		if old, ok := n.safe[info.Key]; ok { // what opens is a FLUSH, so loss of power must not take it either
			old.Generation = max(old.Generation, g)
			n.safe[info.Key] = old
		}
	}
}
