package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// AttachGenerationStep lies between the generations of two attachments. Those between are the lives of the attachment:
// each process of an initiator that serves it opens the Volume with one of its own, higher than those before, so that
// what a process left on its way when it died cannot arrive after its successor's writes.
const AttachGenerationStep = 1 << 32

// VolumeSpec is what is asked of a Volume.
//
// +kubebuilder:validation:XValidation:rule="self.sizeBytes <= self.shardSizeBytes * 65536",message="sizeBytes must not need more than 65536 Shards of shardSizeBytes",fieldPath=".sizeBytes"
// +kubebuilder:validation:XValidation:rule="self.?attachGeneration.orValue(0) >= oldSelf.?attachGeneration.orValue(0)",message="attachGeneration only grows",fieldPath=".attachGeneration"
// +kubebuilder:validation:XValidation:rule="!has(self.attachments) || self.attachments.all(a, a.generation <= self.?attachGeneration.orValue(0))",message="attachments cannot have a generation above attachGeneration",fieldPath=".attachments"
// +kubebuilder:validation:XValidation:rule="self.?minInSync.orValue(1) <= self.replicas",message="minInSync cannot be more than replicas",fieldPath=".minInSync"
type VolumeSpec struct {
	// ID is the UUID of the Volume on the wire and on Devices; drawn by whoever creates the Volume, immutable.
	//
	// +kubebuilder:validation:MaxLength=36
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="id cannot change"
	ID string `json:"id"`
	// SizeBytes, a multiple of 4096. It cannot change yet: Shards that are there do not grow.
	//
	// +kubebuilder:validation:Minimum=4096
	// +kubebuilder:validation:Maximum=4503599627370496
	// +kubebuilder:validation:MultipleOf=4096
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="sizeBytes cannot change: volumes cannot grow yet"
	SizeBytes int64 `json:"sizeBytes"`
	// PoolName is the Pool that gives the Devices.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="poolName cannot change"
	PoolName string `json:"poolName"`
	// Replicas wanted of each Shard.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=5
	Replicas int32 `json:"replicas"`
	// MinInSync is how many Replicas of a Shard must be in sync for it to acknowledge changes. With fewer, changes wait,
	// and fail after a while; reads and flushes go on. If it is not given, 1 of up to 2 Replicas, 2 of more.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=5
	MinInSync int32 `json:"minInSync,omitempty"`
	// ShardSizeBytes, a multiple of 1 MiB.
	//
	// +kubebuilder:validation:Minimum=1048576
	// +kubebuilder:validation:Maximum=1099511627776
	// +kubebuilder:validation:MultipleOf=1048576
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="shardSizeBytes cannot change"
	ShardSizeBytes int64 `json:"shardSizeBytes"`
	// Attachments are the nodes that may write now, each with its fence generation. Written by the csi controller.
	//
	// +listType=map
	// +listMapKey=nodeName
	// +kubebuilder:validation:MaxItems=256
	Attachments []VolumeAttachment `json:"attachments,omitempty"`
	// AttachGeneration is the highest fence generation ever given; it only grows.
	//
	// +kubebuilder:validation:Minimum=0
	AttachGeneration int64 `json:"attachGeneration,omitempty"`
}

// NeededInSync is MinInSync, or what holds if it is not given.
func (s *VolumeSpec) NeededInSync() int32 {
	if s.MinInSync > 0 {
		return s.MinInSync
	}
	return DefaultMinInSync(int(s.Replicas))
}

// Keeps reports whether the Shard goes on being served though somebody deleted it: a Shard goes with its Volume, and
// not while that is attached. A Volume of the same name and another ID is not the Shard's.
func (v *Volume) Keeps(s *Shard) bool {
	return v.Spec.ID == s.Spec.VolumeID && (v.DeletionTimestamp.IsZero() || len(v.Spec.Attachments) > 0)
}

// DefaultMinInSync is what holds if nobody says how many of so many Replicas must be in sync. With three or more, what
// is acknowledged is never on a single Device. Of two, either may be away without a pause of writes.
func DefaultMinInSync(replicas int) int32 {
	const many = 3
	if replicas >= many {
		return 2
	}
	return 1
}

// VolumeAttachment lets one node use the Volume.
type VolumeAttachment struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	NodeName string `json:"nodeName"`
	// Generation fences all lower ones.
	//
	// +kubebuilder:validation:Minimum=1
	Generation int64 `json:"generation"`
	ReadOnly   bool  `json:"readOnly,omitempty"`
}

// VolumeStatus is the observed state of a Volume. Written by the operator.
type VolumeStatus struct {
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// ShardCount is how many Shards were made: of a Volume that may hold data, none of these is ever made anew.
	// HealthyShards are for people: a Shard is healthy while all Replicas wanted are InSync.
	ShardCount    int32 `json:"shardCount,omitempty"`
	HealthyShards int32 `json:"healthyShards,omitempty"`
	// UsedBytes that its Replicas have allocated, all together.
	UsedBytes int64 `json:"usedBytes,omitempty"`
	// Size is spec.sizeBytes and Used is usedBytes for people, as BytesText writes them. Nothing reads them.
	//
	// +kubebuilder:validation:MaxLength=32
	Size string `json:"size,omitempty"`
	// +kubebuilder:validation:MaxLength=32
	Used string `json:"used,omitempty"`
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Volume is a fixed block address space: what a PersistentVolume is in Shale.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=vol,categories=shale
// +kubebuilder:subresource:status
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63",message="metadata.name must have at most 63 characters: Shards and labels are named after it"
// +kubebuilder:printcolumn:name="Size",type=string,JSONPath=`.status.size`
// +kubebuilder:printcolumn:name="Replicas",type=integer,JSONPath=`.spec.replicas`
// +kubebuilder:printcolumn:name="Pool",type=string,JSONPath=`.spec.poolName`
// +kubebuilder:printcolumn:name="Shards",type=integer,JSONPath=`.status.shardCount`
// +kubebuilder:printcolumn:name="Healthy",type=integer,JSONPath=`.status.healthyShards`
// +kubebuilder:printcolumn:name="Attached",type=string,JSONPath=`.spec.attachments[*].nodeName`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Used",type=string,priority=1,JSONPath=`.status.used`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
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
