package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// PoolSpec names Devices and the policy they are used by.
type PoolSpec struct {
	// DeviceSelector picks Devices; all given fields must match.
	DeviceSelector DeviceSelector `json:"deviceSelector"`
	// NodeSelector picks the nodes by their labels; empty picks all that run a storenode.
	//
	// +kubebuilder:validation:MaxProperties=32
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`
	// Engine drives the Devices: uring.
	//
	// +kubebuilder:validation:Enum=uring
	// +kubebuilder:default=uring
	Engine string `json:"engine,omitempty"`
	// FailureDomain is the node label in which Replicas of a Shard must differ. Without it, or on a node that does not
	// have the label, the node is the domain.
	//
	// +kubebuilder:validation:MaxLength=317
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`
	FailureDomain string `json:"failureDomain,omitempty"`
	// OvercommitPercent of the capacity may be promised to thin Volumes; 100 promises no more than there is.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	// +kubebuilder:default=100
	OvercommitPercent int32 `json:"overcommitPercent,omitempty"`
}

// DeviceSelector picks Devices among those that a storenode sees.
//
// +kubebuilder:validation:XValidation:rule="!has(self.minSizeBytes) || !has(self.maxSizeBytes) || self.maxSizeBytes == 0 || self.minSizeBytes <= self.maxSizeBytes",message="maxSizeBytes must be at least minSizeBytes, or 0 for no bound",fieldPath=".maxSizeBytes"
type DeviceSelector struct {
	// Paths are shell patterns of the path on the node (/dev/nvme*n1, /var/lib/shale/devices/*.img). A Pool without any
	// would select nothing.
	//
	// +required
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=512
	// +kubebuilder:validation:items:Pattern=`^/`
	// +listType=set
	Paths []string `json:"paths,omitempty"`
	// Models are shell patterns of the model the kernel reports; empty takes any.
	//
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=128
	// +listType=set
	Models []string `json:"models,omitempty"`
	// MinSizeBytes and MaxSizeBytes bound the size; 0 does not.
	//
	// +kubebuilder:validation:Minimum=0
	MinSizeBytes int64 `json:"minSizeBytes,omitempty"`
	// +kubebuilder:validation:Minimum=0
	MaxSizeBytes int64 `json:"maxSizeBytes,omitempty"`
}

// PoolStatus is the observed state of a Pool. Written by the operator.
type PoolStatus struct {
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// DeviceCount is how many Devices the Pool selects, ReadyDevices how many of them serve.
	DeviceCount  int32 `json:"deviceCount,omitempty"`
	ReadyDevices int32 `json:"readyDevices,omitempty"`
	// CapacityBytes of the Devices, what is allocated of it, and what is promised to Replicas.
	CapacityBytes int64 `json:"capacityBytes,omitempty"`
	UsedBytes     int64 `json:"usedBytes,omitempty"`
	ReservedBytes int64 `json:"reservedBytes,omitempty"`
	// Capacity, Used and Reserved are the numbers above for people, as BytesText writes them. Nothing reads them.
	//
	// +kubebuilder:validation:MaxLength=32
	Capacity string `json:"capacity,omitempty"`
	// +kubebuilder:validation:MaxLength=32
	Used string `json:"used,omitempty"`
	// +kubebuilder:validation:MaxLength=32
	Reserved string `json:"reserved,omitempty"`
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Pool is a named set of Devices with one policy.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=shale
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Devices",type=integer,JSONPath=`.status.deviceCount`
// +kubebuilder:printcolumn:name="Serving",type=integer,JSONPath=`.status.readyDevices`
// +kubebuilder:printcolumn:name="Capacity",type=string,JSONPath=`.status.capacity`
// +kubebuilder:printcolumn:name="Used",type=string,JSONPath=`.status.used`
// +kubebuilder:printcolumn:name="Reserved",type=string,JSONPath=`.status.reserved`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
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
