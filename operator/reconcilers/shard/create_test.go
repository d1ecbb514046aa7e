package shard

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/operator/inventory"
	"github.com/shale-storage/shale/operator/liveness"
)

// Somebody asked for fewer Replicas while one was refused.
func TestReplicaThatWasRefusedIsNotInSyncFromTheBeginning(t *testing.T) {
	v := &v1alpha1.Volume{Spec: v1alpha1.VolumeSpec{Replicas: 2}}
	v.Name = "v"
	object := &v1alpha1.Shard{Spec: v1alpha1.ShardSpec{VolumeName: "v", NextReplicaID: 4}}
	object.Name = "v-0"
	objects := []client.Object{v, object}
	for id, node := range map[int64]string{1: "n1", 2: "n2", 3: "n3"} {
		device := &v1alpha1.Device{Spec: v1alpha1.DeviceSpec{NodeName: node}}
		device.Name = "dev-" + node
		objects = append(objects, device)
		object.Spec.Replicas = append(object.Spec.Replicas, v1alpha1.ShardReplica{
			ID: id, DeviceName: device.Name, NodeName: node,
		})
		object.Status.Replicas = append(object.Status.Replicas, v1alpha1.ShardReplicaStatus{
			ID: id, State: map[bool]string{true: v1alpha1.ReplicaFailed, false: v1alpha1.ReplicaCreated}[id == 1],
		})
	}
	slices.SortFunc(object.Spec.Replicas, func(a, b v1alpha1.ShardReplica) int { return int(a.ID - b.ID) })
	clock := clocktesting.NewFakePassiveClock(time.Unix(0, 0))
	r := &Reconciler{
		API:   fake.NewClientBuilder().WithScheme(scheme(t)).WithObjects(objects...).Build(),
		Clock: clock, Inventory: inventory.New(nil, liveness.New(clock), clock),
		Log: slog.New(slog.DiscardHandler), Events: events.NewFakeRecorder(1),
	}
	var shard v1alpha1.Shard
	if err := r.API.Get(t.Context(), client.ObjectKey{Name: "v-0"}, &shard); err != nil {
		t.Fatal(err)
	}
	s, err := r.gather(t.Context(), &shard)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.create(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	m := s.shard.Spec.Membership
	if m.Epoch != 1 || m.Primary != 2 || !slices.Equal(m.InSync, []int64{2, 3}) || len(s.shard.Spec.Replicas) != 2 {
		t.Errorf("got %+v, want replicas 2 and 3 alone", s.shard.Spec)
	}
	if past := displaced(s.shard); len(past) != 1 || past[0].ID != 1 {
		t.Errorf("got %+v, want replica 1 to be displaced", past)
	}
}
