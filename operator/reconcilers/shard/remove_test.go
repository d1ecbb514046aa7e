package shard

import (
	"slices"
	"testing"

	"github.com/shale-storage/shale/api/v1alpha1"
)

// Whatever becomes of these Devices, the Shard is looked at.
func TestDevicesOfAShardAreThoseOfDisplacedReplicasToo(t *testing.T) {
	s := &v1alpha1.Shard{}
	s.Spec.Replicas = []v1alpha1.ShardReplica{
		{ID: 1, DeviceName: "dev-b"}, {ID: 2, DeviceName: "dev-c"}, {ID: 3, DeviceName: "dev-a"},
	}
	s.Status.Replicas = []v1alpha1.ShardReplicaStatus{{ID: 1}}
	displace(s, 1)
	s.Status.Replicas = append(s.Status.Replicas, v1alpha1.ShardReplicaStatus{ID: 9})
	displace(s, 2)
	s.Spec.Replicas = append(s.Spec.Replicas, v1alpha1.ShardReplica{ID: 4, DeviceName: "dev-c"})
	if got, want := Devices(s), []string{"dev-a", "dev-b", "dev-c"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if past := displaced(s); len(past) != 2 || !past[0].Reported || past[1].Reported {
		t.Errorf("got %+v, want both, of which the first was reported", past)
	}
	s.Annotations[DisplacedAnnotation] = `[{"id":7,"deviceName":"dev-z","nodeName":"n1"}]`
	if past := displaced(s); len(past) != 1 || past[0].ID != 7 || past[0].Reported {
		t.Errorf("of an earlier version: got %+v", past)
	}
}
