package setup

import (
	"context"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/shale-storage/shale/api/v1alpha1"
)

func named(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }

func requests(names ...string) []reconcile.Request {
	var all []reconcile.Request
	for _, name := range names {
		all = append(all, reconcile.Request{NamespacedName: client.ObjectKey{Name: name}})
	}
	return all
}

func shardRequests(shards []v1alpha1.Shard) []reconcile.Request {
	var names []string
	for i := range shards {
		names = append(names, shards[i].Name)
	}
	return requests(names...)
}

func volumeOfShard(_ context.Context, o client.Object) []reconcile.Request {
	if s, ok := o.(*v1alpha1.Shard); ok {
		return requests(s.Spec.VolumeName)
	}
	return nil
}

func poolOfDevice(_ context.Context, o client.Object) []reconcile.Request {
	if d, ok := o.(*v1alpha1.Device); ok {
		return requests(d.Spec.PoolName)
	}
	return nil
}

func lacksRoom(v *v1alpha1.Volume) bool {
	c := meta.FindStatusCondition(v.Status.Conditions, v1alpha1.ConditionReady)
	return c != nil && (c.Reason == v1alpha1.ReasonNoRoom || c.Reason == v1alpha1.ReasonNoPool)
}
