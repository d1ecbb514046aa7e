package agent

import (
	"context"
	"log/slog"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/shard"
)

// A node with thousands of Replicas, whose Shards all grow, or all get a new Epoch.
func TestReportsOfManyShardsAreFastAndSeldomOfUsageAlone(t *testing.T) {
	const many = 1000
	var writes, now, most atomic.Int32
	api := kubernetes(t, interceptor.Funcs{SubResourceApply: func(
		context.Context, client.Client, string, runtime.ApplyConfiguration, ...client.SubResourceApplyOption,
	) error {
		writes.Add(1)
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		time.Sleep(time.Millisecond)
		now.Add(-1)
		return nil
	}})
	clock := clocktesting.NewFakeClock(time.Unix(0, 0))
	host := &fakeHost{}
	for n := range many {
		key := ident.ReplicaKey{Shard: ident.ShardID{Index: uint32(n)}, Replica: 1}
		host.statuses = append(host.statuses, shard.Status{Key: key, State: shard.StateInSync, Epoch: 1})
	}
	r := &report{
		api: api, host: host, clock: clock, told: map[ident.ShardID]told{}, findings: &findings{},
		name: func(id ident.ShardID) (string, bool) { return "v-" + strconv.Itoa(int(id.Index)), true },
		log:  slog.New(slog.DiscardHandler),
	}
	for _, c := range []struct {
		story  string
		change func(*shard.Status)
		passed time.Duration
		want   int32
	}{
		{"first seen", func(*shard.Status) {}, 0, many},
		{"grown soon after", func(s *shard.Status) { s.UsedBytes++ }, usageEvery, 0},
		{"grown since long", func(s *shard.Status) { s.UsedBytes++ }, many * usageShare, many},
		{"in a new epoch", func(s *shard.Status) { s.Epoch++ }, time.Second, many},
	} {
		clock.Step(c.passed)
		for n := range host.statuses {
			c.change(&host.statuses[n])
		}
		writes.Store(0)
		if err := r.shards(t.Context()); err != nil || writes.Load() != c.want {
			t.Errorf("%s: %d writes, want %d; %v", c.story, writes.Load(), c.want, err)
		}
	}
	if most.Load() < 2 || most.Load() > reportWorkers {
		t.Errorf("%d writes at once, want some, at most %d", most.Load(), reportWorkers)
	}
}

// An API server that is restored from a backup has what was told before that.
func TestWhatAnAPIServerForgetsIsToldAgain(t *testing.T) {
	entry := v1alpha1.ShardReplicaStatus{ID: 1, State: v1alpha1.ReplicaInSync, Epoch: 7}
	object := &v1alpha1.Shard{}
	object.Name, object.Status.Replicas = "v-0", []v1alpha1.ShardReplicaStatus{entry}
	var writes atomic.Int32
	api := kubernetes(t, interceptor.Funcs{SubResourceApply: func(
		context.Context, client.Client, string, runtime.ApplyConfiguration, ...client.SubResourceApplyOption,
	) error {
		writes.Add(1)
		return nil
	}}, object)
	clock := clocktesting.NewFakeClock(time.Unix(0, 0))
	r := &report{
		api: api, clock: clock, told: map[ident.ShardID]told{}, log: slog.New(slog.DiscardHandler),
		name: func(ident.ShardID) (string, bool) { return object.Name, true },
	}
	look := func(story string, want int32) {
		t.Helper()
		writes.Store(0)
		err := r.shard(t.Context(), ident.ShardID{}, []v1alpha1.ShardReplicaStatus{entry}, usageEvery)
		if err != nil || writes.Load() != want {
			t.Errorf("%s: %d writes, want %d; %v", story, writes.Load(), want, err)
		}
	}
	look("at first", 1)
	clock.Step(lookAgainEvery)
	look("it is there", 0)
	object.Status.Replicas[0].Epoch = 5
	if err := api.Status().Update(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	look("it was set back a moment ago", 0)
	clock.Step(lookAgainEvery)
	look("it was set back", 1)
	object.Status.Replicas[0].Epoch = entry.Epoch
	if err := api.Status().Update(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	entry.Disputed = true
	look("another record of its epoch is known", 1)
	clock.Step(lookAgainEvery)
	look("that was forgotten", 1)
}

func TestReportSaysWhatTheReplicaKnows(t *testing.T) {
	r := &report{clock: clocktesting.NewFakeClock(time.Unix(0, 0)), incarnation: "p"}
	key := ident.ReplicaKey{Replica: 2}
	for story, c := range map[string]struct {
		status shard.Status
		want   v1alpha1.ShardReplicaStatus
	}{
		"two records of one epoch": {
			shard.Status{State: shard.StateInSync, Epoch: 6, Disputed: true, Message: "why"},
			v1alpha1.ShardReplicaStatus{State: v1alpha1.ReplicaInSync, Epoch: 6, Disputed: true, Message: "why"},
		},
		"a rebuild has begun": {
			shard.Status{State: shard.StateRebuilding, Epoch: 2},
			v1alpha1.ShardReplicaStatus{State: v1alpha1.ReplicaRebuilding, Epoch: 2},
		},
		"it takes some time yet": {
			shard.Status{State: shard.StateRebuilding, RebuildPercent: 40, RebuildLeft: 42600 * time.Millisecond},
			v1alpha1.ShardReplicaStatus{State: v1alpha1.ReplicaRebuilding, RebuildPercent: 40, RebuildSecondsLeft: 43},
		},
		"minutes": {
			shard.Status{State: shard.StateRebuilding, RebuildPercent: 40, RebuildLeft: 134 * time.Second},
			v1alpha1.ShardReplicaStatus{State: v1alpha1.ReplicaRebuilding, RebuildPercent: 40, RebuildSecondsLeft: 130},
		},
		"hours": {
			shard.Status{State: shard.StateRebuilding, RebuildPercent: 1, RebuildLeft: 94 * time.Minute},
			v1alpha1.ShardReplicaStatus{State: v1alpha1.ReplicaRebuilding, RebuildPercent: 1, RebuildSecondsLeft: 5400},
		},
	} {
		c.status.Key, c.want.ID, c.want.Incarnation = key, int64(key.Replica), r.incarnation
		got := r.entries([]shard.Status{c.status})[key.Shard]
		if diff := cmp.Diff([]v1alpha1.ShardReplicaStatus{c.want}, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", story, diff)
		}
	}
}

// An SSD that moved is told of where it is; who had it, or has not noticed yet, does not tell otherwise for ever.
func TestEntryOfAnotherStorenodeIsLeftAlone(t *testing.T) {
	for story, c := range map[string]struct {
		away     bool
		node     string
		inObject v1alpha1.ShardReplicaStatus
		want     int32
	}{
		"the device is gone, and in service elsewhere": {
			away: true, node: "n2", inObject: v1alpha1.ShardReplicaStatus{Incarnation: "p2"},
		},
		"the device is gone, and nothing is told of it": {away: true, node: "n1"},
		"the device moved, unnoticed here": {
			node: "n2", inObject: v1alpha1.ShardReplicaStatus{Incarnation: "p2"},
		},
		"the object has what a former process told": {
			node: "n1", inObject: v1alpha1.ShardReplicaStatus{Incarnation: "p0"}, want: 1,
		},
		"the object has what was told long ago": {
			node: "n1", inObject: v1alpha1.ShardReplicaStatus{Incarnation: "p1", Epoch: 5}, want: 1,
		},
	} {
		key := ident.ReplicaKey{Replica: 1}
		entry := v1alpha1.ShardReplicaStatus{ID: 1, State: v1alpha1.ReplicaInSync, Epoch: 7, Incarnation: "p1"}
		object, device := &v1alpha1.Shard{}, &v1alpha1.Device{}
		object.Name, device.Name, device.Spec.NodeName = "v-0", deviceName(uuid(3)), c.node
		if c.inObject.Incarnation != "" {
			c.inObject.ID, c.inObject.State = 1, v1alpha1.ReplicaInSync
			object.Status.Replicas = []v1alpha1.ShardReplicaStatus{c.inObject}
		}
		var writes atomic.Int32
		api := kubernetes(t, interceptor.Funcs{SubResourceApply: func(
			context.Context, client.Client, string, runtime.ApplyConfiguration, ...client.SubResourceApplyOption,
		) error {
			writes.Add(1)
			return nil
		}}, object, device)
		clock := clocktesting.NewFakeClock(time.Unix(1e9, 0))
		r := &report{
			api: api, clock: clock, node: "n1", log: slog.New(slog.DiscardHandler),
			host: &fakeHost{statuses: []shard.Status{{Key: key, Device: uuid(3)}}},
			name: func(ident.ShardID) (string, bool) { return object.Name, true },
			told: map[ident.ShardID]told{{}: {entries: []v1alpha1.ShardReplicaStatus{entry}}},
			away: map[ident.ReplicaKey]away{},
		}
		if c.away {
			r.away[key] = away{device.Name, entry}
		}
		err := r.shard(t.Context(), ident.ShardID{}, []v1alpha1.ShardReplicaStatus{entry}, usageEvery)
		if err != nil || writes.Load() != c.want {
			t.Errorf("%s: %d writes, want %d; %v", story, writes.Load(), c.want, err)
		}
	}
}
