package setup

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/shale-storage/shale/api/v1alpha1"
)

// asks makes the Volume ask for so many Replicas in sync.
func (w *world) asks(volume string, minInSync int32) {
	w.t.Helper()
	v := &v1alpha1.Volume{ObjectMeta: metav1.ObjectMeta{Name: volume}}
	w.must(w.api.Patch(w.t.Context(), v, client.RawPatch("application/merge-patch+json",
		fmt.Appendf(nil, `{"spec":{"minInSync":%d}}`, minInSync))))
}

// sync writes InSync as the Primary would.
func (w *world) sync(name string, inSync ...int64) {
	w.t.Helper()
	w.must(retry(func() error {
		s := w.shard(name, name, func(*v1alpha1.Shard) bool { return true })
		s.Spec.Membership.Epoch++
		s.Spec.Membership.InSync = inSync
		return w.api.Update(w.t.Context(), s)
	}))
}

func TestTooFewReplicasInSyncAreToldAndWhoHasToComeBack(t *testing.T) {
	w := newWorld(t, nil, "n1", "n2", "n3")
	w.volume("v", gib, 3)
	s := w.shard("v-0 to be served", "v-0", served)
	if s.Spec.MinInSync != 2 {
		t.Errorf("minInSync of three replicas is %d, want 2 if nobody says more", s.Spec.MinInSync)
	}
	w.condition("v", v1alpha1.ReasonServing, metav1.ConditionTrue)
	primary := s.Spec.Membership.Primary
	w.sync("v-0", primary)
	message := w.condition("v", v1alpha1.ReasonTooFewInSync, metav1.ConditionFalse)
	for _, r := range s.Spec.Replicas {
		want := fmt.Sprintf("replica %d on node %s", r.ID, r.NodeName)
		if out := r.ID != primary; strings.Contains(message, want) != out {
			t.Errorf("%q, is %q in it: want %v", message, want, out)
		}
	}
	// Whoever asks for less gets it without a change of membership; whoever asks for more is told.
	epoch := w.shard("v-0", "v-0", func(*v1alpha1.Shard) bool { return true }).Spec.Membership.Epoch
	w.asks("v", 1)
	w.condition("v", v1alpha1.ReasonServing, metav1.ConditionTrue)
	s = w.shard("v-0 to ask for 1", "v-0", func(s *v1alpha1.Shard) bool { return s.Spec.MinInSync == 1 })
	if s.Spec.Membership.Epoch != epoch {
		t.Errorf("epoch %d became %d", epoch, s.Spec.Membership.Epoch)
	}
	w.asks("v", 3)
	w.condition("v", v1alpha1.ReasonTooFewInSync, metav1.ConditionFalse)
	w.sync("v-0", 1, 2, 3)
	w.condition("v", v1alpha1.ReasonServing, metav1.ConditionTrue)
}

func TestTwoReplicasServeWithOneOfThemAway(t *testing.T) {
	w := newWorld(t, nil, "n1", "n2")
	w.volume("v", gib, 2)
	s := w.shard("v-0 to be served", "v-0", served)
	w.sync("v-0", s.Spec.Membership.Primary)
	s = w.shard("v-0 to be degraded", "v-0", func(s *v1alpha1.Shard) bool { return len(s.Spec.Membership.InSync) == 1 })
	if s.Spec.MinInSync != 1 {
		t.Errorf("minInSync of two replicas is %d, want 1 if nobody says more", s.Spec.MinInSync)
	}
	w.condition("v", v1alpha1.ReasonServing, metav1.ConditionTrue)
}
