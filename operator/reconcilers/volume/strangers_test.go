package volume

import (
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/operator/inventory"
	"github.com/shale-storage/shale/operator/liveness"
	"github.com/shale-storage/shale/operator/reconcilers"
)

// reconciler works on an API without rules, of which the cache shows the Shards only if it is not behind.
func reconciler(t *testing.T, behind bool, objects ...client.Object) *Reconciler {
	t.Helper()
	known := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(known); err != nil {
		t.Fatal(err)
	}
	name := func(o client.Object) []string {
		if s, ok := o.(*v1alpha1.Shard); ok && !behind {
			return []string{s.Spec.VolumeName}
		}
		return nil
	}
	api := fake.NewClientBuilder().WithScheme(known).WithObjects(objects...).
		WithIndex(&v1alpha1.Shard{}, "spec.volumeName", name).
		WithStatusSubresource(&v1alpha1.Volume{}, &v1alpha1.Shard{}).Build()
	clock := clocktesting.NewFakePassiveClock(time.Unix(1, 0))
	return &Reconciler{
		API: api, Live: api, Events: events.NewFakeRecorder(9),
		Inventory: inventory.New(api, liveness.New(clock), clock),
	}
}

// served is a Shard of the Volume id that has data.
func served(index int32, id string) *v1alpha1.Shard {
	v := &v1alpha1.Volume{Spec: v1alpha1.VolumeSpec{ID: id, SizeBytes: int64(index) + 1, ShardSizeBytes: 1}}
	v.Name = "v"
	s := missingShards(v, nil)[index]
	s.Spec.Membership = v1alpha1.ShardMembership{Epoch: 1, Primary: 1, InSync: []int64{1}}
	return s
}

func (r *Reconciler) pass(t *testing.T) (*v1alpha1.Volume, error) {
	t.Helper()
	v := &v1alpha1.Volume{}
	key := client.ObjectKey{Name: "v"}
	if _, err := r.Reconcile(t.Context(), reconcile.Request{NamespacedName: key}); err != nil {
		t.Fatal(err)
	}
	return v, r.API.Get(t.Context(), key, v)
}

// The object of the Volume with the ID "old" was lost, and somebody wrote one of the same name, with a new ID.
func TestShardsOfAnotherVolumeOfTheSameNameAreNotTakenForItsOwn(t *testing.T) {
	v := &v1alpha1.Volume{Spec: v1alpha1.VolumeSpec{ID: "new", SizeBytes: 2, ShardSizeBytes: 1}}
	v.Name = "v"
	r := reconciler(t, false, v, served(0, "old"))
	v, err := r.pass(t)
	if err != nil {
		t.Fatal(err)
	}
	c := readiness(v)
	if c.Status != metav1.ConditionFalse || c.Reason != v1alpha1.ReasonOtherVolume ||
		!strings.Contains(c.Message, "shard v-0 is of a volume with the id old") || v.Status.ShardCount != 0 {
		t.Errorf("got %+v, want it to tell of the stranger", v.Status)
	}
	var list v1alpha1.ShardList
	if err := r.API.List(t.Context(), &list); err != nil || len(list.Items) != 1 {
		t.Errorf("there are %d shards, %v, want the old one alone", len(list.Items), err)
	}
	// It was told of the stranger, and never had data: once the stranger is gone, its Shards are made.
	if names := hadData(v, missingShards(v, nil)); names != nil {
		t.Errorf("%v are missed", names)
	}
}

func TestStrangerDoesNotHideThatAShardIsMissing(t *testing.T) {
	v := &v1alpha1.Volume{Spec: v1alpha1.VolumeSpec{SizeBytes: 1, ShardSizeBytes: 1}}
	v.Name, v.Status.ShardCount, v.Status.ObservedGeneration = "v", 1, 1
	reconcilers.Set(&v.Status.Conditions, v1alpha1.ConditionReady,
		reconcilers.Verdict{Reason: v1alpha1.ReasonOtherVolume}, 1)
	if names := hadData(v, missingShards(v, nil)); len(names) != 1 {
		t.Errorf("a shard that was made, and may have been told to be missing, is not missed: %v", names)
	}
}

func TestDeletingAVolumeDeletesNothingOfAnotherOfTheSameName(t *testing.T) {
	for story, behind := range map[string]bool{"seen": false, "the cache is behind": true} {
		v := &v1alpha1.Volume{Spec: v1alpha1.VolumeSpec{ID: "new", SizeBytes: 2, ShardSizeBytes: 1}}
		v.Name, v.Finalizers = "v", []string{reconcilers.Finalizer}
		v.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
		own := served(1, "new")
		own.Finalizers = nil // its storenodes give the space back at once
		r := reconciler(t, behind, v, served(0, "old"), own)
		var err error
		for range 3 {
			if _, err = r.pass(t); err != nil {
				break
			}
		}
		if !apierrors.IsNotFound(err) {
			t.Errorf("%s: the volume is still there: %v", story, err)
		}
		var stranger, gone v1alpha1.Shard
		err = r.API.Get(t.Context(), client.ObjectKey{Name: "v-0"}, &stranger)
		if err != nil || stranger.DeletionTimestamp != nil {
			t.Errorf("%s: the shard of the other volume is deleted: %v, %v", story, stranger.DeletionTimestamp, err)
		}
		if err := r.API.Get(t.Context(), client.ObjectKey{Name: "v-1"}, &gone); !apierrors.IsNotFound(err) {
			t.Errorf("%s: its own shard is there: %v", story, err)
		}
	}
}
