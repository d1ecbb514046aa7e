package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// StoreNodeSpec is where a storenode can be reached; the object has the name of its Kubernetes node.
type StoreNodeSpec struct {
	// Addresses by transport: "tcp" → host:port.
	//
	// +kubebuilder:validation:MaxProperties=4
	// +kubebuilder:validation:XValidation:rule="self.all(transport, transport == 'tcp')",message="addresses has no key but tcp"
	Addresses map[string]string `json:"addresses,omitempty"`
	// Maintenance, if not empty, says why somebody works on the node. While it is set, no Replica of the node is replaced
	// elsewhere, and its volumes are not detached, however long it is away. Failover goes on. Written by people.
	//
	// +kubebuilder:validation:MaxLength=256
	Maintenance string `json:"maintenance,omitempty"`
}

// Conditions of StoreNodes beside ConditionReady, and their reasons.
const (
	// ConditionNodeAlive: the node is not known to be dead. While it is False, volumes of the node are detached, its pods
	// that use them are ended, and the node has the taint TaintNodeDead. An operator that is not to evacuate dead nodes
	// only tells it.
	ConditionNodeAlive = "NodeAlive"
	// ReasonStorenodeAlive: its storenode renews its Lease.
	ReasonStorenodeAlive = "StorenodeAlive"
	// ReasonHostAnswers: the storenode is down, the host is not.
	ReasonHostAnswers = "HostAnswers"
	// ReasonKubeletAlive: the storenode is down, the kubelet was heard since.
	ReasonKubeletAlive = "KubeletAlive"
	// ReasonSuspected: the storenode is silent, and it is found out whether the node is dead.
	ReasonSuspected = "Suspected"
	// ReasonInMaintenance: the node seems dead, and spec.maintenance is set, so nothing is detached.
	ReasonInMaintenance = "Maintenance"
	// ReasonTooManySilent: the node seems dead, and fewer than half of the storenodes live, so nothing is detached.
	ReasonTooManySilent = "TooManySilent"
	// ReasonNodeDead: the node is dead, the message says how that is known.
	ReasonNodeDead = "NodeDead"
	// ConditionMaintenance: somebody works on the node, as spec.maintenance says.
	ConditionMaintenance = "Maintenance"
	// ReasonAskedFor and ReasonNotAskedFor: spec.maintenance is set, or not.
	ReasonAskedFor    = "AskedFor"
	ReasonNotAskedFor = "NotAskedFor"
)

// TaintNodeDead keeps new pods from a node that the operator has found dead; it goes when the node is back.
const TaintNodeDead = "shale.dev/node-dead"

// StoreNodeStatus is the observed state of a storenode. Its liveness is the Lease storenode-NAME in Shale's namespace.
// The conditions Ready, NodeAlive and Maintenance are written by the operator, everything else by the storenode.
type StoreNodeStatus struct {
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// +kubebuilder:validation:MaxLength=256
	Version string `json:"version,omitempty"`
	// Incarnation is drawn at each start of the process.
	//
	// +kubebuilder:validation:MaxLength=128
	Incarnation string `json:"incarnation,omitempty"`
	// Unreachable are the StoreNodes that this one, as a Backup of theirs, has not heard from for longer than the grace
	// period, so that the operator may promote at once.
	//
	// +kubebuilder:validation:MaxItems=1024
	// +kubebuilder:validation:items:MaxLength=253
	Unreachable []string `json:"unreachable,omitempty"`
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// StoreNode is one storenode process on one Kubernetes node.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=stn,categories=shale
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.spec.addresses.tcp`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.status.version`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Maintenance",type=string,JSONPath=`.spec.maintenance`
// +kubebuilder:printcolumn:name="Node",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="NodeAlive")].reason`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Unreachable",type=string,priority=1,JSONPath=`.status.unreachable`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
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
