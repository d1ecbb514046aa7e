package agent

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

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
	applied  []membership.Record
	deleted  []ident.ReplicaKey
	// creates and deletes are what Apply and Delete wait for, as with a Device that hangs.
	creates, deletes chan struct{}
	// told is what was said of Volumes.
	told []string
}

func (h *fakeHost) Publish(shard.VolumeMap) { h.told = append(h.told, "published") }
func (h *fakeHost) Unpublish(ident.UUID)    { h.told = append(h.told, "forgotten") }
func (h *fakeHost) Retire(ident.UUID)       { h.told = append(h.told, "deleted") }

func (h *fakeHost) Statuses() []shard.Status                     { return h.statuses }
func (h *fakeHost) StatusesOf(ident.ShardID) []shard.Status      { return h.statuses }
func (h *fakeHost) Decided(_ ident.ShardID, r membership.Record) { h.heard = append(h.heard, r) }

func (h *fakeHost) Apply(d shard.Desired) error {
	if h.creates != nil {
		<-h.creates
	}
	h.applied = append(h.applied, d.Record)
	return nil
}

func (h *fakeHost) Delete(key ident.ReplicaKey) error {
	if h.deletes != nil {
		<-h.deletes
	}
	h.deleted = append(h.deleted, key)
	return nil
}

// The cache may be behind: it may not have the Volume yet, or have one of the same name that is gone.
func TestDeletedShardKeepsItsDataWhileItsVolumeIsToStay(t *testing.T) {
	mine, other := uuid(1).String(), uuid(2).String()
	volume := func(id string, change ...func(*v1alpha1.Volume)) []client.Object {
		v := &v1alpha1.Volume{}
		v.Name, v.Spec.ID = "v", id
		for _, c := range change {
			c(v)
		}
		return []client.Object{v}
	}
	going := func(v *v1alpha1.Volume) {
		v.Finalizers, v.DeletionTimestamp = []string{"test"}, &metav1.Time{Time: time.Unix(1, 0)}
	}
	attached := func(v *v1alpha1.Volume) { v.Spec.Attachments = []v1alpha1.VolumeAttachment{{NodeName: "n1"}} }
	for story, c := range map[string]struct {
		cached, live []client.Object
		deleted      int
	}{
		"the volume exists":               {cached: volume(mine), live: volume(mine)},
		"the cache does not know it yet":  {live: volume(mine)},
		"the cache has a former one":      {cached: volume(other, going), live: volume(mine)},
		"it is going, and attached":       {cached: volume(mine, going, attached), live: volume(mine, going, attached)},
		"it is going":                     {cached: volume(mine, going), live: volume(mine, going), deleted: 1},
		"it is gone":                      {deleted: 1},
		"another one has its name by now": {cached: volume(other), live: volume(other), deleted: 1},
	} {
		object := &v1alpha1.Shard{}
		object.Name, object.Spec.VolumeName, object.Spec.VolumeID = "v-0", "v", mine
		object.Finalizers, object.DeletionTimestamp = []string{"test"}, &metav1.Time{Time: time.Unix(1, 0)}
		host := &fakeHost{statuses: []shard.Status{{Key: ident.ReplicaKey{Replica: 1}, Epoch: 9}}}
		clock := clocktesting.NewFakeClock(time.Now())
		r := &shards{
			api:    kubernetes(t, interceptor.Funcs{}, append(c.cached, object)...),
			reader: kubernetes(t, interceptor.Funcs{}, c.live...),
			host:   host, places: &places{}, log: slog.New(slog.DiscardHandler), slow: map[ident.ReplicaKey]bool{},
			report: &report{clock: clock, kick: make(chan struct{}, 1)},
			names:  map[ident.ShardID]string{}, ids: map[string]ident.ShardID{},
		}
		request := reconcile.Request{NamespacedName: client.ObjectKey{Name: "v-0"}}
		if _, err := r.Reconcile(t.Context(), request); err != nil || len(host.deleted) != c.deleted {
			t.Errorf("%s: %v were deleted, %v; want %d", story, host.deleted, err, c.deleted)
		}
	}
}

// A Generation is of one Volume: another's, of the same name, would refuse everybody who has this one open.
func TestShardHasTheGenerationOfItsOwnVolume(t *testing.T) {
	object := &v1alpha1.Shard{Spec: v1alpha1.ShardSpec{VolumeName: "v", VolumeID: uuid(1).String()}}
	object.Spec.Membership.Epoch = 1
	for id, want := range map[ident.UUID]ident.Generation{uuid(1): 9, uuid(2): 0} {
		v := &v1alpha1.Volume{Spec: v1alpha1.VolumeSpec{ID: id.String(), AttachGeneration: 9}}
		v.Name = "v"
		r := &shards{api: kubernetes(t, interceptor.Funcs{}, v), places: &places{}}
		if d, err := r.desired(t.Context(), ident.ShardID{}, object); err != nil || d.Generation != want {
			t.Errorf("volume %s: generation %d, %v, want %d", id, d.Generation, err, want)
		}
	}
}

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
	r := &shards{report: &report{clock: clock}, slow: map[ident.ReplicaKey]bool{}}
	hangs, other := ident.ReplicaKey{Replica: 1}, ident.ReplicaKey{Replica: 2}
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
		t.Errorf("another replica: %v", err)
	}
	close(answers)
	for err := errSlow; errors.Is(err, errSlow); err = r.bounded(hangs, func() error { return nil }) {
		time.Sleep(time.Millisecond)
	}
}

// waits is a Shard at Epoch 9 with Replica 3 on a Device of this node, and what brings it in line.
func waits(t *testing.T, host *fakeHost) (r *shards, pass func() error) {
	t.Helper()
	object := &v1alpha1.Shard{}
	object.Name, object.Spec.VolumeID, object.Spec.SizeBytes = "v-0", uuid(1).String(), 1<<20
	object.Spec.Replicas = []v1alpha1.ShardReplica{{ID: 3, DeviceName: deviceName(uuid(3)), NodeName: "n1"}}
	object.Spec.Membership = v1alpha1.ShardMembership{Epoch: 9, Primary: 3, InSync: []int64{3}}
	api := kubernetes(t, interceptor.Funcs{}, object)
	clock := clocktesting.NewFakeClock(time.Now())
	r = &shards{
		api: api, reader: api, host: host, log: slog.New(slog.DiscardHandler), slow: map[ident.ReplicaKey]bool{},
		places: &places{api: api, local: map[string]ident.UUID{deviceName(uuid(3)): uuid(3)}},
		report: &report{clock: clock, kick: make(chan struct{}, 1), failures: map[ident.ReplicaKey]failure{}},
		names:  map[ident.ShardID]string{}, ids: map[string]ident.ShardID{},
	}
	return r, func() error {
		done := make(chan error, 1)
		go func() { done <- r.bring(t.Context(), reconcile.Request{NamespacedName: client.ObjectKey{Name: "v-0"}}) }()
		for {
			select {
			case err := <-done:
				return err
			case <-time.After(time.Millisecond):
				if clock.HasWaiters() {
					clock.Step(deviceWait)
				}
			}
		}
	}
}

// Replica 1 lost its place on another Device of the node, which hangs.
func TestReplicaHearsOfRecordsWhileAnotherOfItsShardCannotBeDeleted(t *testing.T) {
	host := &fakeHost{deletes: make(chan struct{})}
	host.statuses = []shard.Status{{Key: ident.ReplicaKey{Replica: 1}, Epoch: 7}}
	defer close(host.deletes)
	_, pass := waits(t, host)
	for n := 1; n <= 2; n++ {
		if err := pass(); !errors.Is(err, errSlow) || len(host.applied) != n {
			t.Errorf("pass %d: %v, and %d records were heard of", n, err, len(host.applied))
		}
	}
}

// Another Replica of the Shard is being made on a Device that hangs.
func TestReplicaHearsOfRecordsWhileAnotherOfItsShardCannotBeMade(t *testing.T) {
	host := &fakeHost{creates: make(chan struct{})}
	defer close(host.creates)
	_, pass := waits(t, host)
	for n := 1; n <= 2; n++ {
		if err := pass(); !errors.Is(err, errSlow) || len(host.heard) != n {
			t.Errorf("pass %d: %v, and %d records were heard of", n, err, len(host.heard))
		}
	}
}

// Its Device answers when the operator has moved it to another one already.
func TestReplicaThatIsMadeLateAndWantedNoMoreIsDeleted(t *testing.T) {
	host := &fakeHost{creates: make(chan struct{})}
	r, pass := waits(t, host)
	if err := pass(); !errors.Is(err, errSlow) {
		t.Fatalf("the device hangs: %v", err)
	}
	r.places.local = nil
	var object v1alpha1.Shard
	request := reconcile.Request{NamespacedName: client.ObjectKey{Name: "v-0"}}
	if err := r.api.Get(t.Context(), request.NamespacedName, &object); err != nil {
		t.Fatal(err)
	}
	object.Spec.Replicas = []v1alpha1.ShardReplica{{ID: 4, DeviceName: deviceName(uuid(4)), NodeName: "n2"}}
	if err := r.api.Update(t.Context(), &object); err != nil {
		t.Fatal(err)
	}
	again, err := r.Reconcile(t.Context(), request)
	if err != nil || again.RequeueAfter <= 0 || len(host.deleted) > 0 {
		t.Errorf("it still hangs: looked at again in %s, %v; %v are deleted", again.RequeueAfter, err, host.deleted)
	}
	host.statuses = []shard.Status{{Key: ident.ReplicaKey{Replica: 3}, Epoch: 9}}
	close(host.creates)
	for r.isWaiting("v-0") {
		time.Sleep(time.Millisecond)
	}
	if _, err := r.Reconcile(t.Context(), request); err != nil || len(host.deleted) != 1 {
		t.Errorf("it is made: %v; %v are deleted", err, host.deleted)
	}
}
