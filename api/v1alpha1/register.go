package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion of all objects here.
var GroupVersion = schema.GroupVersion{Group: "shale.dev", Version: "v1alpha1"}

var schemeBuilder = runtime.NewSchemeBuilder(func(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion,
		&Pool{}, &PoolList{}, &StoreNode{}, &StoreNodeList{}, &Device{}, &DeviceList{},
		&Volume{}, &VolumeList{}, &Shard{}, &ShardList{}, &Snapshot{}, &SnapshotList{},
	)
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
})

// AddToScheme makes the objects known to a client or a manager.
var AddToScheme = schemeBuilder.AddToScheme
