package evacuation

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/ptr"
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

// claimed are a pod of node n1 that a finalizer holds, and its claim.
func claimed(deletion *metav1.Time, grace *int64) []client.Object {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "default", Name: "p", Finalizers: []string{"example.com/held"},
		DeletionTimestamp: deletion, DeletionGracePeriodSeconds: grace,
		OwnerReferences: []metav1.OwnerReference{{Kind: "StatefulSet", Controller: ptr.To(true)}},
	}}
	pod.Spec.NodeName = "n1"
	use := corev1.Volume{Name: "data"}
	use.PersistentVolumeClaim = &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}
	pod.Spec.Volumes = []corev1.Volume{use}
	pvc := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "c"}}
	pvc.Spec.VolumeName = "v"
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v"}}
	pv.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: "v"}
	return []client.Object{&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, pod, pvc, pv}
}

func TestPodIsEndedOnce(t *testing.T) {
	now := metav1.Now()
	for story, c := range map[string]struct {
		deletion *metav1.Time
		grace    *int64
		want     int
	}{
		"it runs":                   {nil, nil, 1},
		"it was deleted with grace": {&now, ptr.To(int64(30)), 1},
		"it was ended before, and a finalizer holds": {&now, ptr.To(int64(0)), 0},
	} {
		t.Run(story, func(t *testing.T) {
			e := evacuator(t, claimed(c.deletion, c.grace)...)
			done, err := e.Evacuate(t.Context(), "n1", "the plug was pulled")
			if err != nil || len(done.Ended) != c.want {
				t.Errorf("got %+v, %v, want %d pods ended", done, err, c.want)
			}
		})
	}
}

// regards are the UIDs of what was told of.
type regards struct{ uids []types.UID }

func (r *regards) Eventf(regarding, _ runtime.Object, _, _, _, _ string, _ ...any) {
	if o, ok := regarding.(client.Object); ok {
		r.uids = append(r.uids, o.GetUID())
	}
}

// kubectl describe shows no others.
func TestDetachedVolumeIsToldOfByItsUID(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "node"}}
	node.Status.VolumesInUse = []corev1.UniqueVolumeName{inUse + "v", inUse + "gone"}
	e := evacuator(t, node, &v1alpha1.Volume{ObjectMeta: metav1.ObjectMeta{Name: "v", UID: "volume"}})
	told := &regards{}
	e.Events = told
	done, err := e.Evacuate(t.Context(), "n1", "its host is silent")
	if want := []types.UID{"node", "volume", ""}; err != nil || !slices.Equal(told.uids, want) || len(done.Released) != 2 {
		t.Errorf("told of %q, released %q, %v, want %q", told.uids, done.Released, err, want)
	}
}
