package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// StoreNodeSpec is where a storenode can be reached; the object has the name of its Kubernetes node.
type StoreNodeSpec struct {
	// Addresses by transport: "tcp" → host:port.
	Addresses map[string]string `json:"addresses,omitempty"`
}

// StoreNodeStatus is the observed state of a storenode. Its liveness is the Lease NAME in Shale's namespace.
type StoreNodeStatus struct {
	ObservedGeneration int64  `json:"observedGeneration,omitempty"`
	Version            string `json:"version,omitempty"`
	// Incarnation is drawn at each start of the process.
	Incarnation string `json:"incarnation,omitempty"`
	// Unreachable are the StoreNodes that this one, as a Backup of theirs, has not heard from for longer than the grace
	// period, so that the operator may promote at once.
	Unreachable []string           `json:"unreachable,omitempty"`
	Conditions  []metav1.Condition `json:"conditions,omitempty"`
}

// StoreNode is one storenode process on one Kubernetes node.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:subresource:status
type StoreNode struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   StoreNodeSpec   `json:"spec"`
	Status StoreNodeStatus `json:"status,omitempty"`
}

// StoreNodeList is a list of StoreNodes.
//
// +kubebuilder:object:root=true
type StoreNodeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []StoreNode `json:"items"`
}
