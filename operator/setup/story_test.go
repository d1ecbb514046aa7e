package setup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/shale-storage/shale/api/v1alpha1"
)

func served(s *v1alpha1.Shard) bool {
	return s.Spec.Membership.Epoch == 1 && s.Spec.Membership.Primary != 0
}

func node(s *v1alpha1.Shard, id int64) string {
	for _, r := range s.Spec.Replicas {
		if r.ID == id {
			return r.NodeName
		}
	}
	return ""
}

func without(nodes []string, gone ...string) []string {
	return slices.DeleteFunc(slices.Clone(nodes), func(n string) bool { return slices.Contains(gone, n) })
}

func TestVolumeBecomesReadyAndItsDeletionGivesTheSpaceBack(t *testing.T) {
	w := newWorld(t, nil, "n1", "n2", "n3")
	v := w.volume("v", 3*gib-4096, 3)
	w.condition("v", v1alpha1.ReasonServing, metav1.ConditionTrue)
	primaries := map[string]int{}
	for _, name := range []string{"v-0", "v-1", "v-2"} {
		s := w.shard(name+" to be served", name, served)
		primaries[node(s, s.Spec.Membership.Primary)]++
		if len(s.Spec.Membership.InSync) != 3 || s.Spec.NextReplicaID != 4 {
			t.Errorf("%s: got %+v, want three InSync and nextReplicaID 4", name, s.Spec)
		}
	}
	if len(primaries) != 3 {
		t.Errorf("primaries are on %v, want one on each node", primaries)
	}
	w.must(w.api.Delete(t.Context(), v))
	w.gone()
}

func TestVolumeWithoutRoomSaysWhyForEachDevice(t *testing.T) {
	w := newWorld(t, nil, "n1", "n2")
	w.volume("few", gib, 3)
	message := w.condition("few", v1alpha1.ReasonNoRoom, metav1.ConditionFalse)
	if want := "pool fast: 2 nodes have Devices, 3 replicas wanted"; !strings.Contains(message, want) {
		t.Errorf("got %q, want %q in it", message, want)
	}
	w.volume("big", 11*gib, 2)
	message = w.condition("big", v1alpha1.ReasonNoRoom, metav1.ConditionFalse)
	if want := "node n1: device " + device("n1") + ": 0 B free of 1.0 GiB needed"; !strings.Contains(message, want) {
		t.Errorf("got %q, want %q in it", message, want)
	}
}

func TestRefusedReplicaIsPlacedElsewhereUnderANewID(t *testing.T) {
	w := newWorld(t, nil, "n1", "n2", "n3")
	w.mu.Lock()
	w.refuses["n2"] = true
	w.mu.Unlock()
	w.volume("a", gib, 2)
	w.volume("b", gib, 2)
	for _, name := range []string{"a-0", "b-0"} {
		s := w.shard(name+" to be served", name, served)
		for _, r := range s.Spec.Replicas {
			if r.NodeName == "n2" {
				t.Errorf("%s: %+v is where it was refused", name, r)
			}
		}
	}
}

func TestFailoverPromotesAnInSyncBackupWhenTheLeaseExpires(t *testing.T) {
	nodes := []string{"n1", "n2", "n3"}
	w := newWorld(t, nil, nodes...)
	w.volume("v", gib, 3)
	s := w.shard("v-0 to be served", "v-0", served)
	dead := node(s, s.Spec.Membership.Primary)
	old := s.Spec.Membership.Primary
	w.pass(5*time.Second, without(nodes, dead)...)
	s = w.shard("v-0 to fail over", "v-0", func(s *v1alpha1.Shard) bool { return s.Spec.Membership.Epoch == 2 })
	m := s.Spec.Membership
	if m.Primary == old || slices.Contains(m.InSync, old) || len(m.InSync) != 2 {
		t.Errorf("got %+v, want another primary and two InSync without %d", m, old)
	}
}

// A machine that comes up without its SSD: its storenode lives, and nothing else is known of the Replica than what a
// former process has said.
func TestPrimaryWhoseDeviceDidNotComeBackIsReplaced(t *testing.T) {
	nodes := []string{"n1", "n2", "n3"}
	w := newWorld(t, nil, nodes...)
	w.volume("v", gib, 3)
	s := w.shard("v-0 to be served", "v-0", served)
	old := s.Spec.Membership.Primary
	w.ready(node(s, old), metav1.ConditionFalse, v1alpha1.ReasonMissing)
	s = w.shard("v-0 to fail over", "v-0", func(s *v1alpha1.Shard) bool { return s.Spec.Membership.Epoch == 2 })
	m := s.Spec.Membership
	if m.Primary == old || slices.Contains(m.InSync, old) || len(m.InSync) != 2 {
		t.Errorf("got %+v, want another primary and two InSync without %d", m, old)
	}
	lost := func(n int) func(*v1alpha1.Shard) bool {
		return func(s *v1alpha1.Shard) bool { return len(s.Status.LostReplicas) == n }
	}
	w.shard("the replica to count as lost", "v-0", lost(1))
	w.pass(time.Second, nodes...)
	w.ready(node(s, old), metav1.ConditionTrue, v1alpha1.ReasonServing)
	w.shard("the replica to be back", "v-0", lost(0))
}

// A storenode that returns may have lost power, whatever the process before it has told, and who was Primary may have
// more than it.
func TestBackupThatReturnsIsNoReasonToLeaveTheFormerPrimaryOut(t *testing.T) {
	w := newWorld(t, nil, "n1", "n2", "n3")
	w.volume("v", gib, 2)
	s := w.shard("v-0 to be served", "v-0", served)
	old := s.Spec.Membership.Primary
	holders := []string{s.Spec.Replicas[0].NodeName, s.Spec.Replicas[1].NodeName}
	w.pass(5*time.Second, without([]string{"n1", "n2", "n3"}, holders...)...)
	w.condition("v", v1alpha1.ReasonNoPrimary, metav1.ConditionFalse)
	w.restart(without(holders, node(s, old))[0])
	s = w.shard("v-0 to be claimed", "v-0", func(s *v1alpha1.Shard) bool { return s.Spec.Membership.Epoch == 2 })
	if m := s.Spec.Membership; m.Primary == old || !slices.Contains(m.InSync, old) {
		t.Errorf("got %+v, want another primary, and %d InSync", m, old)
	}
}

// Of whom nothing is told nobody knows that it has what was not flushed: the former Primary may have more.
func TestBackupOfWhichNothingIsToldIsNoReasonToLeaveTheFormerPrimaryOut(t *testing.T) {
	w := newWorld(t, nil, "n1", "n2", "n3")
	w.volume("v", gib, 2)
	backup := w.backup()
	w.mu.Lock()
	w.down[backup.NodeName] = true
	w.mu.Unlock()
	w.must(retry(func() error {
		s := w.shard("v-0", "v-0", func(*v1alpha1.Shard) bool { return true })
		s.Status.Replicas = slices.DeleteFunc(s.Status.Replicas, func(r v1alpha1.ShardReplicaStatus) bool {
			return r.ID == backup.ID
		})
		return w.api.Status().Update(t.Context(), s)
	}))
	s := w.shard("v-0", "v-0", served)
	old := s.Spec.Membership.Primary
	w.pass(5*time.Second, without([]string{"n1", "n2", "n3"}, node(s, old))...)
	s = w.shard("v-0 to fail over", "v-0", func(s *v1alpha1.Shard) bool { return s.Spec.Membership.Epoch == 2 })
	if m := s.Spec.Membership; m.Primary != backup.ID || !slices.Contains(m.InSync, old) {
		t.Errorf("got %+v, want another primary, and %d InSync", m, old)
	}
}

// restart renews a storenode's Lease in the name of another process.
func (w *world) restart(node string) {
	w.t.Helper()
	var lease coordinationv1.Lease
	w.must(w.api.Get(w.t.Context(), client.ObjectKey{Namespace: namespace, Name: leasePrefix + node}, &lease))
	lease.Spec.HolderIdentity = ptr.To(node + "-again")
	w.must(w.api.Update(w.t.Context(), &lease))
	w.renew(node)
}

// ready says of a node's Device whether it is in service.
func (w *world) ready(node string, is metav1.ConditionStatus, reason string) {
	w.t.Helper()
	w.says(node, v1alpha1.ConditionReady, is, reason)
}

// says sets a condition of a node's Device.
func (w *world) says(node, kind string, is metav1.ConditionStatus, reason string) {
	w.t.Helper()
	var d v1alpha1.Device
	w.must(w.api.Get(w.t.Context(), client.ObjectKey{Name: device(node)}, &d))
	base := d.DeepCopy()
	meta.SetStatusCondition(&d.Status.Conditions, metav1.Condition{
		Type: kind, Status: is, Reason: reason, Message: "said by the test",
	})
	w.must(w.api.Status().Patch(w.t.Context(), &d, client.MergeFrom(base)))
}

func TestReportOfABackupPromotesItBeforeTheLeaseExpires(t *testing.T) {
	nodes := []string{"n1", "n2", "n3"}
	w := newWorld(t, nil, nodes...)
	w.volume("v", gib, 3)
	s := w.shard("v-0 to be served", "v-0", served)
	dead := node(s, s.Spec.Membership.Primary)
	reporter := without(nodes, dead)[1]
	w.pass(2*time.Second, without(nodes, dead)...)
	w.mishears(reporter, dead)
	s = w.shard("v-0 to fail over", "v-0", func(s *v1alpha1.Shard) bool { return s.Spec.Membership.Epoch == 2 })
	if got := node(s, s.Spec.Membership.Primary); got != reporter {
		t.Errorf("primary is on %s, want %s, which reported", got, reporter)
	}
}

// A node whose storage network is cut still reaches the API server, and renews its Lease.
func TestPrimaryThatNobodyHearsIsReplacedThoughItsLeaseIsFresh(t *testing.T) {
	nodes := []string{"n1", "n2", "n3"}
	w := newWorld(t, nil, nodes...)
	w.volume("v", gib, 3)
	s := w.shard("v-0 to be served", "v-0", served)
	old := s.Spec.Membership.Primary
	cut := node(s, old)
	for _, reporter := range without(nodes, cut) {
		w.renew(nodes...)
		w.mishears(reporter, cut)
	}
	s = w.shard("v-0 to fail over", "v-0", func(s *v1alpha1.Shard) bool { return s.Spec.Membership.Epoch == 2 })
	if m := s.Spec.Membership; m.Primary == old || slices.Contains(m.InSync, old) {
		t.Errorf("got %+v, want another primary, without %d", m, old)
	}
}

// mishears has a storenode report that it does not hear another.
func (w *world) mishears(reporter, silent string) {
	w.t.Helper()
	var sn v1alpha1.StoreNode
	w.must(w.api.Get(w.t.Context(), client.ObjectKey{Name: reporter}, &sn))
	base := sn.DeepCopy()
	sn.Status.Unreachable = []string{silent}
	w.must(w.api.Status().Patch(w.t.Context(), &sn, client.MergeFrom(base)))
}

func TestShardWithoutAnyInSyncReplicaAliveNamesWhomToBringBack(t *testing.T) {
	w := newWorld(t, nil, "n1", "n2")
	w.volume("v", gib, 2)
	w.shard("v-0 to be served", "v-0", served)
	w.pass(5 * time.Second)
	message := w.condition("v", v1alpha1.ReasonNoPrimary, metav1.ConditionFalse)
	for _, n := range []string{"node n1", "node n2"} {
		if !strings.Contains(message, n) {
			t.Errorf("got %q, want %q in it", message, n)
		}
	}
}

func TestLostReplicaIsReplacedAfterTheDelayAndThenRemoved(t *testing.T) {
	nodes := []string{"n1", "n2", "n3", "n4"}
	w := newWorld(t, nil, nodes...)
	w.volume("v", gib, 3)
	s := w.shard("v-0 to be served", "v-0", served)
	lost := s.Spec.Membership.Primary
	dead := node(s, lost)
	alive := without(nodes, dead)
	w.mu.Lock()
	w.down[dead] = true
	w.mu.Unlock()
	w.pass(5*time.Second, alive...)
	w.shard("v-0 to fail over", "v-0", func(s *v1alpha1.Shard) bool {
		return s.Spec.Membership.Epoch == 2 && len(s.Status.LostReplicas) == 1
	})
	w.wait(alive...)
	s = w.shard("a replacement", "v-0", func(s *v1alpha1.Shard) bool { return len(s.Spec.Replicas) == 4 })
	if s.Spec.NextReplicaID != 5 || slices.Contains(s.Spec.Membership.InSync, 4) {
		t.Errorf("got %+v, want replica 4, out of InSync", s.Spec)
	}
	// The Primary has rebuilt it.
	w.must(retry(func() error {
		s := w.shard("v-0", "v-0", func(*v1alpha1.Shard) bool { return true })
		s.Spec.Membership.Epoch++
		s.Spec.Membership.InSync = append(s.Spec.Membership.InSync, 4)
		return w.api.Update(t.Context(), s)
	}))
	w.shard("the lost replica to be taken off", "v-0", func(s *v1alpha1.Shard) bool {
		return len(s.Spec.Replicas) == 3 && node(s, lost) == ""
	})
}

func TestDeletionWaitsForADeadStorenodeUntilItsDeviceIsDeleted(t *testing.T) {
	nodes := []string{"n1", "n2"}
	w := newWorld(t, nil, nodes...)
	v := w.volume("v", gib, 2)
	w.shard("v-0 to be served", "v-0", served)
	w.mu.Lock()
	w.down["n2"] = true
	w.mu.Unlock()
	w.pass(5*time.Second, "n1")
	w.must(w.api.Delete(t.Context(), v))
	w.until("the volume to say what it waits for", func() (bool, string) {
		message := w.condition("v", v1alpha1.ReasonDeleting, metav1.ConditionFalse)
		return strings.Contains(message, "storenode n2 is down"), message
	})
	w.must(w.api.Delete(t.Context(), &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Name: device("n2")}}))
	w.gone()
}

// displaces makes v, of which n3 has refused a Replica that was placed elsewhere, and lets n3 die.
func (w *world) displaces() *v1alpha1.Volume {
	w.t.Helper()
	w.mu.Lock()
	w.refuses["n3"] = true
	w.mu.Unlock()
	v := w.volume("v", gib, 2)
	w.shard("v-0 to be served", "v-0", func(s *v1alpha1.Shard) bool { return served(s) && len(s.Status.Replicas) == 3 })
	w.mu.Lock()
	w.down["n3"] = true
	w.mu.Unlock()
	w.pass(5*time.Second, "n1", "n2")
	return v
}

func TestDeletionWaitsForADisplacedReplicaUntilItsDeviceIsDeleted(t *testing.T) {
	w := newWorld(t, nil, "n1", "n2", "n3")
	w.must(w.api.Delete(t.Context(), w.displaces()))
	w.until("the volume to say what it waits for", func() (bool, string) {
		message := w.condition("v", v1alpha1.ReasonDeleting, metav1.ConditionFalse)
		return strings.Contains(message, "storenode n3 is down and has replica"), message
	})
	w.must(w.api.Delete(t.Context(), &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Name: device("n3")}}))
	w.gone()
}

func TestDeletionDoesNotWaitForWhatWasGivenBackBefore(t *testing.T) {
	w := newWorld(t, nil, "n1", "n2", "n3")
	v := w.displaces()
	w.must(retry(func() error {
		s := w.shard("v-0", "v-0", func(*v1alpha1.Shard) bool { return true })
		s.Status.Replicas = slices.DeleteFunc(s.Status.Replicas, func(r v1alpha1.ShardReplicaStatus) bool {
			return r.State == v1alpha1.ReplicaFailed
		})
		return w.api.Status().Update(t.Context(), s)
	}))
	w.must(w.api.Delete(t.Context(), v))
	w.gone()
}

// A storenode that lives cannot give back what is on an SSD that it does not have.
func TestDeletionSaysThatItWaitsForAMissingDevice(t *testing.T) {
	nodes := []string{"n1", "n2", "n3"}
	w := newWorld(t, nil, nodes...)
	v := w.volume("v", gib, 3)
	w.shard("v-0 to be served", "v-0", served)
	w.ready("n2", metav1.ConditionFalse, v1alpha1.ReasonMissing)
	w.mu.Lock()
	w.down["n2"] = true // it reports no more; its Lease is fresh
	w.mu.Unlock()
	w.must(w.api.Delete(t.Context(), v))
	w.until("the deletion to say so", func() (bool, string) {
		message := w.condition("v", v1alpha1.ReasonDeleting, metav1.ConditionFalse)
		return strings.Contains(message, "kubectl delete device "+device("n2")), message
	})
	w.must(w.api.Delete(t.Context(), &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Name: device("n2")}}))
	w.gone()
}

// stride is how many writes there are from one that fails to the next: never two in a row, so that what failed is done
// at once when it is tried again.
const stride = 8

// TestAnyWriteMayFailAndAllStillConverges fails the writes of the life of a Volume, as a crash after or before them
// would: in each life every eighth, beginning with another one, so that each write fails in one of the lives.
func TestAnyWriteMayFailAndAllStillConverges(t *testing.T) {
	for _, after := range []bool{false, true} {
		for first := range int64(stride) {
			t.Run(fmt.Sprintf("from write %d, happened %v", first, after), func(t *testing.T) {
				var writes atomic.Int64
				w := newWorld(t, failing(&writes, first, after), "n1", "n2", "n3")
				v := w.volume("v", 2*gib, 3)
				w.condition("v", v1alpha1.ReasonServing, metav1.ConditionTrue)
				w.must(w.api.Delete(t.Context(), v))
				w.gone()
				if n := writes.Load(); n < 2*stride {
					t.Errorf("there were %d writes only: not each failed in one of the lives", n)
				}
			})
		}
	}
}

var errCrash = errors.New("the API server did not answer")

// failing makes the writes of one residue class fail, before or after they happened.
func failing(writes *atomic.Int64, first int64, after bool) func(client.Client) client.Client {
	around := func(write func() error) error {
		hit := writes.Add(1)%stride == first
		if hit && !after {
			return errCrash
		}
		if err := write(); err != nil {
			return err
		}
		if hit {
			return errCrash
		}
		return nil
	}
	return func(c client.Client) client.Client {
		withWatch, err := client.NewWithWatch(cluster, client.Options{Scheme: c.Scheme()})
		if err != nil {
			panic(err)
		}
		return interceptor.NewClient(withWatch, interceptor.Funcs{
			Get: func(ctx context.Context, _ client.WithWatch, k client.ObjectKey, o client.Object,
				_ ...client.GetOption,
			) error {
				return c.Get(ctx, k, o)
			},
			Create: func(ctx context.Context, _ client.WithWatch, o client.Object, opts ...client.CreateOption) error {
				return around(func() error { return c.Create(ctx, o, opts...) })
			},
			Update: func(ctx context.Context, _ client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
				return around(func() error { return c.Update(ctx, o, opts...) })
			},
			Delete: func(ctx context.Context, _ client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
				return around(func() error { return c.Delete(ctx, o, opts...) })
			},
			SubResourcePatch: func(ctx context.Context, _ client.Client, _ string, o client.Object, p client.Patch,
				opts ...client.SubResourcePatchOption,
			) error {
				return around(func() error { return c.Status().Patch(ctx, o, p, opts...) })
			},
		})
	}
}

// touch makes the operator look at v-0: its timers are real, the test's clock is not.
func (w *world) touch() {
	w.t.Helper()
	w.must(retry(func() error {
		s := w.shard("v-0", "v-0", func(*v1alpha1.Shard) bool { return true })
		base := s.DeepCopy()
		s.Labels["touched"] = s.ResourceVersion // another value each time
		return w.api.Patch(w.t.Context(), s, client.MergeFrom(base))
	}))
}

func retry(f func() error) (err error) {
	for range 10 {
		if err = f(); err == nil {
			return nil
		}
	}
	return err
}
