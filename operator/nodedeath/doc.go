// Package nodedeath decides, from evidence, whether a node is dead, so that its volumes may be detached.
//
// It is pure: no I/O, clock, goroutine, lock or randomness.
//
// # What is at stake
//
// Data are safe whatever is decided: a volume that appears elsewhere has a higher attach generation, and the storenodes
// refuse what the old node still sends. A wrong verdict ends pods that work. A late one keeps pods from working. So
// a node is dead only if three parties that do not depend on each other agree:
//
//   - its storenode has not renewed its Lease (every second) for the Lease's duration,
//   - its kubelet has not renewed the node's Lease since then, and
//   - its host answers no connection, not even with a refusal, while the host of another StoreNode, not the
//     operator's own, does ([SilentRounds] times in a row). A host whose processes died refuses: so a crash is never
//     taken for a death.
//
// Where no host can be asked (a NetworkPolicy forbids it), the third is replaced by patience: the kubelet, which renews
// every ten seconds, has been silent for [KubeletSilence], or longer if it renews more seldom, and another kubelet has
// not: else it is the operator that does not hear them.
//
// # When nothing is done, whatever the evidence
//
// While no Lease of the storenode was ever seen: then it says nothing that none is. While the StoreNode is in
// maintenance: somebody knows. While fewer than half of all StoreNodes live: then it is
// more likely that the operator or the API server is the one cut off. Hosts are asked all the same: people who want to
// give Replicas up have to know who shows a sign of life.
package nodedeath
