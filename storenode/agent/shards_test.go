package agent

import (
	"errors"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/shard"
)

func TestReplicaThatLostItsPlaceIsDeletedUnlessAPersonGaveItUp(t *testing.T) {
	object := &v1alpha1.Shard{}
	object.Spec.Membership.Epoch = 7
	object.Spec.Replicas = []v1alpha1.ShardReplica{{ID: 1}}
	if err := object.AddGivenUp(v1alpha1.GivenUpReplica{ID: 3}); err != nil {
		t.Fatal(err)
	}
	for story, c := range map[string]struct {
		id    ident.ReplicaID
		epoch ident.Epoch
		want  bool
	}{
		"listed":                         {1, 7, false},
		"taken off":                      {2, 7, true},
		"taken off by an older decision": {2, 8, false},
		"given up":                       {3, 6, false},
	} {
		s := shard.Status{Key: ident.ReplicaKey{Replica: c.id}, Epoch: c.epoch}
		if got := displaced(object, s); got != c.want {
			t.Errorf("%s: displaced is %v, want %v", story, got, c.want)
		}
	}
	delete(object.Annotations, v1alpha1.GivenUpAnnotation)
	if !displaced(object, shard.Status{Key: ident.ReplicaKey{Replica: 3}, Epoch: 7}) {
		t.Error("it is kept after the person has taken it off the list")
	}
}

// fakeHost has the Replicas given, and hears of decisions.
type fakeHost struct {
	shard.Manager
	statuses []shard.Status
	heard    []membership.Record
}

func (h *fakeHost) Statuses() []shard.Status                     { return h.statuses }
func (h *fakeHost) StatusesOf(ident.ShardID) []shard.Status      { return h.statuses }
func (h *fakeHost) Decided(_ ident.ShardID, r membership.Record) { h.heard = append(h.heard, r) }

func TestReplicaThatWasGivenUpIsToldSo(t *testing.T) {
	object := &v1alpha1.Shard{}
	object.Spec.Membership = v1alpha1.ShardMembership{Epoch: 8}
	if err := object.AddGivenUp(v1alpha1.GivenUpReplica{ID: 3}); err != nil {
		t.Fatal(err)
	}
	host := &fakeHost{}
	r := &shards{host: host, places: &places{}}
	for _, c := range []struct {
		id    ident.ReplicaID
		epoch ident.Epoch
		want  int
	}{{2, 7, 0}, {3, 8, 0}, {3, 7, 1}} {
		host.heard = nil
		host.statuses = []shard.Status{{Key: ident.ReplicaKey{Replica: c.id}, Epoch: c.epoch}}
		if err := r.tellGivenUp(ident.ShardID{}, object); err != nil || len(host.heard) != c.want {
			t.Errorf("replica %d at epoch %d heard %+v, %v", c.id, c.epoch, host.heard, err)
		}
	}
}

// The Device may have room by the time at which the Shard needs a place again.
func TestRefusedReplicaIsNotToldOfForEver(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Unix(0, 0))
	r := &report{clock: clock, failures: map[ident.ReplicaKey]failure{}, kick: make(chan struct{}, 1)}
	id := ident.ShardID{Index: 1}
	r.applied(id, []v1alpha1.ShardReplica{{ID: 2}}, shard.ErrNoSpace)
	told := func() int { return len(r.entries(nil)[id]) }
	if clock.Step(refusalMemory); told() != 1 {
		t.Error("it is forgotten while the shard may be looking for another place")
	}
	if clock.Step(time.Second); told() != 0 {
		t.Error("it is told of for ever, so its device is never used for the shard again")
	}
}

// TestADeviceThatHangsHoldsUpNobodyElsesShards: its worker is given back, and does not wait a second time.
func TestADeviceThatHangsHoldsUpNobodyElsesShards(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Now())
	r := &shards{report: &report{clock: clock}, slow: map[ident.ShardID]bool{}}
	hangs, other := ident.ShardID{Index: 1}, ident.ShardID{Index: 2}
	answers, told := make(chan struct{}), make(chan error, 1)
	go func() {
		told <- r.bounded(hangs, func() error {
			<-answers
			return nil
		})
	}()
	for !clock.HasWaiters() {
		time.Sleep(time.Millisecond)
	}
	clock.Step(deviceWait)
	if err := <-told; !errors.Is(err, errSlow) {
		t.Errorf("the device hangs: %v", err)
	}
	again := func() error { return errors.New("begun twice") }
	if err := r.bounded(hangs, again); !errors.Is(err, errSlow) {
		t.Errorf("it still does: %v", err)
	}
	if err := r.bounded(other, func() error { return nil }); err != nil {
		t.Errorf("another shard: %v", err)
	}
	close(answers)
	for err := errSlow; errors.Is(err, errSlow); err = r.bounded(hangs, func() error { return nil }) {
		time.Sleep(time.Millisecond)
	}
}
