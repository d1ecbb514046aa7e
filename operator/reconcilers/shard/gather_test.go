package shard

import (
	"cmp"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/operator/failover"
	"github.com/shale-storage/shale/operator/inventory"
	"github.com/shale-storage/shale/operator/liveness"
)

func TestDelayOfAReplacementIsCountedOnByAnOperatorThatStartsAnew(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 5e8, time.UTC)
	object := &v1alpha1.Shard{}
	first := &scope{shard: object}
	if got, _ := first.lost(2, start); got < 1 || got >= time.Second {
		t.Errorf("a replica lost just now has been lost for %s", got)
	}
	object.Status.LostReplicas = first.lostNow // what tell writes

	second := &scope{shard: object}
	if got, _ := second.lost(2, start.Add(time.Hour)); got < time.Hour || got > time.Hour+time.Second {
		t.Errorf("after an hour it has been lost for %s", got)
	}
	if got, _ := second.lost(3, start.Add(time.Hour)); got >= time.Second {
		t.Errorf("another one, lost just now, has been lost for %s", got)
	}
	if len(second.lostNow) != 2 || !second.lostNow[0].Since.Equal(&first.lostNow[0].Since) {
		t.Errorf("got %+v, want both, the first since then", second.lostNow)
	}
	// A clock set back does not make the delay longer than it is from now on.
	if got, _ := second.lost(2, start.Add(-time.Hour)); got < 1 || got >= time.Second {
		t.Errorf("by a clock set back it has been lost for %s", got)
	}
}

func TestReplicaMissesNothingOnlyIfItsOwnProcessSaysSo(t *testing.T) {
	told := func(incarnation string, powerLost bool) *v1alpha1.ShardReplicaStatus {
		return &v1alpha1.ShardReplicaStatus{Incarnation: incarnation, PowerLost: powerLost}
	}
	for story, c := range map[string]struct {
		report *v1alpha1.ShardReplicaStatus
		want   bool
	}{
		"told":                       {told("p2", false), false},
		"it lost power":              {told("p2", true), true},
		"told by an earlier process": {told("p1", false), true},
		"nothing is told":            {nil, true},
	} {
		if got := isLossy(c.report, "p2"); got != c.want {
			t.Errorf("%s: lossy is %v, want %v", story, got, c.want)
		}
	}
}

// A storenode that a new operator has not watched for long enough counts as alive, and is not known to be.
func TestReplicaStaysLostUntilItsStorenodeIsSeenToLive(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for story, c := range map[string]struct {
		renewals int
		later    time.Duration
		kept     bool
		lost     bool
	}{
		"its lease was seen once":        {renewals: 1, kept: true},
		"its lease was never seen":       {kept: true},
		"it renews":                      {renewals: 2},
		"its lease stood still too long": {renewals: 1, later: liveness.DefaultDuration, kept: true, lost: true},
	} {
		clock := clocktesting.NewFakePassiveClock(start)
		alive := liveness.New(clock)
		r := &Reconciler{Clock: clock, Inventory: inventory.New(nil, alive, clock)}
		device := &v1alpha1.Device{Spec: v1alpha1.DeviceSpec{NodeName: "n1"}}
		device.Name = "dev-x"
		r.API = fake.NewClientBuilder().WithScheme(scheme(t)).WithObjects(device).Build()
		object := &v1alpha1.Shard{}
		object.Spec.Replicas = []v1alpha1.ShardReplica{{ID: 1, DeviceName: "dev-x", NodeName: "n1"}}
		object.Status.LostReplicas = []v1alpha1.LostReplica{{ID: 1, Since: metav1.NewTime(start.Add(-time.Minute))}}
		for n := range c.renewals {
			alive.Observe("n1", liveness.Renewal{Holder: fmt.Sprint(n)})
		}
		clock.SetTime(start.Add(c.later))
		s, err := r.gather(t.Context(), object)
		if err != nil {
			t.Fatal(err)
		}
		if kept, lost := len(s.lostNow) == 1, s.seen.Replicas[0].LostFor > 0; kept != c.kept || lost != c.lost {
			t.Errorf("%s: remembered %v, lost %v, want %v, %v", story, kept, lost, c.kept, c.lost)
		}
		if c.kept && (s.lostNow[0].Since != object.Status.LostReplicas[0].Since || !c.lost && s.again <= 0) {
			t.Errorf("%s: got %+v, looked at again in %s", story, s.lostNow, s.again)
		}
	}
}

// replicated is a Shard of Epoch 7 whose Replicas 1, 2 and so on are on nodes n1, n2 and so on, and were told of by p.
func replicated(count int64, inSync ...int64) *v1alpha1.Shard {
	object := &v1alpha1.Shard{Spec: v1alpha1.ShardSpec{VolumeName: "v"}}
	object.Spec.Membership = v1alpha1.ShardMembership{Epoch: 7, Primary: inSync[0], InSync: inSync}
	for id := int64(1); id <= count; id++ {
		object.Spec.Replicas = append(object.Spec.Replicas, v1alpha1.ShardReplica{
			ID: id, DeviceName: fmt.Sprintf("dev-%d", id), NodeName: fmt.Sprintf("n%d", id),
		})
		object.Status.Replicas = append(object.Status.Replicas, v1alpha1.ShardReplicaStatus{
			ID: id, State: v1alpha1.ReplicaStale, Incarnation: "p",
		})
	}
	return object
}

// gathered is what is known of the Shard, of which so many Replicas are wanted.
func gathered(t *testing.T, object *v1alpha1.Shard, wanted int32, alive *liveness.Tracker, now time.Time) *scope {
	t.Helper()
	v := &v1alpha1.Volume{Spec: v1alpha1.VolumeSpec{Replicas: wanted}}
	v.Name = object.Spec.VolumeName
	objects := []client.Object{v}
	for _, replica := range object.Spec.Replicas {
		device := &v1alpha1.Device{Spec: v1alpha1.DeviceSpec{NodeName: replica.NodeName}}
		device.Name = replica.DeviceName
		objects = append(objects, device)
	}
	clock := clocktesting.NewFakePassiveClock(now)
	r := &Reconciler{Clock: clock, Inventory: inventory.New(nil, alive, clock)}
	r.API = fake.NewClientBuilder().WithScheme(scheme(t)).WithObjects(objects...).Build()
	s, err := r.gather(t.Context(), object)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Replica 3 of n3 was lost, and 4 is being rebuilt in its failure domain.
func TestReplacementGoesOnlyWhenTheLostReplicaIsKnownToBeBack(t *testing.T) {
	now := time.Unix(1e9, 0)
	for story, c := range map[string]struct {
		renewals int
		process  string
		state    string
		removed  int64
	}{
		"a new operator has heard nothing":       {process: "p"},
		"a new operator has seen its lease once": {renewals: 1, process: "p"},
		"it came back and has not told anything": {renewals: 2, process: "former"},
		"it came back without its device":        {renewals: 2, process: "p", state: v1alpha1.ReplicaFailed},
		"it is back":                             {renewals: 2, process: "p", removed: 4},
	} {
		alive := liveness.New(clocktesting.NewFakePassiveClock(now))
		object := replicated(4, 1, 2)
		object.Status.LostReplicas = []v1alpha1.LostReplica{{ID: 3, Since: metav1.NewTime(now.Add(-time.Hour))}}
		third := &object.Status.Replicas[2]
		third.Incarnation, third.State = c.process, cmp.Or(c.state, third.State)
		for _, replica := range object.Spec.Replicas {
			for n := range c.renewals {
				alive.Observe(replica.NodeName, liveness.Renewal{Holder: "p", Renewed: time.Unix(int64(n), 0)})
			}
		}
		s := gathered(t, object, 3, alive, now)
		for i := range s.seen.Replicas {
			s.seen.Replicas[i].Domain = []string{"a", "b", "c", "c"}[i]
		}
		if d := failover.Repair(&s.seen, time.Hour); d.Replica != c.removed {
			t.Errorf("%s: replica %d is removed, want %d", story, d.Replica, c.removed)
		}
		if c.renewals < 2 && s.again <= 0 {
			t.Errorf("%s: nobody looks again", story)
		}
	}
}

// The Primary's storenode was restarted while its Backup is away: nobody has lost power yet, as far as anybody knows.
func TestRestartIsNoReasonToGiveUpWhoIsAway(t *testing.T) {
	for story, c := range map[string]struct {
		process   string
		powerLost bool
		losing    bool
	}{
		"it has not told anything":      {process: "former"},
		"the former one had lost power": {process: "former", powerLost: true},
		"it has all":                    {process: "p"},
		"it lost power":                 {process: "p", powerLost: true, losing: true},
	} {
		clock := clocktesting.NewFakePassiveClock(time.Unix(1e9, 0))
		alive := liveness.New(clock)
		object := replicated(2, 1, 2)
		first := &object.Status.Replicas[0]
		first.Incarnation, first.PowerLost = c.process, c.powerLost
		alive.Observe("n2", liveness.Renewal{Holder: "p"})
		for range liveness.DefaultDuration / time.Second {
			clock.SetTime(clock.Now().Add(time.Second))
			alive.Observe("n1", liveness.Renewal{Holder: "p", Renewed: clock.Now()})
		}
		s := gathered(t, object, 2, alive, clock.Now())
		if s.consider(); s.losing != c.losing {
			t.Errorf("%s: losing is %v, want %v", story, s.losing, c.losing)
		}
	}
}

// How many Replicas another Volume wants, whose name is the same, says nothing about this one's.
func TestVolumeOfAnotherIDIsNotTheShards(t *testing.T) {
	deleted := func(s *v1alpha1.Shard) {
		s.Finalizers, s.DeletionTimestamp = []string{"test"}, &metav1.Time{Time: time.Unix(1, 0)}
	}
	volume := func(id string) client.Object {
		v := &v1alpha1.Volume{Spec: v1alpha1.VolumeSpec{ID: id, Replicas: 1}}
		v.Name = "v"
		return v
	}
	for story, c := range map[string]struct {
		cached, live string
		change       func(*v1alpha1.Shard)
		found, goes  bool
	}{
		"it is the shard's":                      {"mine", "mine", func(*v1alpha1.Shard) {}, true, false},
		"it is another":                          {"other", "other", func(*v1alpha1.Shard) {}, false, false},
		"it is another, the shard was deleted":   {"other", "other", deleted, false, true},
		"the cache is behind, the shard deleted": {"other", "mine", deleted, true, false},
	} {
		clock := clocktesting.NewFakePassiveClock(time.Unix(1e9, 0))
		r := &Reconciler{Clock: clock, Inventory: inventory.New(nil, liveness.New(clock), clock)}
		r.API = fake.NewClientBuilder().WithScheme(scheme(t)).WithObjects(volume(c.cached)).Build()
		r.Live = fake.NewClientBuilder().WithScheme(scheme(t)).WithObjects(volume(c.live)).Build()
		object := replicated(2, 1, 2)
		object.Spec.VolumeID = "mine"
		c.change(object)
		s, err := r.gather(t.Context(), object)
		if err != nil {
			t.Fatal(err)
		}
		if found := s.volume != nil; found != c.found || s.goes != c.goes || (s.seen.Wanted == 1) != c.found {
			t.Errorf("%s: found %v, goes %v, %d are wanted", story, found, s.goes, s.seen.Wanted)
		}
	}
}

func scheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	s := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	return s
}
