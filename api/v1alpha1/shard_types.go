package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ShardSpec says where a Shard lives and who serves it.
type ShardSpec struct {
	// VolumeName is the Volume object this Shard is part of.
	VolumeName string `json:"volumeName"`
	// VolumeID is the UUID of the Volume on the wire and on Devices. Kept here so that a restored object names the same
	// data.
	VolumeID string `json:"volumeID"`
	// Index of the Shard in its Volume, from 0.
	Index int32 `json:"index"`
	// SizeBytes of the Shard; the last Shard of a Volume may be shorter.
	SizeBytes int64 `json:"sizeBytes"`
	// Replicas are the copies of the Shard, InSync or not. Written by the operator alone.
	Replicas []ShardReplica `json:"replicas,omitempty"`
	// Membership says who serves the Shard. Written by the operator and the Primary, only by compare-and-swap.
	Membership ShardMembership `json:"membership"`
	// NextReplicaID is the ID of the next Replica to be created.
	NextReplicaID int64 `json:"nextReplicaID"`
}

// ShardReplica is one copy and its place.
type ShardReplica struct {
	// ID is never used again within the Shard.
	ID int64 `json:"id"`
	// DeviceName is the Device object that holds the Replica. Device names are dev-UUID.
	DeviceName string `json:"deviceName"`
	// NodeName is the node the Device was on when the Replica was placed there.
	NodeName string `json:"nodeName"`
}

// ShardMembership is the record {epoch, primary, inSync}.
type ShardMembership struct {
	// Epoch grows by one at each change. 0: not yet served (its Replicas are being created).
	Epoch int64 `json:"epoch"`
	// Primary is the ID of the Replica that orders writes; 0 while none can.
	Primary int64 `json:"primary"`
	// InSync are the IDs of the Replicas that hold every acknowledged write.
	InSync []int64 `json:"inSync,omitempty"`
}

// ShardReplicaStatus is what the storenode that has the Replica says of it. Each storenode applies its own entry.
type ShardReplicaStatus struct {
	ID int64 `json:"id"`
	// State is one of Created (space is reserved on the Device), InSync, Rebuilding, Stale, Failed.
	State string `json:"state"`
	// Epoch is the highest the Replica has seen.
	Epoch int64 `json:"epoch,omitempty"`
	// RebuildPercent is the progress of a Rebuild.
	RebuildPercent int32 `json:"rebuildPercent,omitempty"`
	// UsedBytes allocated on the Device.
	UsedBytes int64 `json:"usedBytes,omitempty"`
	// Message says why, when State is not InSync.
	Message string `json:"message,omitempty"`
}

// ShardStatus is the observed state of a Shard.
type ShardStatus struct {
	ObservedGeneration int64                `json:"observedGeneration,omitempty"`
	Replicas           []ShardReplicaStatus `json:"replicas,omitempty"`
	Conditions         []metav1.Condition   `json:"conditions,omitempty"`
}

// Shard is a fixed part of a Volume: the unit of placement and replication.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:subresource:status
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
