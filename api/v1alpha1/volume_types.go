package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// VolumeSpec is what is asked of a Volume.
type VolumeSpec struct {
	// ID is the UUID of the Volume on the wire and on Devices; drawn by whoever creates the Volume, immutable.
	ID string `json:"id"`
	// SizeBytes, a multiple of 4096.
	SizeBytes int64 `json:"sizeBytes"`
	// PoolName is the Pool that gives the Devices.
	PoolName string `json:"poolName"`
	// Replicas wanted of each Shard.
	Replicas int32 `json:"replicas"`
	// ShardSizeBytes, a multiple of 1 MiB.
	ShardSizeBytes int64 `json:"shardSizeBytes"`
	// Attachments are the nodes that may write now, each with its fence generation. Written by the csi controller.
	Attachments []VolumeAttachment `json:"attachments,omitempty"`
	// AttachGeneration is the highest fence generation ever given; it only grows.
	AttachGeneration int64 `json:"attachGeneration,omitempty"`
}

// VolumeAttachment lets one node use the Volume.
type VolumeAttachment struct {
	NodeName string `json:"nodeName"`
	// Generation fences all lower ones.
	Generation int64 `json:"generation"`
	ReadOnly   bool  `json:"readOnly,omitempty"`
}

// VolumeStatus is the observed state of a Volume.
type VolumeStatus struct {
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// ShardCount and HealthyShards, for people.
	ShardCount    int32              `json:"shardCount,omitempty"`
	HealthyShards int32              `json:"healthyShards,omitempty"`
	UsedBytes     int64              `json:"usedBytes,omitempty"`
	Conditions    []metav1.Condition `json:"conditions,omitempty"`
}

// Volume is a fixed block address space: what a PersistentVolume is in Shale.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:subresource:status
type Volume struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   VolumeSpec   `json:"spec"`
	Status VolumeStatus `json:"status,omitempty"`
}

// VolumeList is a list of Volumes.
//
// +kubebuilder:object:root=true
type VolumeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Volume `json:"items"`
}
