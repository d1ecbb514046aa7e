package agent

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/shale-storage/shale/api/v1alpha1"
)

// kubernetes is an API server without rules, with the objects given.
func kubernetes(t *testing.T, calls interceptor.Funcs, objects ...client.Object) client.WithWatch {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(v1alpha1.AddToScheme(scheme), coordinationv1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(calls).
		WithIndex(&v1alpha1.Shard{}, shardsByVolume, ofVolume).
		WithStatusSubresource(&v1alpha1.StoreNode{}, &v1alpha1.Device{}, &v1alpha1.Shard{}).Build()
}

func TestStoreNodeThatAPersonDeletedOrChangedIsMadeRight(t *testing.T) {
	api := kubernetes(t, interceptor.Funcs{})
	told := 0
	r := &registration{
		api: api, reader: api, clock: clock.RealClock{}, node: "n1", address: "10.0.0.1:7800", version: "v",
		log: slog.New(slog.DiscardHandler), made: func() { told++ },
	}
	if err := r.first(t.Context()); err != nil {
		t.Fatal(err)
	}
	key := client.ObjectKey{Name: "n1"}
	for story, spoil := range map[string]func(*v1alpha1.StoreNode) error{
		"deleted":  func(n *v1alpha1.StoreNode) error { return api.Delete(t.Context(), n) },
		"emptied":  func(n *v1alpha1.StoreNode) error { n.Spec.Addresses = nil; return api.Update(t.Context(), n) },
		"in order": func(*v1alpha1.StoreNode) error { return nil },
	} {
		told = 0
		var node v1alpha1.StoreNode
		if err := errors.Join(api.Get(t.Context(), key, &node), spoil(&node)); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: key}); err != nil {
			t.Fatal(err)
		}
		err := api.Get(t.Context(), key, &node)
		if err != nil || node.Spec.Addresses["tcp"] != "10.0.0.1:7800" || node.Status.Version != "v" {
			t.Errorf("%s: got %+v, %v", story, node, err)
		}
		if want := map[bool]int{true: 0, false: 1}[story == "in order"]; told != want {
			t.Errorf("%s: told %d times, want %d", story, told, want)
		}
	}
}

func TestRegistrationWaitsForAnAPIServerThatIsAway(t *testing.T) {
	tries := 0
	api := kubernetes(t, interceptor.Funcs{Create: func(
		ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption,
	) error {
		if tries++; tries < 2 {
			return errors.New("connection refused")
		}
		return c.Create(ctx, o, opts...)
	}})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r := &registration{api: api, reader: api, clock: clock.RealClock{}, node: "n1", log: slog.New(slog.DiscardHandler)}
	if err := r.first(ctx); err != nil || tries != 2 {
		t.Errorf("after %d tries: %v", tries, err)
	}
}
