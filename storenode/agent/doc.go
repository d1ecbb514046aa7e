// Package agent is the storenode's tie to Kubernetes, and the only part of the data plane that knows it.
//
// It does seven small things, each in a file of its own:
//
//   - pools.go: finds the Devices that Pools select on this node, claims the empty ones, serves the ones that are ours,
//     and never touches any other, saying so in a Device object's condition.
//   - shards.go: makes the Host hold what Shard objects say it should (create, adopt a Record, delete).
//   - volumes.go: publishes the maps that clients OPEN.
//   - proposals.go: carries a Primary's next Record to the Shard object by compare-and-swap, and the outcome back.
//   - lease.go: says "this storenode lives" in a Lease, and whom it has not heard from in its StoreNode object.
//   - registration.go: keeps the StoreNode object, by which others find this storenode.
//   - report.go: shows what Replicas and Devices do in the objects' status.
//
// # Invariants
//
// The API is never in the path of an I/O: whatever is slow or lost here delays membership changes, nothing else.
// Nothing on a Device is deleted because an object is missing; only a Shard object being deleted whose Volume does not
// keep it, or one of at least the Replica's own Epoch that no longer lists it, gives space back; the latter not while
// the object says that a person gave the Replica up. An API server restored from an older backup therefore deletes
// nothing, and its old Records are refused by the Host.
//
// A Device is known by the UUID in its Superblock, not by its path, the pod or the node's name: a pod that is made
// anew, a renamed node and a moved SSD find the same Device object again.
//
// # Concurrency and failure
//
// Reconcilers run on controller-runtime's workers; calls into the Host may wait for a Device. The proposer keeps at
// most one proposal a Shard, the newest, and tries until it is decided.
package agent
