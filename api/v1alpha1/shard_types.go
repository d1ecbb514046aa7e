package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ShardSpec says where a Shard lives and who serves it.
//
// The rules here guard the record against writers that are wrong or late: what a Replica once learnt is never taken
// back. They compare with what is stored, so they hold for every writer, people included.
//
// +kubebuilder:validation:XValidation:rule="!has(self.membership.inSync) || self.membership.inSync.all(i, has(self.replicas) && self.replicas.exists(r, r.id == i))",message="membership.inSync must name ids of replicas",fieldPath=".membership.inSync"
// +kubebuilder:validation:XValidation:rule="!has(self.replicas) || self.replicas.all(r, r.id < self.nextReplicaID)",message="nextReplicaID must be above the id of each of replicas",fieldPath=".nextReplicaID"
// +kubebuilder:validation:XValidation:rule="!has(self.replicas) || self.replicas.all(r, self.replicas.exists_one(o, o.deviceName == r.deviceName))",message="replicas must be on different Devices (deviceName)",fieldPath=".replicas"
// +kubebuilder:validation:XValidation:rule="oldSelf.membership.epoch == 0 || self.membership.epoch > oldSelf.membership.epoch || (has(self.replicas) && has(oldSelf.replicas) && self.replicas.map(r, r.id) == oldSelf.replicas.map(r, r.id))",message="replicas change only together with a higher membership.epoch",fieldPath=".replicas"
// +kubebuilder:validation:XValidation:rule="!has(self.replicas) || self.replicas.all(r, r.id >= oldSelf.nextReplicaID || (has(oldSelf.replicas) && oldSelf.replicas.exists(o, o.id == r.id)))",message="replicas cannot use an id again: a new one takes nextReplicaID",fieldPath=".replicas"
type ShardSpec struct {
	// VolumeName is the Volume object this Shard is part of.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="volumeName cannot change"
	VolumeName string `json:"volumeName"`
	// VolumeID is the UUID of the Volume on the wire and on Devices. Kept here so that a restored object names the same
	// data.
	//
	// +kubebuilder:validation:MaxLength=36
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="volumeID cannot change"
	VolumeID string `json:"volumeID"`
	// Index of the Shard in its Volume, from 0.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="index cannot change"
	Index int32 `json:"index"`
	// SizeBytes of the Shard; the last Shard of a Volume may be shorter. It only grows.
	//
	// +kubebuilder:validation:Minimum=4096
	// +kubebuilder:validation:Maximum=1099511627776
	// +kubebuilder:validation:MultipleOf=4096
	// +kubebuilder:validation:XValidation:rule="self >= oldSelf",message="sizeBytes cannot shrink"
	SizeBytes int64 `json:"sizeBytes"`
	// Replicas are the copies of the Shard, InSync or not, those that are being replaced included. Written by the
	// operator alone.
	//
	// +listType=map
	// +listMapKey=id
	// +kubebuilder:validation:MaxItems=8
	Replicas []ShardReplica `json:"replicas,omitempty"`
	// Membership says who serves the Shard. Written by the operator and the Primary, only by compare-and-swap.
	Membership ShardMembership `json:"membership"`
	// NextReplicaID is the ID of the next Replica to be created.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	// +kubebuilder:validation:XValidation:rule="self >= oldSelf",message="nextReplicaID only grows"
	NextReplicaID int64 `json:"nextReplicaID"`
	// MinInSync is how many Replicas must be in sync for changes to be acknowledged, as the Volume says. Written by the
	// operator.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=5
	MinInSync int32 `json:"minInSync,omitempty"`
}

// NeededInSync is MinInSync, or, until the operator has written it, what holds for as many Replicas.
func (s *ShardSpec) NeededInSync() int32 {
	if s.MinInSync > 0 {
		return s.MinInSync
	}
	return DefaultMinInSync(len(s.Replicas))
}

// ShardReplica is one copy and its place.
type ShardReplica struct {
	// ID is never used again within the Shard.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	ID int64 `json:"id"`
	// DeviceName is the Device object that holds the Replica. Device names are dev-UUID.
	//
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:Pattern=`^dev-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="deviceName of a Replica cannot change: another Device holds another Replica"
	DeviceName string `json:"deviceName"`
	// NodeName is the node the Device was on when the Replica was placed there.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	NodeName string `json:"nodeName"`
}

// ShardMembership is the record {epoch, primary, inSync}.
//
// +kubebuilder:validation:XValidation:rule="self.primary == 0 || (has(self.inSync) && self.primary in self.inSync)",message="primary must be 0 or one of inSync",fieldPath=".primary"
// +kubebuilder:validation:XValidation:rule="(self.epoch == 0) == (!has(self.inSync) || self.inSync.size() == 0)",message="inSync must be empty while epoch is 0, and not empty afterwards",fieldPath=".inSync"
// +kubebuilder:validation:XValidation:rule="self.epoch > oldSelf.epoch || (self.primary == oldSelf.primary && (has(self.inSync) ? has(oldSelf.inSync) && self.inSync == oldSelf.inSync : !has(oldSelf.inSync)))",message="primary and inSync change only together with a higher epoch",fieldPath=".epoch"
type ShardMembership struct {
	// Epoch grows by one at each change. 0: not yet served (its Replicas are being created). The API lets it jump
	// forward, for people who mend a restored API server, and never back.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:XValidation:rule="self >= oldSelf",message="epoch never goes back"
	Epoch int64 `json:"epoch"`
	// Primary is the ID of the Replica that orders writes; 0 while none can.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	Primary int64 `json:"primary"`
	// InSync are the IDs of the Replicas that hold every acknowledged write.
	//
	// +listType=set
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:Minimum=1
	InSync []int64 `json:"inSync,omitempty"`
}

// ShardReplicaStatus is what the storenode that has the Replica says of it. Each storenode applies its own entry.
type ShardReplicaStatus struct {
	// +kubebuilder:validation:Minimum=1
	ID int64 `json:"id"`
	// State is one of Created (space is reserved on the Device), InSync, Rebuilding, Stale, Failed.
	//
	// +kubebuilder:validation:Enum=Created;InSync;Rebuilding;Stale;Failed
	State string `json:"state"`
	// Epoch is the highest the Replica has seen.
	Epoch int64 `json:"epoch,omitempty"`
	// RebuildPercent is the progress of a Rebuild.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	RebuildPercent int32 `json:"rebuildPercent,omitempty"`
	// RebuildSecondsLeft is how long the Rebuild is expected to take yet; 0 if that is not known.
	//
	// +kubebuilder:validation:Minimum=0
	RebuildSecondsLeft int64 `json:"rebuildSecondsLeft,omitempty"`
	// UsedBytes allocated on the Device.
	//
	// +kubebuilder:validation:Minimum=0
	UsedBytes int64 `json:"usedBytes,omitempty"`
	// LostBlocks is how many Blocks of the Shard can be read from no Replica, told by the Primary. Each becomes readable
	// when it is written again.
	//
	// +kubebuilder:validation:Minimum=0
	LostBlocks int64 `json:"lostBlocks,omitempty"`
	// ScrubPercent is the progress of the present pass of the scrub over the Shard, told by the Primary; LastScrub when
	// the last pass under it was over.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	ScrubPercent int32 `json:"scrubPercent,omitempty"`
	// +kubebuilder:validation:Format=date-time
	// +kubebuilder:validation:MaxLength=32
	LastScrub string `json:"lastScrub,omitempty"`
	// PowerLost: the Replica's machine lost power, and writes that were acknowledged and not flushed may be missing here.
	PowerLost bool `json:"powerLost,omitempty"`
	// Disputed: the Replica knows that another one, or the object, has another membership of the same Epoch. Nothing is
	// served then until a person has written a newer one.
	Disputed bool `json:"disputed,omitempty"`
	// Incarnation of the storenode's process that reports this, as in its Lease: what an earlier one reported says nothing
	// of what power has taken since.
	//
	// +kubebuilder:validation:MaxLength=64
	Incarnation string `json:"incarnation,omitempty"`
	// Message says why, when State is not InSync.
	//
	// +kubebuilder:validation:MaxLength=4096
	Message string `json:"message,omitempty"`
}

// LostReplica is a Replica that is away.
type LostReplica struct {
	// +kubebuilder:validation:Minimum=1
	ID int64 `json:"id"`
	// Since when, by the operator's clock.
	Since metav1.Time `json:"since"`
}

// ReplicaContent is how new what a Replica has is, as the operator has seen it.
type ReplicaContent struct {
	// +kubebuilder:validation:Minimum=1
	ID int64 `json:"id"`
	// Epoch is the last in which the Replica was seen InSync; 0 if it never was. What was acknowledged in later Epochs it
	// may not have.
	//
	// +kubebuilder:validation:Minimum=0
	Epoch int64 `json:"epoch"`
	// OutSince is when it was first seen out of InSync, by the operator's clock; absent while it is InSync.
	OutSince *metav1.Time `json:"outSince,omitempty"`
	// Incomplete: it never was InSync, or a Rebuild of it has begun since and not ended: what it has is of no one moment.
	Incomplete bool `json:"incomplete,omitempty"`
}

// ShardStatus is the observed state of a Shard. Replicas is written by the storenodes, everything else by the operator.
type ShardStatus struct {
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Replicas has one entry for each Replica that a storenode holds. A storenode owns the entries of its own Replicas by
	// server-side apply; whoever else writes the status leaves the list alone (a merge patch of conditions, or an apply).
	//
	// +listType=map
	// +listMapKey=id
	// +kubebuilder:validation:MaxItems=16
	Replicas []ShardReplicaStatus `json:"replicas,omitempty"`
	// LostReplicas are those that are failed, or whose storenode or Device is away, and since when: after a delay
	// they are replaced.
	//
	// +listType=map
	// +listMapKey=id
	// +kubebuilder:validation:MaxItems=8
	LostReplicas []LostReplica `json:"lostReplicas,omitempty"`
	// Contents say how new what each Replica has is. They matter when all of InSync is lost.
	//
	// +listType=map
	// +listMapKey=id
	// +kubebuilder:validation:MaxItems=8
	Contents []ReplicaContent `json:"contents,omitempty"`
	// PrimaryNode, InSyncNodes (n1,n2,n3) and Rebuild (n3 40% 2m10s) say for people what spec.membership and
	// status.replicas say by ids. Nothing reads them.
	//
	// +kubebuilder:validation:MaxLength=253
	PrimaryNode string `json:"primaryNode,omitempty"`
	// +kubebuilder:validation:MaxLength=2048
	InSyncNodes string `json:"inSyncNodes,omitempty"`
	// +kubebuilder:validation:MaxLength=2048
	Rebuild string `json:"rebuild,omitempty"`
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Shard is a fixed part of a Volume: the unit of placement and replication.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=shd,categories=shale
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Volume",type=string,JSONPath=`.spec.volumeName`
// +kubebuilder:printcolumn:name="Index",type=integer,JSONPath=`.spec.index`
// +kubebuilder:printcolumn:name="Epoch",type=integer,JSONPath=`.spec.membership.epoch`
// +kubebuilder:printcolumn:name="Primary",type=string,JSONPath=`.status.primaryNode`
// +kubebuilder:printcolumn:name="InSync",type=string,JSONPath=`.status.inSyncNodes`
// +kubebuilder:printcolumn:name="Rebuild",type=string,JSONPath=`.status.rebuild`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Healthy",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Healthy")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Healthy")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Shard struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ShardSpec   `json:"spec"`
	Status ShardStatus `json:"status,omitempty"`
}

// ShardList is a list of Shards.
//
// +kubebuilder:object:root=true
type ShardList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Shard `json:"items"`
}
