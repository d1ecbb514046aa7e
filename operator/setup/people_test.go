package setup

import (
	"strings"
	"testing"

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
