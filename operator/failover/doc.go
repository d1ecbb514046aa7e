// Package failover decides, from observations, the next membership of a Shard, or refuses with a reason.
//
// It is pure: no I/O, clock, goroutine, lock or randomness. Its caller gathers what is known and writes a decision by
// compare-and-swap on the Shard object, so a decision made from old observations fails instead of doing harm.
//
// # When is a Primary given up
//
// Data are safe whatever is decided here: a Primary serves only with the leases of its Backups, a Backup takes another
// Primary only after its grace, and every message carries the Epoch. A wrong promotion costs a stall. So the
// question is only how sure is sure enough, and these are the answers ([Decide]):
//
//   - The Lease of the Primary's storenode expired: nobody has seen it live for the Lease's duration. Promote.
//   - An InSync Backup reports that it has not heard from the Primary's storenode for longer than the grace, and that
//     storenode has missed a renewal of its Lease ([ReportTrust]). Two witnesses that cannot see each other agree:
//     promote that Backup at once. It is one that reported, because its own grace is over; any other would first
//     have to wait for its own.
//   - A Backup reports, but the Lease is fresh: the storenode lives and only that link is cut. It will evict the Backup
//     by itself, as it cannot have its lease. Promoting would stall a Shard that is about to be well: wait until
//     the Lease says otherwise.
//   - All others InSync, two at least ([Agree]), report, and are alive: the Lease only says that the Primary's
//     storenode reaches the API server. Where storage has a network of its own, that can be cut alone. The Primary
//     evicts nobody for some seconds when it hears nobody, so that there is time for this. Promote one of them.
//   - The Primary's own storenode says that its Replica failed, or a person deleted the object of its Device, and no
//     storenode made it anew. Promote.
//   - The membership has no Primary. Promote.
//
// Only members of InSync are ever promoted, whoever else reports what: nobody else has every acknowledged write.
// One that is lossy (its machine lost power, so it may miss acknowledged writes that nobody had flushed) is promoted
// only if there is no other, and then the former Primary stays InSync: the data plane makes a lossy Primary wait for
// all of InSync before it serves, and the former Primary may be the only one that has those writes.
//
// If none of them is on a live storenode, the answer is a refusal that names the nodes to bring back.
//
// # When are InSync Replicas given up
//
// Never by Shale. A person who knows that they will not come back can say so ([GiveUp]); what they are told before is
// [Losing]. Only then does a Replica become Primary that was not InSync. The invariants:
//
//   - The command names exactly the InSync Replicas that cannot serve, and the Epoch: one that is late, doubled, meant
//     for another situation or not needed is refused.
//   - Who is given up shows no sign of life: no Lease, and no host that answers or kubelet that renews unless the
//     Device failed or its object was deleted. The data plane cannot stop a Primary that is cut off together with its
//     clients and was alone InSync.
//   - Who serves instead has content of one moment, as new as there is: how new is what the operator has seen
//     ([Content]), not the Epoch it reports, which it learns without the data. Incomplete content takes another
//     word of the person.
//   - The next Epoch is higher than any that anybody has seen, so who was given up is refused by all when it returns,
//     and is none of the Replicas, so it can follow nobody and claim nothing.
//
// # When is a Replica replaced
//
// A Replica on a node in maintenance is not lost, unless its Device was deleted: it will be back.
//
// [Repair] adds a Replica when one that is out of InSync has been lost for longer than a delay, and takes surplus ones
// away once enough are InSync. The lost one does not bar its own failure domain: there may be no other. If it returns
// to find its replacement there, one of the two goes at once, so that both are not in sync on what fails together. Its
// storenode's present process says that it is back: a new operator takes everybody for alive, and a machine may come
// back without its SSD.
// It never evicts a dead Backup from InSync: that is the Primary's, which alone knows what it has acknowledged. Each
// change of the Replicas is a new Epoch with the same Primary.
//
// A Primary whose Device failed and that has no heir is not replaced ([Decide] refuses), and still is given a Replica
// to bring in sync, without a delay: it does so as long as it can read.
package failover
