package shard

import (
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
