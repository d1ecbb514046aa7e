// Package evacuation lets the pods of a dead node move: it ends those that use Shale's volumes, and lets Kubernetes
// detach these volumes at once instead of after six minutes.
//
// # How
//
// In this order, each step idempotent, so that a crash anywhere is made good by the next call:
//
//  1. The node gets the taint shale.dev/node-dead (NoSchedule): the pods must not be placed there again before the
//     node controller has noticed what happened.
//  2. Shale's volumes are taken off the node's status.volumesInUse. Kubernetes' attach-detach controller detaches what
//     no pod wants and no kubelet says is in use; a dead kubelet never says otherwise. It then deletes the
//     VolumeAttachments, the CSI controller ends the attachment, and the next one gets a higher generation.
//  3. The pods are deleted without grace, as nobody is there to end them.
//
// The taint node.kubernetes.io/out-of-service would do 2 and 3 in one, for all pods and all volumes of the node. But
// only Shale's volumes are known to be fenced; those of others might be written from two nodes. See the ADR.
//
// # Which pods
//
// Those with a Shale claim whose other volumes, if any, are not shared storage of somebody else, and which somebody
// will make anew: not pods of DaemonSets, mirror pods, or pods without an owner. The others are left to Kubernetes.
//
// # Failure
//
// A node that is not dead after all loses these pods when its kubelet hears of the deletions; what they write before is
// refused by the storenodes as soon as the volume is open elsewhere.
package evacuation
