// Package v1alpha1 holds the objects by which people and Shale's parts agree on what should be: Pools of Devices,
// Volumes, their Shards and Snapshots.
//
// Desired state is in spec, observation in status as conditions; nothing imperative anywhere. One exception is on
// purpose: the membership of a Shard is in its spec, because it must survive whatever drops status (backup tools), and
// changes only by compare-and-swap on the resourceVersion, each time with the next Epoch.
//
// The package imports nothing else of Shale; it is where the components meet.
//
// +kubebuilder:object:generate=true
// +groupName=shale.dev
package v1alpha1
