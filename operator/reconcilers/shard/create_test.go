package shard

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/operator/inventory"
	"github.com/shale-storage/shale/operator/liveness"
	"github.com/shale-storage/shale/operator/metrics"
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
	s := creating(t, r)
	m := s.shard.Spec.Membership
	if m.Epoch != 1 || m.Primary != 2 || !slices.Equal(m.InSync, []int64{2, 3}) || len(s.shard.Spec.Replicas) != 2 {
		t.Errorf("got %+v, want replicas 2 and 3 alone", s.shard.Spec)
	}
	if past := displaced(s.shard); len(past) != 1 || past[0].ID != 1 {
		t.Errorf("got %+v, want replica 1 to be displaced", past)
	}
}

// creating is the Shard v-0 after a step of its creation.
func creating(t *testing.T, r *Reconciler) *scope {
	t.Helper()
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
	return s
}

// indexer gives a fake client the indexes of the cache.
type indexer struct{ *fake.ClientBuilder }

func (i indexer) IndexField(_ context.Context, o client.Object, field string, f client.IndexerFunc) error {
	i.WithIndex(o, field, f)
	return nil
}

// Replica 3 is to be made on a Device that hangs, and so does the one Device that is left.
func TestReplicaDoesNotWanderBetweenDevicesThatDoNotMakeIt(t *testing.T) {
	v := &v1alpha1.Volume{Spec: v1alpha1.VolumeSpec{Replicas: 3, PoolName: "p"}}
	v.Name = "v"
	object := replicated(3, 1, 2)
	object.Name, object.Spec.Membership, object.Spec.NextReplicaID = "v-0", v1alpha1.ShardMembership{}, 4
	object.Spec.SizeBytes = 1
	object.Status.Replicas = object.Status.Replicas[:2]
	pool := &v1alpha1.Pool{}
	pool.Name = "p"
	objects := []client.Object{v, object, pool}
	clock := clocktesting.NewFakePassiveClock(time.Unix(1e9, 0))
	alive := liveness.New(clock)
	for _, n := range []string{"1", "2", "3", "4"} {
		device := &v1alpha1.Device{Spec: v1alpha1.DeviceSpec{NodeName: "n" + n, PoolName: "p"}}
		device.Name, device.Status.CapacityBytes = "dev-"+n, 100
		device.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue}}
		objects = append(objects, device)
		alive.Observe("n"+n, liveness.Renewal{Duration: 24 * time.Hour})
	}
	builder := fake.NewClientBuilder().WithScheme(scheme(t)).WithObjects(objects...)
	if err := inventory.Index(t.Context(), indexer{builder}, Devices); err != nil {
		t.Fatal(err)
	}
	api := builder.Build()
	r := &Reconciler{
		API: api, Clock: clock, Inventory: inventory.New(api, alive, clock), Metrics: metrics.New(prometheus.NewRegistry()),
		Log: slog.New(slog.DiscardHandler), Events: events.NewFakeRecorder(9),
	}
	for _, c := range []struct {
		story  string
		later  time.Duration
		id     int64
		device string
		noRoom string
	}{
		{story: "it was just asked for", id: 3, device: "dev-3"},
		{story: "it is late", later: createWithin, id: 4, device: "dev-4"},
		{story: "it was just asked for again", id: 4, device: "dev-4"},
		{"it is late again", createWithin, 4, "dev-4", "replica 3 was not made on it in time"},
		{story: "the first device may be well again", later: lateMemory, id: 5, device: "dev-3"},
	} {
		clock.SetTime(clock.Now().Add(c.later))
		s := creating(t, r)
		last := s.shard.Spec.Replicas[2]
		if last.ID != c.id || last.DeviceName != c.device || !strings.Contains(s.noRoom, c.noRoom) {
			t.Errorf("%s: replica %d is on %s (%s), want %d on %s",
				c.story, last.ID, last.DeviceName, s.noRoom, c.id, c.device)
		}
	}
}
