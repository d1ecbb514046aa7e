package setup

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/shale-storage/shale/api/v1alpha1"
)

// evict takes a Replica of v-0 out of InSync, as its Primary does.
func (w *world) evict(id int64) {
	w.t.Helper()
	w.change("v-0", func(s *v1alpha1.Shard) {
		m := &s.Spec.Membership
		m.Epoch++
		m.InSync = slices.DeleteFunc(m.InSync, func(other int64) bool { return other == id })
	})
}

// wait lets the delay of replacements pass, while the nodes given renew their Leases.
func (w *world) wait(alive ...string) {
	w.t.Helper()
	time.Sleep(3 * look) // until the operator sees since when the Replica is lost: what it does not see begins now
	w.clock.SetTime(w.clock.Now().Add(10 * time.Minute))
	w.pass(3*time.Second, alive...)
	w.touch()
}

// backup is a Replica of v-0 that is not Primary.
func (w *world) backup() v1alpha1.ShardReplica {
	w.t.Helper()
	s := w.shard("v-0 to be served", "v-0", served)
	isBackup := func(r v1alpha1.ShardReplica) bool { return r.ID != s.Spec.Membership.Primary }
	return s.Spec.Replicas[slices.IndexFunc(s.Spec.Replicas, isBackup)]
}

// There are as many nodes as Replicas: the lost one's own node is the only place.
func TestReplicaOfADeadSSDIsReplacedByTheNewSSDOfItsNode(t *testing.T) {
	nodes := []string{"n1", "n2", "n3"}
	w := newWorld(t, nil, nodes...)
	w.volume("v", gib, 3)
	lost := w.backup()
	w.ready(lost.NodeName, metav1.ConditionFalse, v1alpha1.ReasonMissing)
	w.shard("the replica to be lost", "v-0", func(s *v1alpha1.Shard) bool { return len(s.Status.LostReplicas) == 1 })
	w.evict(lost.ID)
	w.addDevice(device("n9"), lost.NodeName)
	w.must(w.api.Delete(t.Context(), &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Name: lost.DeviceName}}))
	w.wait(nodes...)
	s := w.shard("a replacement", "v-0", func(s *v1alpha1.Shard) bool { return len(s.Spec.Replicas) == 4 })
	if r := s.Spec.Replicas[3]; r.NodeName != lost.NodeName || r.DeviceName != device("n9") {
		t.Errorf("got %+v, want it on the new device of node %s", r, lost.NodeName)
	}
}

func TestReplicaOfADeadNodeIsReplacedInItsZoneAndOneOfBothGoesIfItReturns(t *testing.T) {
	nodes := []string{"n1", "n2", "n3"}
	w := newWorld(t, nil, nodes...)
	zone := func(node, name string) {
		w.kubernetes(node)
		patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"zone":"`+name+`"}}}`))
		w.must(w.api.Patch(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}, patch))
	}
	for _, n := range nodes {
		zone(n, "zone-"+n)
	}
	w.must(w.api.Patch(t.Context(), &v1alpha1.Pool{ObjectMeta: metav1.ObjectMeta{Name: "fast"}},
		client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"failureDomain":"zone"}}`))))
	w.volume("v", gib, 3)
	lost := w.backup()
	alive := append(without(nodes, lost.NodeName), "n4")
	w.addNode("n4")
	zone("n4", "zone-"+lost.NodeName)
	w.pass(5*time.Second, alive...)
	w.shard("the replica to be lost", "v-0", func(s *v1alpha1.Shard) bool { return len(s.Status.LostReplicas) == 1 })
	w.evict(lost.ID)
	w.wait(alive...)
	s := w.shard("a replacement", "v-0", func(s *v1alpha1.Shard) bool { return len(s.Spec.Replicas) == 4 })
	if r := s.Spec.Replicas[3]; r.NodeName != "n4" {
		t.Errorf("got %+v, want it on node n4", r)
	}
	w.pass(2*time.Second, append(alive, lost.NodeName)...)
	w.shard("the replacement to be taken off", "v-0", func(s *v1alpha1.Shard) bool {
		return len(s.Spec.Replicas) == 3 && node(s, lost.ID) != "" && len(s.Spec.Membership.InSync) == 2
	})
}

// The Primary serves what it can read, and has nobody to bring in sync.
func TestPrimaryAloneOnADeviceThatFailsIsGivenAReplicaToSaveItsDataTo(t *testing.T) {
	nodes := []string{"n1", "n2", "n3"}
	w := newWorld(t, nil, nodes...)
	w.volume("v", gib, 2)
	lost := w.backup()
	w.ready(lost.NodeName, metav1.ConditionFalse, v1alpha1.ReasonMissing)
	w.shard("the replica to be lost", "v-0", func(s *v1alpha1.Shard) bool { return len(s.Status.LostReplicas) == 1 })
	w.evict(lost.ID)
	s := w.shard("v-0", "v-0", func(*v1alpha1.Shard) bool { return true })
	alone := s.Spec.Membership.Primary
	w.tells(alone, func(s *v1alpha1.ShardReplicaStatus) { s.State = v1alpha1.ReplicaFailed })
	s = w.shard("another replica", "v-0", func(s *v1alpha1.Shard) bool { return len(s.Spec.Replicas) == 3 })
	if m := s.Spec.Membership; m.Primary != alone || !slices.Equal(m.InSync, []int64{alone}) || m.Epoch != 3 {
		t.Errorf("got %+v, want the same primary alone in sync", m)
	}
	w.condition("v", v1alpha1.ReasonNoPrimary, metav1.ConditionFalse)
}

// Its storenode lives and reports the Replica as stale, for ever.
func TestReplicaOnADeviceThatHangsIsReplaced(t *testing.T) {
	nodes := []string{"n1", "n2", "n3", "n4"}
	w := newWorld(t, nil, nodes...)
	w.volume("v", gib, 3)
	hangs := w.backup()
	w.says(hangs.NodeName, v1alpha1.ConditionHealthy, metav1.ConditionFalse, v1alpha1.ReasonStalled)
	w.shard("the replica to be lost", "v-0", func(s *v1alpha1.Shard) bool { return len(s.Status.LostReplicas) == 1 })
	w.evict(hangs.ID)
	w.wait(nodes...)
	w.shard("a replacement", "v-0", func(s *v1alpha1.Shard) bool { return len(s.Spec.Replicas) == 4 })
	w.says(hangs.NodeName, v1alpha1.ConditionHealthy, metav1.ConditionTrue, v1alpha1.ReasonHealthy)
	w.shard("the replica to be back", "v-0", func(s *v1alpha1.Shard) bool { return len(s.Status.LostReplicas) == 0 })
}

func anyhow(*v1alpha1.Shard) bool { return true }

// Another copy would fill the next Device, and all that is on it could not be written any more.
func TestReplicaOutOfSyncOnAFullDeviceIsToldAndStays(t *testing.T) {
	nodes := []string{"n1", "n2", "n3", "n4"}
	w := newWorld(t, nil, nodes...)
	w.volume("v", gib, 3)
	full := w.backup()
	w.says(full.NodeName, v1alpha1.ConditionHealthy, metav1.ConditionFalse, v1alpha1.ReasonFull)
	w.evict(full.ID)
	w.shard("the replica to be told", "v-0", func(s *v1alpha1.Shard) bool {
		c := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionHealthy)
		return c != nil && strings.Contains(c.Message, "its device is full")
	})
	w.wait(nodes...)
	if s := w.shard("v-0", "v-0", anyhow); len(s.Spec.Replicas) > 3 || len(s.Status.LostReplicas) > 0 {
		t.Errorf("it counts as lost: %+v, %+v", s.Spec.Replicas, s.Status.LostReplicas)
	}
}

// The storenode waits for its Device, and so says neither that it has made the Replica nor that it cannot.
func TestReplicaThatIsNotMadeInTimeIsPlacedElsewhere(t *testing.T) {
	nodes := []string{"n1", "n2", "n3"}
	w := newWorld(t, nil, nodes...)
	w.mu.Lock()
	w.down["n3"] = true
	w.mu.Unlock()
	w.volume("v", gib, 2)
	s := w.shard("a replica on n3", "v-0", func(s *v1alpha1.Shard) bool { return len(s.Status.Replicas) == 1 })
	if node(s, 2) != "n3" {
		t.Fatalf("got %+v, want the second replica on n3", s.Spec.Replicas)
	}
	w.pass(31*time.Second, nodes...)
	w.touch()
	s = w.shard("v-0 to be served", "v-0", served)
	if node(s, 3) != "n2" || node(s, 2) != "" {
		t.Errorf("got %+v, want replica 3 on n2 instead of 2", s.Spec.Replicas)
	}
}
