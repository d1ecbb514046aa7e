package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// SnapshotSpec says of which Volume, and of which moment. It never changes.
type SnapshotSpec struct {
	// VolumeName is the Volume object.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="volumeName cannot change"
	VolumeName string `json:"volumeName"`
	// Sequence orders the Snapshots of a Volume: a higher one is of a later moment, and none is given twice.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="sequence cannot change"
	Sequence int64 `json:"sequence"`
}

// SnapshotStatus is the observed state of a Snapshot.
type SnapshotStatus struct {
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Ready says that the Snapshot holds on every Shard and can be read. It does not become false again.
	Ready bool `json:"ready,omitempty"`
	// SizeBytes of the Volume at that moment.
	//
	// +kubebuilder:validation:Minimum=0
	SizeBytes int64 `json:"sizeBytes,omitempty"`
	// Size is sizeBytes for people, as BytesText writes it. Nothing reads it.
	//
	// +kubebuilder:validation:MaxLength=32
	Size string `json:"size,omitempty"`
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Snapshot is a Volume as it was at a moment. This version knows the kind and takes none: a Snapshot is told that it
// is not supported.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=snap,categories=shale
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Volume",type=string,JSONPath=`.spec.volumeName`
// +kubebuilder:printcolumn:name="Sequence",type=integer,JSONPath=`.spec.sequence`
// +kubebuilder:printcolumn:name="Size",type=string,JSONPath=`.status.size`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Snapshot struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   SnapshotSpec   `json:"spec"`
	Status SnapshotStatus `json:"status,omitempty"`
}

// SnapshotList is a list of Snapshots.
//
// +kubebuilder:object:root=true
type SnapshotList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Snapshot `json:"items"`
}
