package setup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/shale-storage/shale/api/v1alpha1"
)

// kubernetes makes the Node with its kubelet's Lease, and removes all at the end.
func (w *world) kubernetes(node string) {
	w.t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: node}}
	lease.Spec.RenewTime = &metav1.MicroTime{Time: w.base}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: corev1.NamespaceNodeLease}}
	_ = w.api.Create(w.t.Context(), ns) // the API server may have made it
	w.must(w.api.Create(w.t.Context(), n))
	w.must(w.api.Create(w.t.Context(), lease))
	n.Status.VolumesInUse = []corev1.UniqueVolumeName{"kubernetes.io/csi/csi.shale.dev^v", "kubernetes.io/csi/other^x"}
	w.must(w.api.Status().Update(w.t.Context(), n))
	w.t.Cleanup(func() {
		_ = w.api.Delete(context.Background(), n)
		_ = w.api.Delete(context.Background(), lease)
	})
}

// claim makes a claim bound to a volume of the driver.
func (w *world) claim(name, driver string) {
	w.t.Helper()
	size := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeSpec{
		Capacity: size, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		PersistentVolumeSource: corev1.PersistentVolumeSource{
			CSI: &corev1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: name},
		},
	}}
	pvc := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{
			VolumeName: name, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: size},
		},
	}
	for _, o := range []client.Object{pv, pvc} {
		w.must(w.api.Create(w.t.Context(), o))
		w.t.Cleanup(func() {
			o.SetFinalizers(nil)
			_ = w.api.Update(context.Background(), o)
			_ = w.api.Delete(context.Background(), o)
		})
	}
}

// pod makes a pod on the node that uses the claims; owner is the kind of its controller, empty for none.
func (w *world) pod(name, node, owner string, claims ...string) {
	w.t.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	p.Spec = corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}}}
	if owner != "" {
		p.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: "apps/v1", Kind: owner, Name: "o", UID: "u", Controller: ptr.To(true),
		}}
	}
	for _, c := range claims {
		v := corev1.Volume{Name: c}
		v.PersistentVolumeClaim = &corev1.PersistentVolumeClaimVolumeSource{ClaimName: c}
		p.Spec.Volumes = append(p.Spec.Volumes, v)
	}
	w.must(w.api.Create(w.t.Context(), p))
	w.t.Cleanup(func() { _ = w.api.Delete(context.Background(), p, client.GracePeriodSeconds(0)) })
}

func (w *world) pods() []string {
	var list corev1.PodList
	w.must(w.api.List(w.t.Context(), &list, client.InNamespace("default")))
	var names []string
	for i := range list.Items {
		names = append(names, list.Items[i].Name)
	}
	slices.Sort(names)
	return names
}

func (w *world) tainted(node string) bool {
	var n corev1.Node
	w.must(w.api.Get(w.t.Context(), client.ObjectKey{Name: node}, &n))
	return slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == v1alpha1.TaintNodeDead })
}

func (w *world) still(node string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.silent[node] = !w.silent[node]
}

// verdict waits for the reason of a StoreNode's condition NodeAlive.
func (w *world) verdict(node, reason string) {
	w.t.Helper()
	w.until(fmt.Sprintf("storenode %s to be %s", node, reason), func() (bool, string) {
		var sn v1alpha1.StoreNode
		w.must(w.api.Get(w.t.Context(), client.ObjectKey{Name: node}, &sn))
		c := meta.FindStatusCondition(sn.Status.Conditions, v1alpha1.ConditionNodeAlive)
		return c != nil && c.Reason == reason, fmt.Sprintf("%+v", c)
	})
}

func (w *world) maintain(node, why string) {
	w.t.Helper()
	patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"maintenance":%q}}`, why))
	w.must(w.api.Patch(w.t.Context(), &v1alpha1.StoreNode{ObjectMeta: metav1.ObjectMeta{Name: node}}, patch))
}

// renewKubelet renews a node's own Lease.
func (w *world) renewKubelet(node string) {
	w.t.Helper()
	var lease coordinationv1.Lease
	w.must(w.api.Get(w.t.Context(), client.ObjectKey{Namespace: corev1.NamespaceNodeLease, Name: node}, &lease))
	lease.Spec.RenewTime = &metav1.MicroTime{Time: lease.Spec.RenewTime.Add(time.Second)}
	w.must(w.api.Update(w.t.Context(), &lease))
}

func TestPodsOfADeadNodeMoveAndTheNodeIsWelcomedBack(t *testing.T) {
	nodes := []string{"n1", "n2", "n3"}
	w := newWorld(t, nil, nodes...)
	w.kubernetes("n1")
	w.claim("ours", "csi.shale.dev")
	w.claim("others", "csi.example.com")
	w.pod("moves", "n1", "StatefulSet", "ours")
	w.pod("daemon", "n1", "DaemonSet", "ours")
	w.pod("both", "n1", "StatefulSet", "ours", "others")
	w.pod("plain", "n1", "ReplicaSet")
	w.pod("naked", "n1", "", "ours")
	w.pod("elsewhere", "n2", "StatefulSet", "ours")
	w.pass(2*time.Second, nodes...)
	w.still("n1")
	w.pass(5*time.Second, "n2", "n3")
	w.verdict("n1", v1alpha1.ReasonNodeDead)
	want := []string{"both", "daemon", "elsewhere", "naked", "plain"}
	w.until("the pod to be ended", func() (bool, string) { return slices.Equal(w.pods(), want), fmt.Sprint(w.pods()) })
	var n corev1.Node
	w.must(w.api.Get(t.Context(), client.ObjectKey{Name: "n1"}, &n))
	inUse := fmt.Sprint(n.Status.VolumesInUse)
	if !w.tainted("n1") || inUse != "[kubernetes.io/csi/other^x]" {
		t.Errorf("got taints %+v, in use %s", n.Spec.Taints, inUse)
	}

	w.still("n1")
	w.pass(3*time.Second, nodes...)
	w.verdict("n1", v1alpha1.ReasonStorenodeAlive)
	if !w.tainted("n1") {
		t.Error("the taint went before the kubelet was heard")
	}
	w.renewKubelet("n1")
	w.pass(2*time.Second, nodes...)
	w.until("the taint to go", func() (bool, string) {
		w.renew(nodes...)
		return !w.tainted("n1"), ""
	})
}

func TestCrashOfAStorenodeIsNotTheDeathOfItsNode(t *testing.T) {
	w := newWorld(t, nil, "n1", "n2", "n3")
	w.kubernetes("n1")
	w.claim("ours", "csi.shale.dev")
	w.pod("stays", "n1", "StatefulSet", "ours")
	w.pass(6*time.Second, "n2", "n3")
	w.verdict("n1", v1alpha1.ReasonHostAnswers)
	if w.tainted("n1") || len(w.pods()) != 1 {
		t.Errorf("got pods %v, tainted %v, want them untouched", w.pods(), w.tainted("n1"))
	}
}

func TestMaintenanceLeavesVolumesAttachedAndReplicasInPlace(t *testing.T) {
	nodes := []string{"n1", "n2", "n3", "n4"}
	w := newWorld(t, nil, nodes...)
	w.volume("v", gib, 3)
	s := w.shard("v-0 to be served", "v-0", served)
	away := node(s, s.Spec.Membership.Primary)
	alive := without(nodes, away)
	w.kubernetes(away)
	w.maintain(away, "new fan")
	w.still(away)
	w.pass(5*time.Second, alive...)
	w.verdict(away, v1alpha1.ReasonInMaintenance)
	w.shard("v-0 to fail over all the same", "v-0", func(s *v1alpha1.Shard) bool { return s.Spec.Membership.Epoch == 2 })
	w.clock.SetTime(w.clock.Now().Add(20 * time.Minute))
	w.pass(3*time.Second, alive...)
	w.touch()
	s = w.shard("v-0 to be looked at", "v-0", func(s *v1alpha1.Shard) bool { return s.Labels["touched"] != "" })
	if len(s.Spec.Replicas) != 3 || len(s.Status.LostReplicas) != 0 || w.tainted(away) {
		t.Errorf("got %+v, tainted %v, want its replicas and volumes in place", s, w.tainted(away))
	}

	w.maintain(away, "")
	w.verdict(away, v1alpha1.ReasonNodeDead)
	s = w.shard("the delay to begin", "v-0", func(s *v1alpha1.Shard) bool { return len(s.Status.LostReplicas) == 1 })
	if len(s.Spec.Replicas) != 3 {
		t.Errorf("got %+v, want nothing replaced before the delay", s.Spec.Replicas)
	}
}

func TestNothingIsPlacedOnANodeInMaintenance(t *testing.T) {
	w := newWorld(t, nil, "n1", "n2", "n3")
	w.maintain("n1", "new fan")
	w.volume("big", gib, 3)
	message := w.condition("big", v1alpha1.ReasonNoRoom, metav1.ConditionFalse)
	if want := "device " + device("n1") + ": its node is in maintenance (new fan)"; !strings.Contains(message, want) {
		t.Errorf("got %q, want %q in it", message, want)
	}
	w.volume("v", gib, 2)
	s := w.shard("v-0 to be served", "v-0", served)
	for _, r := range s.Spec.Replicas {
		if r.NodeName == "n1" {
			t.Errorf("%+v is on a node in maintenance", r)
		}
	}
	w.maintain("n1", "")
	w.condition("big", v1alpha1.ReasonServing, metav1.ConditionTrue)
}

func TestShardSetBackByARestoredAPIServerIsNotActedOn(t *testing.T) {
	nodes := []string{"n1", "n2", "n3", "n4"}
	w := newWorld(t, nil, nodes...)
	w.volume("v", gib, 3)
	s := w.shard("v-0 to be served", "v-0", served)
	primary := node(s, s.Spec.Membership.Primary)
	w.must(retry(func() error {
		s := w.shard("v-0", "v-0", func(*v1alpha1.Shard) bool { return true })
		s.Status.Replicas[1].Epoch = 9
		return w.api.Status().Update(t.Context(), s)
	}))
	w.pass(5*time.Second, without(nodes, primary)...)
	message := w.condition("v", v1alpha1.ReasonStaleRecord, metav1.ConditionFalse)
	if !strings.Contains(message, "docs/operate/restored-api-server.md") {
		t.Errorf("got %q, want it to name the runbook", message)
	}
	w.clock.SetTime(w.clock.Now().Add(20 * time.Minute))
	w.pass(3*time.Second, without(nodes, primary)...)
	w.touch()
	s = w.shard("v-0 to be looked at", "v-0", func(s *v1alpha1.Shard) bool { return s.Labels["touched"] != "" })
	if s.Spec.Membership.Epoch != 1 || len(s.Spec.Replicas) != 3 {
		t.Errorf("got %+v, want it untouched", s.Spec)
	}
	// The runbook: the newer record is written, one Epoch higher.
	w.must(retry(func() error {
		s := w.shard("v-0", "v-0", func(*v1alpha1.Shard) bool { return true })
		s.Spec.Membership.Epoch = 10
		return w.api.Update(t.Context(), s)
	}))
	w.shard("v-0 to fail over", "v-0", func(s *v1alpha1.Shard) bool { return s.Spec.Membership.Epoch >= 11 })
}

func TestShardOfWhichTwoRecordsAreKnownIsNotActedOn(t *testing.T) {
	nodes := []string{"n1", "n2", "n3", "n4"}
	w := newWorld(t, nil, nodes...)
	w.volume("v", gib, 3)
	s := w.shard("v-0 to be served", "v-0", served)
	primary := s.Spec.Membership.Primary
	knows := s.Spec.Replicas[1]
	w.tells(knows.ID, func(s *v1alpha1.ShardReplicaStatus) { s.Epoch, s.Disputed = 1, true })
	message := w.condition("v", v1alpha1.ReasonStaleRecord, metav1.ConditionFalse)
	for _, want := range []string{
		fmt.Sprintf("replica %d on node %s knows of two records of epoch 1", knows.ID, knows.NodeName),
		"docs/operate/restored-api-server.md",
	} {
		if !strings.Contains(message, want) {
			t.Errorf("got %q, want %q in it", message, want)
		}
	}
	if n := w.gauge("shale_operator_unavailable_shards"); n != 1 {
		t.Errorf("%g shards are unavailable, want this one", n)
	}
	w.pass(5*time.Second, without(nodes, node(s, primary))...)
	w.touch()
	s = w.shard("v-0 to be looked at", "v-0", func(s *v1alpha1.Shard) bool { return s.Labels["touched"] != "" })
	if s.Spec.Membership.Epoch != 1 || len(s.Spec.Replicas) != 3 {
		t.Errorf("got %+v, want it untouched", s.Spec)
	}
	w.change("v-0", func(s *v1alpha1.Shard) { s.Spec.Membership.Epoch = 2 })
	w.shard("v-0 to fail over", "v-0", func(s *v1alpha1.Shard) bool { return s.Spec.Membership.Epoch >= 3 })
}

func TestHostThatRefusesAnswersAndOneThatIsNotThereDoesNot(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if !(dialer{}).Answer(t.Context(), []string{address}) {
		t.Error("a host that accepts was not heard")
	}
	_ = l.Close()
	if !(dialer{}).Answer(t.Context(), []string{address}) {
		t.Error("a host that refuses was not heard")
	}
	if (dialer{}).Answer(t.Context(), nil) {
		t.Error("nobody was heard")
	}
	start := time.Now()
	if (dialer{}).Answer(t.Context(), []string{deaf(t), deaf(t)}) {
		t.Error("a host that does not answer was heard")
	}
	if took := time.Since(start); took < answerWithin || took > 3*answerWithin {
		t.Errorf("it took %s, want %s", took, answerWithin)
	}
}

// deaf is an address at which nothing is accepted or refused: the queue of a listener that is full.
func deaf(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	loopback := [4]byte{127, 0, 0, 1}
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: loopback}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	bound, _ := at.(*syscall.SockaddrInet4)
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(bound.Port))
	for { // until nobody is let in any more
		c, err := net.DialTimeout("tcp", address, 100*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { _ = c.Close() })
	}
}
