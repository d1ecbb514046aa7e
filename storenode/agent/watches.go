package agent

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/shale-storage/shale/api/v1alpha1"
)

// existence lets pass what is seen for the first time, or for the last.
func existence() builder.Predicates {
	return builder.WithPredicates(predicate.Funcs{UpdateFunc: func(event.UpdateEvent) bool { return false }})
}

// shardsTouchedBy are the Shards whose Replicas a change of a Volume, Device or StoreNode concerns.
func (a *Agent) shardsTouchedBy(ctx context.Context, o client.Object) []reconcile.Request {
	var requests []reconcile.Request
	for _, s := range a.touched(ctx, o) {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKey{Name: s.Name}})
	}
	return requests
}

// volumesTouchedBy are the Volumes whose maps a change of a Device or StoreNode concerns, each once.
func (a *Agent) volumesTouchedBy(ctx context.Context, o client.Object) []reconcile.Request {
	var requests []reconcile.Request
	seen := map[string]bool{}
	for _, s := range a.touched(ctx, o) {
		if name := s.Spec.VolumeName; !seen[name] {
			seen[name] = true
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKey{Name: name}})
		}
	}
	return requests
}

func (a *Agent) touched(ctx context.Context, o client.Object) []v1alpha1.Shard {
	switch o := o.(type) {
	case *v1alpha1.Volume:
		return a.shardsWhere(ctx, client.MatchingFields{shardsByVolume: o.Name})
	case *v1alpha1.Device:
		return a.shardsWhere(ctx, client.MatchingFields{shardsByDevice: o.Name})
	case *v1alpha1.StoreNode:
		var devices v1alpha1.DeviceList
		if err := a.manager.GetClient().List(ctx, &devices); err != nil {
			return nil
		}
		var all []v1alpha1.Shard
		for i := range devices.Items {
			if devices.Items[i].Spec.NodeName == o.Name {
				all = append(all, a.shardsWhere(ctx, client.MatchingFields{shardsByDevice: devices.Items[i].Name})...)
			}
		}
		return all
	}
	return nil
}

func (a *Agent) shardsWhere(ctx context.Context, where client.MatchingFields) []v1alpha1.Shard {
	var list v1alpha1.ShardList
	if err := a.manager.GetClient().List(ctx, &list, where); err != nil {
		return nil
	}
	return list.Items
}
