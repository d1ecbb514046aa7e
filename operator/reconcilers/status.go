package reconcilers

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/shale-storage/shale/api/v1alpha1"
)

// Finalizer keeps a Volume while it has Shards, and a Shard while storenodes hold space for it.
const Finalizer = "shale.dev/space"

// VolumeLabel of a Shard is the name of its Volume, so that people and a live list can select by it.
const VolumeLabel = "shale.dev/volume"

// maxMessage bounds a condition's message; the API's own bound is far above.
const maxMessage = 2000

// Verdict is a condition without its bookkeeping.
type Verdict struct {
	OK              bool
	Reason, Message string
}

// Set writes the verdict into the conditions.
func Set(conditions *[]metav1.Condition, kind string, v Verdict, generation int64) {
	status := metav1.ConditionFalse
	if v.OK {
		status = metav1.ConditionTrue
	}
	meta.SetStatusCondition(conditions, metav1.Condition{
		Type: kind, Status: status, Reason: v.Reason, Message: v1alpha1.Brief(v.Message, maxMessage),
		ObservedGeneration: generation,
	})
}

// Patch writes what changed of the status since base; an object that is gone is no error.
func Patch(ctx context.Context, api client.Client, base, object client.Object) error {
	if equality.Semantic.DeepEqual(base, object) {
		return nil
	}
	err := api.Status().Patch(ctx, object, client.MergeFrom(base))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("patch status of %s: %w", object.GetName(), err)
	}
	return nil
}
