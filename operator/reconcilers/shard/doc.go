// Package shard brings Shards into service, moves their Primary when its storenode is gone, replaces lost Replicas, and
// waits with a deletion until the space is given back.
//
// # Phases
//
//   - gather.go: what is known, from the cache and the liveness tracker.
//   - create.go, while the Epoch is 0: a Replica that a storenode refused or does not make in time, or whose storenode
//     died, is placed elsewhere; when all are Created, Epoch 1 names the Primary and all of them as InSync.
//   - shard.go, afterwards: failover.Decide and failover.Repair, carried out.
//   - giveup.go, when a person asks for it: Replicas that never come back are given up.
//   - remove.go, when deleted, unless its Volume keeps it: a Shard goes with its Volume.
//   - status.go, always at the end.
//
// # Invariants
//
// The membership and the list of Replicas change in one update, conditional on the resourceVersion that was looked at.
// A decision from an old view therefore fails, and is taken anew from the new one. IDs of Replicas are never used
// again.
//
// # What a displaced Replica leaves behind
//
// When a Replica is taken off the list while its storenode is away, that storenode still holds its space and will
// give it back when it returns. Its entry in the status tells so, but not where it is; the annotation
// DisplacedAnnotation does, in the same update that takes it off. A deletion waits until such entries are gone, unless
// the Device object was deleted: by that a person says that it will not return.
//
// # What a Replica that was given up leaves behind
//
// It is displaced like any other, and in the annotation v1alpha1.GivenUpAnnotation too: its storenode keeps what it
// has, because people may want it after all. It is no Replica any more, so it can neither follow nor claim; if it still
// believes to be the Primary, its proposal loses the compare-and-swap, and it learns the newer record.
//
// # Failure
//
// Each update is all of one decision, so a crash before it leaves the Shard as it was, and after it as it should be.
package shard
