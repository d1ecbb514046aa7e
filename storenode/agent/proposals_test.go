package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/shard"
	"github.com/shale-storage/shale/test/apiserver"
)

// server is a real API server with Shale's definitions: what a compare-and-swap is worth, only that can tell.
func server(t *testing.T) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(apiserver.For(t).Config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// asked is a Shard at Epoch 7 of Replicas 1 to 3, and who proposes its next Records.
type asked struct {
	*proposals
	api   client.Client
	shard ident.ShardID
}

func ask(t *testing.T) asked {
	t.Helper()
	a := asked{api: server(t), shard: ident.ShardID{Volume: ident.UUID{15: 1}}}
	object := &v1alpha1.Shard{
		ObjectMeta: metav1.ObjectMeta{Name: "v-0"},
		Spec: v1alpha1.ShardSpec{
			VolumeName: "v", VolumeID: a.shard.Volume.String(), SizeBytes: 1 << 30, NextReplicaID: 4,
			Membership: v1alpha1.ShardMembership{Epoch: 7, Primary: 1, InSync: []int64{1, 2, 3}},
		},
	}
	for id := range byte(3) {
		object.Spec.Replicas = append(object.Spec.Replicas, v1alpha1.ShardReplica{
			ID: int64(id) + 1, DeviceName: deviceName(ident.UUID{0: 9, 15: id}), NodeName: fmt.Sprintf("n%d", id),
		})
	}
	if err := a.api.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	a.proposals = (&proposals{
		api: a.api, reader: a.api, log: slog.New(slog.DiscardHandler),
		name: func(ident.ShardID) (string, bool) { return object.Name, true },
		resolve: func(spec *v1alpha1.ShardSpec) (membership.Record, error) {
			return record(spec, func(string) string { return "" })
		},
	}).init()
	return a
}

func next(epoch ident.Epoch, primary ident.ReplicaID, inSync ...ident.ReplicaID) membership.Record {
	return membership.Record{Epoch: epoch, Primary: primary, InSync: inSync}
}

func TestProposalWinsOnlyAgainstTheEpochBeforeIt(t *testing.T) {
	a := ask(t)
	for _, c := range []struct {
		story    string
		proposal membership.Record
		want     membership.Record
	}{
		{"the next one wins", next(8, 1, 1, 2), next(8, 1, 1, 2)},
		{"said twice, it is in force once", next(8, 1, 1, 2), next(8, 1, 1, 2)},
		{"another one of the same Epoch loses", next(8, 3, 3), next(8, 1, 1, 2)},
		{"one that skips an Epoch loses", next(10, 3, 3), next(8, 1, 1, 2)},
		{"a late one loses", next(7, 3, 3), next(8, 1, 1, 2)},
		{"the one after it wins", next(9, 2, 1, 2, 3), next(9, 2, 1, 2, 3)},
	} {
		got, err := a.swap(t.Context(), a.shard, c.proposal)
		if err != nil {
			t.Fatalf("%s: %v", c.story, err)
		}
		if got.Epoch != c.want.Epoch || got.Primary != c.want.Primary || !slices.Equal(got.InSync, c.want.InSync) {
			t.Errorf("%s: %+v is in force, want %+v", c.story, got, c.want)
		}
	}
	if got, err := a.swap(t.Context(), a.shard, next(10, 1, 2, 3)); err == nil {
		t.Errorf("a Primary that is not in sync was accepted: %+v", got)
	}
	another := ident.ShardID{Volume: ident.UUID{15: 2}}
	if got, err := a.swap(t.Context(), another, next(10, 1, 1)); err == nil {
		t.Errorf("a Shard that has taken over the name was changed: %+v", got)
	}
}

// The Shard was deleted, or its Replica here, while the proposal was on its way.
func TestProposalEndsWithTheLastReplicaHere(t *testing.T) {
	host := &fakeHost{statuses: []shard.Status{{Key: ident.ReplicaKey{Replica: 1}, Listed: true}}}
	p := (&proposals{
		log: slog.New(slog.DiscardHandler), name: func(ident.ShardID) (string, bool) { return "", false },
		held: func(id ident.ShardID) bool { return isHeld(host, id) },
	}).init()
	t.Cleanup(p.queue.ShutDown)
	id := ident.ShardID{Index: 1}
	p.put(id, next(8, 1, 1))
	if err := p.try(t.Context(), id); !errors.Is(err, errUndecided) || len(p.next) != 1 {
		t.Errorf("with a replica here: %v, %d are kept", err, len(p.next))
	}
	host.statuses[0].Listed = false
	if err := p.try(t.Context(), id); err != nil || len(p.next) != 0 {
		t.Errorf("with one that is being deleted: %v, %d are kept", err, len(p.next))
	}
}

// Reports come from everybody while a node fails; no membership may wait for a moment without them.
func TestProposalDoesNotLoseAgainstReports(t *testing.T) {
	a := ask(t)
	done := make(chan struct{})
	var reports sync.WaitGroup
	reports.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			default:
			}
			text := fmt.Sprintf(`{"metadata":{"labels":{"n":"%d"}}}`, n)
			object := &v1alpha1.Shard{ObjectMeta: metav1.ObjectMeta{Name: "v-0"}}
			patch := client.RawPatch("application/merge-patch+json", []byte(text))
			if err := a.api.Patch(t.Context(), object, patch); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for epoch := ident.Epoch(8); epoch < 108; epoch++ {
		if _, err := a.swap(t.Context(), a.shard, next(epoch, 1, 1, 2)); err != nil {
			t.Error(err)
			break
		}
	}
	close(done)
	reports.Wait()
}
