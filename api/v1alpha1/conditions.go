package v1alpha1

// ConditionReady is the condition that every object has: it can do now what it is for.
const ConditionReady = "Ready"

// Reasons of ConditionReady. docs/operate/conditions.md tells people what to do about each.
const (
	// ReasonServing: the Device serves Replicas.
	ReasonServing = "Serving"
	// ReasonNoRoom: no Devices were found for all Replicas of the Volume; the message says why not, and where.
	ReasonNoRoom = "NoRoom"
	// ReasonForeignData: what the Pool selected holds a filesystem, a partition table or something else that is not
	// ours. It was not touched.
	ReasonForeignData = "ForeignData"
	// ReasonOtherPool: the Device belongs to another Pool.
	ReasonOtherPool = "OtherPool"
	// ReasonCorruptSuperblock: both copies of the Device's Superblock are damaged. It was not touched.
	ReasonCorruptSuperblock = "CorruptSuperblock"
	// ReasonUnreadable: the Device could not be opened or read.
	ReasonUnreadable = "Unreadable"
	// ReasonDeviceFailed: the Device answers I/O with errors and serves nothing any more.
	ReasonDeviceFailed = "DeviceFailed"
)

// States of a Replica in a Shard's status.
const (
	// ReplicaCreated: its space is reserved, the Shard is not served yet.
	ReplicaCreated = "Created"
	// ReplicaInSync: it holds every acknowledged write.
	ReplicaInSync = "InSync"
	// ReplicaRebuilding: it is brought in sync from the Primary.
	ReplicaRebuilding = "Rebuilding"
	// ReplicaStale: it missed writes, and nobody rebuilds it yet.
	ReplicaStale = "Stale"
	// ReplicaFailed: its Device cannot hold it; the message says why.
	ReplicaFailed = "Failed"
)
