// Package volume makes the Shards of Volumes, says how Volumes are, and takes Shards away when a Volume is deleted.
//
// # Phases
//
//  1. A finalizer, before anything that would have to be undone.
//  2. The Shards that are missing, all placed in one pass: either all find room or none is made. A Shard is written
//     with its Replicas and Epoch 0. That is the first half of a reservation: from then on each decision counts it.
//     The second half is the storenodes', and reconcilers/shard closes it with Epoch 1. A Shard that had data is never
//     made anew (lost.go): that would be a hole in a filesystem, which looks like zeroes.
//     Neither is one made in the place of a stranger (strangers.go), a Shard of another Volume that had the same name.
//  3. The status, from the Shards.
//
// Deleting goes the other way: once the Volume is attached to no node, Shards are deleted, each waits until its space
// is given back, then the finalizer goes.
// The Ready condition says what is waited for.
//
// # Failure
//
// Each phase looks at what is there and does what is missing, so a crash after any write is mended by the next
// run. Shards have names that follow from the Volume's (VOLUME-INDEX), so none is made twice.
package volume
