// Package reconcilers has what the reconcilers below it share: the conditions they set, and the finalizer.
//
// # One way to write a status
//
// Each reconciler gathers, decides, acts, and then writes the status once, as a merge patch of what changed. The
// list of Replicas in a Shard's status belongs to the storenodes; no patch from here touches it.
//
// # No owner references
//
// Shards name their Volume in spec.volumeName and nowhere else. With an owner reference, Kubernetes would delete the
// Shards, and with them data, when an API server that was restored from a backup knows the Volume under another UID.
package reconcilers
