// Package snapshot tells who makes a Snapshot that this version takes none, instead of leaving them to wait.
package snapshot

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/operator/reconcilers"
)

// Reconciler of Snapshots. API must be given.
type Reconciler struct {
	API client.Client
}

// Reconcile one Snapshot.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	var s v1alpha1.Snapshot
	if err := r.API.Get(ctx, req.NamespacedName, &s); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	base := s.DeepCopy()
	s.Status.ObservedGeneration = s.Generation
	reconcilers.Set(&s.Status.Conditions, v1alpha1.ConditionReady, reconcilers.Verdict{
		Reason: v1alpha1.ReasonNotSupported,
		Message: "This version of Shale takes no snapshots, and nothing of Volume " + s.Spec.VolumeName +
			" is kept here: delete this object, and back the data up from within a pod",
	}, s.Generation)
	return reconcile.Result{}, reconcilers.Patch(ctx, r.API, base, &s)
}
