package agent

import (
	"testing"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/storenode/ident"
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
