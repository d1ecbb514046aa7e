package evacuation

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/shale-storage/shale/api/v1alpha1"
)

// evacuator is one of a cluster with these objects.
func evacuator(t *testing.T, objects ...client.Object) *Evacuator {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	api := fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&corev1.Node{}).WithObjects(objects...).
		WithIndex(&corev1.Pod{}, "spec.nodeName", func(o client.Object) []string {
			p, _ := o.(*corev1.Pod)
			return []string{p.Spec.NodeName}
		}).Build()
	return &Evacuator{API: api, Live: api, Events: events.NewFakeRecorder(100)}
}

func TestNodeThatWasDeletedIsWelcomedWithoutAnError(t *testing.T) {
	e := evacuator(t)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", ResourceVersion: "1"}}
	node.Spec.Taints = []corev1.Taint{{Key: v1alpha1.TaintNodeDead, Effect: corev1.TaintEffectNoSchedule}}
	if err := e.Welcome(t.Context(), node); err != nil {
		t.Error(err)
	}
}
