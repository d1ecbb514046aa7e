package setup

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/shale-storage/shale/api/v1alpha1"
)

// A person deletes the Volume object itself; of the claim's deletion Kubernetes takes the same care.
func TestVolumeThatIsAttachedKeepsItsDataUntilItIsNot(t *testing.T) {
	w := newWorld(t, nil, "n1", "n2", "n3")
	v := w.volume("v", gib, 3)
	w.shard("v-0 to be served", "v-0", served)
	attach := func(text string) {
		t.Helper()
		patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec":`+text+`}`))
		w.must(w.api.Patch(t.Context(), v, patch))
	}
	attach(`{"attachGeneration":1,"attachments":[{"nodeName":"n1","generation":1}]}`)
	w.must(w.api.Delete(t.Context(), v))
	message := w.condition("v", v1alpha1.ReasonDeleting, metav1.ConditionFalse)
	if !strings.Contains(message, "attached to node n1") {
		t.Errorf("the deletion says %q", message)
	}
	s := w.shard("v-0 to be there", "v-0", func(*v1alpha1.Shard) bool { return true })
	if s.DeletionTimestamp != nil {
		t.Error("the shard of a volume in use is being deleted")
	}
	attach(`{"attachments":null}`)
	w.gone()
}

// Nobody waits for what does not come.
func TestSnapshotIsToldThatThereAreNone(t *testing.T) {
	w := newWorld(t, nil, "n1")
	s := &v1alpha1.Snapshot{ObjectMeta: metav1.ObjectMeta{Name: "s"}}
	s.Spec = v1alpha1.SnapshotSpec{VolumeName: "v", Sequence: 1}
	w.must(w.api.Create(t.Context(), s))
	w.until("the snapshot to be answered", func() (bool, string) {
		w.must(w.api.Get(t.Context(), client.ObjectKeyFromObject(s), s))
		c := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionReady)
		told := c != nil && c.Reason == v1alpha1.ReasonNotSupported && strings.Contains(c.Message, "Volume v ")
		return told, fmt.Sprintf("%+v", s.Status)
	})
	w.must(w.api.Delete(t.Context(), s))
}

// What a Shard has goes with its Volume, not with a slip of the hand.
func TestShardThatAPersonDeletesIsServedUntilItsVolumeGoes(t *testing.T) {
	nodes := []string{"n1", "n2", "n3"}
	w := newWorld(t, nil, nodes...)
	v := w.volume("v", gib, 3)
	s := w.shard("v-0 to be served", "v-0", served)
	w.must(w.api.Delete(t.Context(), s))
	s = w.shard("v-0 to say that it is kept", "v-0", func(s *v1alpha1.Shard) bool {
		c := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionDeletable)
		return c != nil && c.Reason == v1alpha1.ReasonVolumeExists && c.Status == metav1.ConditionFalse
	})
	w.event(s, v1alpha1.ReasonVolumeExists, "its volume v exists")
	w.pass(5*time.Second, without(nodes, node(s, s.Spec.Membership.Primary))...)
	s = w.shard("v-0 to fail over", "v-0", func(s *v1alpha1.Shard) bool { return s.Spec.Membership.Epoch == 2 })
	if len(s.Status.Replicas) != 3 {
		t.Errorf("got %+v, want its three replicas kept", s.Status.Replicas)
	}
	w.renew(nodes...)
	w.change("v-0", func(s *v1alpha1.Shard) { // the Primary has rebuilt it
		s.Spec.Membership.Epoch++
		s.Spec.Membership.InSync = []int64{1, 2, 3}
	})
	w.must(w.api.Delete(t.Context(), v))
	w.gone()
}

// Past a finalizer there is nothing that keeps an object; its data is on the Devices all the same.
func TestShardOfAVolumeThatHasDataIsNeverMadeAnewEmpty(t *testing.T) {
	w := newWorld(t, nil, "n1", "n2", "n3")
	v := w.volume("v", 2*gib, 3)
	w.condition("v", v1alpha1.ReasonServing, metav1.ConditionTrue)
	attach := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"attachGeneration":1}}`))
	w.must(w.api.Patch(t.Context(), v, attach))
	s := w.shard("v-0", "v-0", served)
	w.must(w.api.Delete(t.Context(), s))
	w.must(w.api.Patch(t.Context(), s, client.RawPatch("application/merge-patch+json",
		[]byte(`{"metadata":{"finalizers":null}}`))))
	message := w.condition("v", v1alpha1.ReasonShardMissing, metav1.ConditionFalse)
	if !strings.Contains(message, "v-0") || !strings.Contains(message, "docs/operate/missing-shards.md") {
		t.Errorf("got %q, want it to name the shard and the runbook", message)
	}
	// The runbook: the object is made again by hand, without Replicas if none is left.
	again := &v1alpha1.Shard{ObjectMeta: metav1.ObjectMeta{Name: "v-0", Labels: s.Labels, Finalizers: s.Finalizers}}
	again.Spec = v1alpha1.ShardSpec{
		VolumeName: "v", VolumeID: v.Spec.ID, SizeBytes: gib, NextReplicaID: 4,
	}
	w.must(w.api.Create(t.Context(), again))
	w.condition("v", v1alpha1.ReasonServing, metav1.ConditionTrue)
	s = w.shard("v-0", "v-0", served)
	if s.Spec.NextReplicaID != 7 || len(s.Spec.Replicas) != 3 {
		t.Errorf("got %+v, want three new replicas", s.Spec)
	}
}
