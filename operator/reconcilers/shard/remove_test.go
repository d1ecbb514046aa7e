package shard

import (
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/operator/inventory"
	"github.com/shale-storage/shale/operator/liveness"
)

// Whatever becomes of these Devices, the Shard is looked at.
func TestDevicesOfAShardAreThoseOfDisplacedReplicasToo(t *testing.T) {
	s := &v1alpha1.Shard{}
	s.Spec.Replicas = []v1alpha1.ShardReplica{
		{ID: 1, DeviceName: "dev-b"}, {ID: 2, DeviceName: "dev-c"}, {ID: 3, DeviceName: "dev-a"},
	}
	s.Status.Replicas = []v1alpha1.ShardReplicaStatus{{ID: 1}}
	(&scope{}).displace(s, 1, time.Time{})
	s.Status.Replicas = append(s.Status.Replicas, v1alpha1.ShardReplicaStatus{ID: 9})
	(&scope{}).displace(s, 2, time.Time{})
	s.Spec.Replicas = append(s.Spec.Replicas, v1alpha1.ShardReplica{ID: 4, DeviceName: "dev-c"})
	if got, want := Devices(s), []string{"dev-a", "dev-b", "dev-c"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if past := displaced(s); len(past) != 2 || !past[0].Reported || past[1].Reported {
		t.Errorf("got %+v, want both, of which the first was reported", past)
	}
	s.Annotations[DisplacedAnnotation] = `[{"id":7,"deviceName":"dev-z","nodeName":"n1"}]`
	if past := displaced(s); len(past) != 1 || past[0].ID != 7 || past[0].Reported {
		t.Errorf("of an earlier version: got %+v", past)
	}
}

// The object may have been written by hand, or restored without its status, and then the Volume deleted.
func TestReplicaIsGivenBackOnlyIfItWasToldOfOrItsStorenodeCouldTell(t *testing.T) {
	ready := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue}
	missing := metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonMissing,
	}
	stalled := metav1.Condition{
		Type: v1alpha1.ConditionHealthy, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonStalled,
	}
	for story, c := range map[string]struct {
		told   bool
		later  time.Duration
		silent bool
		device []metav1.Condition
		want   string
	}{
		"nothing is told of it yet":              {device: []metav1.Condition{ready}, want: "may not have seen yet"},
		"it is told of":                          {told: true, device: []metav1.Condition{ready}},
		"nothing was told of it for long":        {later: settle, device: []metav1.Condition{ready}},
		"its storenode is down":                  {later: settle, silent: true, want: "is down and may have replica 1"},
		"its device is missing":                  {later: settle, device: []metav1.Condition{missing}, want: "(Missing)"},
		"its device is not known to be in place": {later: settle, want: "may have replica 1 and cannot give"},
		"its device hangs": {
			later: settle, device: []metav1.Condition{ready, stalled}, want: "does not answer and may have replica 1",
		},
	} {
		clock := clocktesting.NewFakePassiveClock(time.Unix(1e9, 0))
		alive := liveness.New(clock)
		r := &Reconciler{Clock: clock, Inventory: inventory.New(nil, alive, clock)}
		device := &v1alpha1.Device{Spec: v1alpha1.DeviceSpec{NodeName: "n1"}}
		device.Name, device.Status.Conditions = "dev-1", c.device
		s := &scope{shard: replicated(1, 1), reports: map[int64]*v1alpha1.ShardReplicaStatus{}}
		if c.told {
			s.reports[1] = &s.shard.Status.Replicas[0]
			r.holdings(s)
			delete(s.reports, 1)
		}
		alive.Observe("n1", liveness.Renewal{Duration: time.Minute})
		clock.SetTime(clock.Now().Add(c.later))
		if c.silent {
			clock.SetTime(clock.Now().Add(time.Minute))
		}
		for _, holding := range r.holdings(s) {
			r.await(s, &holding, device, c.later)
		}
		got := strings.Join(s.waitsFor, "; ")
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: waits for %q, want %q", story, got, c.want)
		}
	}
}
