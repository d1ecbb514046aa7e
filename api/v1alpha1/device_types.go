package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// DeviceSpec is the identity of a Device. The object is named dev-UUID and made by the storenode that has formatted
// the Device (claimed), or cand-NODE-HASH while it is only a candidate that a Pool selects and that must not be
// touched.
type DeviceSpec struct {
	// UUID in the Superblock; empty for a candidate that could not be claimed.
	UUID string `json:"uuid,omitempty"`
	// PoolName is the Pool that claimed it.
	PoolName string `json:"poolName"`
	// NodeName is the node the Device is on now.
	NodeName string `json:"nodeName"`
	// Path on that node.
	Path string `json:"path"`
	// Serial and Model, as the kernel reports them.
	Serial string `json:"serial,omitempty"`
	Model  string `json:"model,omitempty"`
}

// DeviceStatus is the observed state of a Device.
type DeviceStatus struct {
	ObservedGeneration int64              `json:"observedGeneration,omitempty"`
	CapacityBytes      int64              `json:"capacityBytes,omitempty"`
	UsedBytes          int64              `json:"usedBytes,omitempty"`
	ReservedBytes      int64              `json:"reservedBytes,omitempty"`
	ReplicaCount       int32              `json:"replicaCount,omitempty"`
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
}

// Device is one SSD, or a file in a lab, given to a storenode.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:subresource:status
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
