package v1alpha1

// Types of conditions.
const (
	// ConditionReady is the condition that every object has: it can do now what it is for. A Volume and a Shard are
	// Ready while they serve I/O.
	ConditionReady = "Ready"
	// ConditionHealthy, of Volumes and Shards: all Replicas wanted are InSync. Of Devices: they answer, without errors,
	// and have room.
	ConditionHealthy = "Healthy"
	// ConditionDeletable, of Shards that somebody deleted by themselves: it is False while the Volume keeps them.
	ConditionDeletable = "Deletable"
	// ConditionDevicesAccepted, of Pools: everything the Pool selects could be taken into service.
	ConditionDevicesAccepted = "DevicesAccepted"
)

// Reasons that several kinds have. docs/operate/conditions.md tells people what to do about each of all these.
const (
	// ReasonServing: it does what it is for.
	ReasonServing = "Serving"
	// ReasonDeleting: it is being deleted; the message says what that waits for.
	ReasonDeleting = "Deleting"
)

// Reasons of Volumes and Shards.
const (
	// ReasonNoRoom: no Devices were found for all Replicas; the message says why not, and where.
	ReasonNoRoom = "NoRoom"
	// ReasonNoPool: the Volume's Pool does not exist.
	ReasonNoPool = "NoPool"
	// ReasonCreating: the storenodes reserve the space of the Replicas.
	ReasonCreating = "Creating"
	// ReasonNoPrimary: no InSync Replica is on a storenode that is alive; the message names the nodes to bring back.
	ReasonNoPrimary = "NoPrimary"
	// ReasonWaitsForReplicas: the Primary's machine lost power, and another InSync Replica, which may have more, is away;
	// the message names it.
	ReasonWaitsForReplicas = "WaitsForReplicas"
	// ReasonTooFewInSync: fewer Replicas are InSync than the Volume asks for (minInSync), so changes are not acknowledged.
	ReasonTooFewInSync = "TooFewInSync"
	// ReasonAllInSync: all Replicas wanted are InSync.
	ReasonAllInSync = "AllInSync"
	// ReasonDegraded: fewer Replicas are InSync than wanted, and no Rebuild is under way.
	ReasonDegraded = "Degraded"
	// ReasonRebuilding: a Replica is brought in sync.
	ReasonRebuilding = "Rebuilding"
	// ReasonNoReplacement: a Replica is lost for good, and no Device was found for another; the message says why not.
	ReasonNoReplacement = "NoReplacement"
	// ReasonBlocksLost: some Blocks can be read from no Replica; reads of them fail until they are written again.
	ReasonBlocksLost = "BlocksLost"
	// ReasonShardMissing: the Volume may hold data, and a Shard of it has no object any more. It is not made anew, empty.
	ReasonShardMissing = "ShardMissing"
	// ReasonOtherVolume: a Shard of another Volume, which had the same name, is in the place of one of this Volume. It is
	// neither used nor deleted.
	ReasonOtherVolume = "OtherVolume"
	// ReasonVolumeExists: the Shard was deleted, its Volume was not, so it goes on being served.
	ReasonVolumeExists = "VolumeExists"
	// ReasonStaleRecord: a Replica has seen a newer membership than the object has, or another one of the same Epoch.
	ReasonStaleRecord = "StaleRecord"
)

// Reasons of Devices and Pools.
const (
	// ReasonForeignData: what the Pool selected holds a filesystem, a partition table or something else that is not
	// ours. It was not touched.
	ReasonForeignData = "ForeignData"
	// ReasonOtherPool: the Device belongs to another Pool.
	ReasonOtherPool = "OtherPool"
	// ReasonCorruptSuperblock: both copies of the Device's Superblock are damaged. It was not touched.
	ReasonCorruptSuperblock = "CorruptSuperblock"
	// ReasonUnreadable: the Device could not be opened or read.
	ReasonUnreadable = "Unreadable"
	// ReasonMissing: the Device was on this node before, and its storenode does not find it.
	ReasonMissing = "Missing"
	// ReasonOpening: what the Device holds is being read, which takes longer than its Replicas' Shards wait for it.
	ReasonOpening = "Opening"
	// ReasonDeviceFailed: the Device answers I/O with errors and serves nothing any more.
	ReasonDeviceFailed = "DeviceFailed"
	// ReasonHealthy: the Device answers, without errors, and has room.
	ReasonHealthy = "Healthy"
	// ReasonStalled: the Device has work and finishes none of it.
	ReasonStalled = "Stalled"
	// ReasonIOErrors: the Device has answered with errors lately.
	ReasonIOErrors = "IOErrors"
	// ReasonFull: the Device has no Extent left; writes that need one fail, everything else goes on.
	ReasonFull = "Full"
	// ReasonNoDevices: the Pool has no Device in service.
	ReasonNoDevices = "NoDevices"
	// ReasonAllAccepted: everything the Pool selects is in service.
	ReasonAllAccepted = "AllAccepted"
	// ReasonDevicesRefused: the Pool selects what must not be touched or cannot be used; the message names each.
	ReasonDevicesRefused = "DevicesRefused"
)

// Reasons of StoreNodes.
const (
	// ReasonAlive: the storenode renews its Lease.
	ReasonAlive = "Alive"
	// ReasonLeaseExpired: the storenode has not renewed its Lease for the Lease's duration.
	ReasonLeaseExpired = "LeaseExpired"
	// ReasonNoLease: the storenode has no Lease: it has never run under this namespace, or somebody removed it. Of
	// ConditionNodeAlive: besides, the node seems dead.
	ReasonNoLease = "NoLease"
)

// Reasons of Snapshots.
const (
	// ReasonNotSupported: this version knows the kind of object and does not do what it asks for.
	ReasonNotSupported = "NotSupported"
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
