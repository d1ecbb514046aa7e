package shard

import (
	"strings"
	"testing"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/operator/failover"
	"github.com/shale-storage/shale/operator/liveness"
)

func TestRebuildOfWhoDiedDoesNotGoOn(t *testing.T) {
	s := &scope{
		shard: &v1alpha1.Shard{}, volume: &v1alpha1.Volume{},
		alive:   map[string]liveness.State{"n1": {Alive: true}, "n2": {}, "n3": {Alive: true}},
		reports: map[int64]*v1alpha1.ShardReplicaStatus{},
	}
	s.shard.Spec.Membership = v1alpha1.ShardMembership{Epoch: 1, Primary: 9, InSync: []int64{9}}
	s.seen.Wanted = 4
	for id, seen := range map[int64]failover.Replica{
		1: {Node: "n1"}, 2: {Node: "n2"}, 3: {Node: "n3", Failed: true},
	} {
		seen.ID = id
		s.seen.Replicas = append(s.seen.Replicas, seen)
		s.reports[id] = &v1alpha1.ShardReplicaStatus{ID: id, State: v1alpha1.ReplicaRebuilding, RebuildPercent: 40}
	}
	for id, want := range map[int64]string{
		1: v1alpha1.ReasonRebuilding, 2: v1alpha1.ReasonDegraded, 3: v1alpha1.ReasonDegraded,
	} {
		s.shard.Spec.Replicas = []v1alpha1.ShardReplica{{ID: id}}
		if got := healthy(s).Reason; got != want {
			t.Errorf("replica %d rebuilding: %s, want %s", id, got, want)
		}
	}
}

func TestReplicaIsToldToBeWhereItsDeviceIs(t *testing.T) {
	s := &scope{}
	s.seen.Replicas = []failover.Replica{{ID: 1, Node: "n7"}}
	if got := s.node(v1alpha1.ShardReplica{ID: 1, NodeName: "n1"}); got != "n7" {
		t.Errorf("a replica whose device moved to n7 is told to be on %s", got)
	}
}

// Nobody serves of two records of one Epoch, though the object has a Primary that is alive.
func TestTwoRecordsOfOneEpochAreTold(t *testing.T) {
	for story, c := range map[string]struct {
		report v1alpha1.ShardReplicaStatus
		served bool
	}{
		"it knows two":                         {report: v1alpha1.ShardReplicaStatus{Epoch: 7, Disputed: true}},
		"two that are newer than the object's": {report: v1alpha1.ShardReplicaStatus{Epoch: 8, Disputed: true}},
		"a newer one was written since": {
			report: v1alpha1.ShardReplicaStatus{Epoch: 6, Disputed: true}, served: true,
		},
		"it knows one": {report: v1alpha1.ShardReplicaStatus{Epoch: 7}, served: true},
	} {
		s := &scope{shard: replicated(2, 1, 2)}
		s.seen.Wanted, s.decision.Action = 2, failover.Keep
		c.report.ID = 2
		s.shard.Status.Replicas[1] = c.report
		told := ready(s)
		if told.OK != c.served || healthy(s).OK != c.served || (s.stale() == "") != c.served {
			t.Errorf("%s: ready %+v, healthy %+v, stale %q", story, told, healthy(s), s.stale())
		}
		for _, want := range []string{"replica 2 on node n2", "docs/operate/restored-api-server.md"} {
			if !c.served && (told.Reason != v1alpha1.ReasonStaleRecord || !strings.Contains(told.Message, want)) {
				t.Errorf("%s: got %+v, want %q in it", story, told, want)
			}
		}
	}
}

func TestProgressOfARebuildIsShown(t *testing.T) {
	for want, report := range map[string]v1alpha1.ShardReplicaStatus{
		"n3 0%":        {},
		"n3 40%":       {RebuildPercent: 40},
		"n3 40% 2m10s": {RebuildPercent: 40, RebuildSecondsLeft: 130},
	} {
		if got := progress("n3", &report); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
