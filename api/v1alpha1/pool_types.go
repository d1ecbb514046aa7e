package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// PoolSpec names Devices and the policy they are used by.
type PoolSpec struct {
	// DeviceSelector picks Devices; all given fields must match.
	DeviceSelector DeviceSelector `json:"deviceSelector"`
	// NodeSelector picks the nodes by their labels; empty picks all that run a storenode.
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`
	// Engine drives the Devices: uring.
	Engine string `json:"engine,omitempty"`
	// FailureDomain is the node label in which Replicas of a Shard must differ.
	FailureDomain string `json:"failureDomain,omitempty"`
	// OvercommitPercent of the capacity may be promised to thin Volumes; 100 promises no more than there is.
	OvercommitPercent int32 `json:"overcommitPercent,omitempty"`
}

// DeviceSelector picks Devices among those that a storenode sees.
type DeviceSelector struct {
	// Paths are shell patterns of the path on the node (/dev/nvme*n1, /var/lib/shale/devices/*.img).
	Paths []string `json:"paths,omitempty"`
	// Models are shell patterns of the model the kernel reports.
	Models []string `json:"models,omitempty"`
	// MinSizeBytes and MaxSizeBytes bound the size.
	MinSizeBytes int64 `json:"minSizeBytes,omitempty"`
	MaxSizeBytes int64 `json:"maxSizeBytes,omitempty"`
}

// PoolStatus is the observed state of a Pool.
type PoolStatus struct {
	ObservedGeneration int64              `json:"observedGeneration,omitempty"`
	DeviceCount        int32              `json:"deviceCount,omitempty"`
	ReadyDevices       int32              `json:"readyDevices,omitempty"`
	CapacityBytes      int64              `json:"capacityBytes,omitempty"`
	UsedBytes          int64              `json:"usedBytes,omitempty"`
	ReservedBytes      int64              `json:"reservedBytes,omitempty"`
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
}

// Pool is a named set of Devices with one policy.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:subresource:status
type Pool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   PoolSpec   `json:"spec"`
	Status PoolStatus `json:"status,omitempty"`
}

// PoolList is a list of Pools.
//
// +kubebuilder:object:root=true
type PoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Pool `json:"items"`
}
