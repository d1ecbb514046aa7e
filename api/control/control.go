// Package control is how the reconcilers of all components look at objects: which changes they hear of, and how soon
// they try again what failed.
package control

import (
	"time"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// FirstRetry and LastRetry bound the pause before what failed is tried again.
const (
	FirstRetry = 5 * time.Millisecond
	LastRetry  = 10 * time.Second
)

// Workers are n, and how soon they try again what failed: at once, then within seconds of the return of an API server
// that was away for long. Each object is counted by itself, as all of a dead node's may fail together.
func Workers(n int) controller.Options {
	retries := workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](FirstRetry, LastRetry)
	return controller.Options{MaxConcurrentReconciles: n, RateLimiter: retries}
}

// SpecChanges lets pass what changes desired state or begins a deletion. Statuses change all the time.
func SpecChanges() builder.Predicates { return builder.WithPredicates(Changed()) }

// Changed is SpecChanges to be combined with others. It also lets pass another object of the same name: one that was
// made while the watch was away looks like an update of the one before, often of the same generation.
func Changed() predicate.Predicate {
	another := func(e event.UpdateEvent) bool { return e.ObjectOld.GetUID() != e.ObjectNew.GetUID() }
	return predicate.Or(predicate.GenerationChangedPredicate{}, predicate.Funcs{UpdateFunc: another})
}
