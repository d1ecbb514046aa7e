package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// DeviceSpec is the identity of a Device. The object is named dev-UUID and made by the storenode that has formatted
// the Device (claimed), or cand-NODE-HASH while it is only a candidate that a Pool selects and that must not be
// touched.
//
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.uuid) || oldSelf.uuid.size() == 0 || (has(self.uuid) && self.uuid == oldSelf.uuid)",message="uuid is the Device's identity and cannot change",fieldPath=".uuid"
type DeviceSpec struct {
	// UUID in the Superblock; empty for a candidate that could not be claimed.
	//
	// +kubebuilder:validation:MaxLength=36
	// +kubebuilder:validation:Pattern=`^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})?$`
	UUID string `json:"uuid,omitempty"`
	// PoolName is the Pool that claimed it.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	PoolName string `json:"poolName"`
	// NodeName is the node the Device is on now.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	NodeName string `json:"nodeName"`
	// Path on that node.
	//
	// +kubebuilder:validation:MaxLength=4096
	Path string `json:"path"`
	// Serial and Model, as the kernel reports them.
	//
	// +kubebuilder:validation:MaxLength=256
	Serial string `json:"serial,omitempty"`
	// +kubebuilder:validation:MaxLength=256
	Model string `json:"model,omitempty"`
}

// DeviceStatus is the observed state of a Device. Written by the storenode that has it.
type DeviceStatus struct {
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// CapacityBytes for data, what is allocated of it, and what is promised to Replicas.
	CapacityBytes int64 `json:"capacityBytes,omitempty"`
	UsedBytes     int64 `json:"usedBytes,omitempty"`
	ReservedBytes int64 `json:"reservedBytes,omitempty"`
	ReplicaCount  int32 `json:"replicaCount,omitempty"`
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

// Device is one SSD, or a file in a lab, given to a storenode.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=dev,categories=shale
// +kubebuilder:subresource:status
// +kubebuilder:validation:XValidation:rule="!has(self.spec.uuid) || self.spec.uuid.size() == 0 || self.metadata.name == 'dev-' + self.spec.uuid",message="metadata.name of a claimed Device must be dev- and spec.uuid",fieldPath=".spec.uuid"
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.spec.nodeName`
// +kubebuilder:printcolumn:name="Pool",type=string,JSONPath=`.spec.poolName`
// +kubebuilder:printcolumn:name="Path",type=string,JSONPath=`.spec.path`
// +kubebuilder:printcolumn:name="Capacity",type=string,JSONPath=`.status.capacity`
// +kubebuilder:printcolumn:name="Used",type=string,JSONPath=`.status.used`
// +kubebuilder:printcolumn:name="Reserved",type=string,priority=1,JSONPath=`.status.reserved`
// +kubebuilder:printcolumn:name="Replicas",type=integer,JSONPath=`.status.replicaCount`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Model",type=string,priority=1,JSONPath=`.spec.model`
// +kubebuilder:printcolumn:name="Serial",type=string,priority=1,JSONPath=`.spec.serial`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Device struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   DeviceSpec   `json:"spec"`
	Status DeviceStatus `json:"status,omitempty"`
}

// DeviceList is a list of Devices.
//
// +kubebuilder:object:root=true
type DeviceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Device `json:"items"`
}
