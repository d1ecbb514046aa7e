package definitions

import (
	"testing"

	"github.com/shale-storage/shale/api/v1alpha1"
)

// servedShard has three Replicas, of which 1 and 2 are InSync, and has been served.
func servedShard(name string) *v1alpha1.Shard {
	s := &v1alpha1.Shard{ObjectMeta: meta(name), Spec: v1alpha1.ShardSpec{
		VolumeName: "v", VolumeID: uuid(1), SizeBytes: 1 << 30, NextReplicaID: 4,
		Membership: v1alpha1.ShardMembership{Epoch: 7, Primary: 1, InSync: []int64{1, 2}},
	}}
	for id := range 3 {
		s.Spec.Replicas = append(s.Spec.Replicas, v1alpha1.ShardReplica{
			ID: int64(id + 1), DeviceName: device(id), NodeName: "n1",
		})
	}
	return s
}

// unserved makes it one whose Replicas are being created.
func unserved(s *v1alpha1.Shard) { s.Spec.Membership = v1alpha1.ShardMembership{} }

func member(change func(m *v1alpha1.ShardMembership)) func(*v1alpha1.Shard) {
	return func(s *v1alpha1.Shard) { change(&s.Spec.Membership) }
}

func TestAShardSaysWhatIsWrongWithIt(t *testing.T) {
	checkAll(t, servedShard, []change[*v1alpha1.Shard]{
		{name: "a served one is accepted"},
		{name: "one whose Replicas are being created is accepted", from: unserved},
		{
			name: "a Volume id must be a UUID", refusal: "spec.volumeID",
			from: func(s *v1alpha1.Shard) { s.Spec.VolumeID = "7" },
		},
		{name: "the index counts from 0", refusal: "spec.index", from: func(s *v1alpha1.Shard) { s.Spec.Index = -1 }},
		{
			name: "the size is in Blocks", refusal: "spec.sizeBytes",
			from: func(s *v1alpha1.Shard) { s.Spec.SizeBytes = 5000 },
		},
		{
			name: "a Device has the name of its UUID", refusal: "spec.replicas[0].deviceName",
			from: func(s *v1alpha1.Shard) { s.Spec.Replicas[0].DeviceName = "sda" },
		},
		{
			name: "two Replicas have two ids", refusal: "spec.replicas[1]: Duplicate value",
			from: func(s *v1alpha1.Shard) { s.Spec.Replicas[1].ID = 1 },
		},
		{
			name: "two Replicas have two Devices", refusal: "spec.replicas: Invalid value",
			from: func(s *v1alpha1.Shard) { s.Spec.Replicas[1].DeviceName = s.Spec.Replicas[0].DeviceName },
		},
		{
			name: "nine Replicas are too many", refusal: "spec.replicas: Too many",
			from: func(s *v1alpha1.Shard) {
				s.Spec.NextReplicaID = 99
				for id := range 6 {
					s.Spec.Replicas = append(s.Spec.Replicas, v1alpha1.ShardReplica{
						ID: int64(id + 10), DeviceName: device(id + 10), NodeName: "n2",
					})
				}
			},
		},
		{
			name: "the next id is above all others", refusal: "spec.nextReplicaID",
			from: func(s *v1alpha1.Shard) { s.Spec.NextReplicaID = 3 },
		},
		{
			name: "the Primary is InSync", refusal: "spec.membership.primary",
			from: member(func(m *v1alpha1.ShardMembership) { m.Primary = 3 }),
		},
		{name: "there may be no Primary", from: member(func(m *v1alpha1.ShardMembership) { m.Primary = 0 })},
		{
			name: "InSync are Replicas", refusal: "spec.membership.inSync",
			from: member(func(m *v1alpha1.ShardMembership) { m.InSync = []int64{1, 9} }),
		},
		{
			name: "InSync names each once", refusal: "spec.membership.inSync[1]: Duplicate value",
			from: member(func(m *v1alpha1.ShardMembership) { m.InSync = []int64{1, 1} }),
		},
		{
			name: "somebody is always InSync", refusal: "spec.membership.inSync",
			from: member(func(m *v1alpha1.ShardMembership) { m.Primary, m.InSync = 0, nil }),
		},
		{
			name: "nobody is InSync before the first Epoch", refusal: "spec.membership.inSync",
			from: member(func(m *v1alpha1.ShardMembership) { m.Epoch = 0 }),
		},
	})
}

func TestAShardNeverTakesBackWhatReplicasHaveSeen(t *testing.T) {
	checkAll(t, func(name string) *v1alpha1.Shard { return servedShard("later-" + name) }, []change[*v1alpha1.Shard]{
		{name: "the first Epoch", from: unserved, to: member(func(m *v1alpha1.ShardMembership) {
			*m = v1alpha1.ShardMembership{Epoch: 1, Primary: 2, InSync: []int64{1, 2, 3}}
		})},
		{name: "a promotion", to: member(func(m *v1alpha1.ShardMembership) {
			*m = v1alpha1.ShardMembership{Epoch: 8, Primary: 2, InSync: []int64{2}}
		})},
		{
			name: "a person mends a restored record",
			to:   member(func(m *v1alpha1.ShardMembership) { m.Epoch = 900 }),
		},
		{
			name: "the Epoch does not go back", refusal: "spec.membership.epoch: Invalid value: 6",
			to: member(func(m *v1alpha1.ShardMembership) { m.Epoch = 6 }),
		},
		{
			name: "no other Primary in the same Epoch", refusal: "spec.membership.epoch",
			to: member(func(m *v1alpha1.ShardMembership) { m.Primary = 2 }),
		},
		{
			name: "nobody else InSync in the same Epoch", refusal: "spec.membership.epoch",
			to: member(func(m *v1alpha1.ShardMembership) { m.InSync = []int64{1} }),
		},
		{name: "a Replica that failed before the first Epoch is replaced", from: unserved, to: replace(0)},
		{name: "a Replica is replaced with the next Epoch", to: replace(1)},
		{name: "no Replica is replaced in the same Epoch", to: replace(0), refusal: "spec.replicas"},
		{
			name: "an id is not used again", refusal: "spec.replicas",
			from: func(s *v1alpha1.Shard) { s.Spec.NextReplicaID = 8 },
			to: func(s *v1alpha1.Shard) {
				replace(1)(s)
				s.Spec.Replicas[2].ID, s.Spec.NextReplicaID = 7, 9
			},
		},
		{
			name: "nextReplicaID only grows", refusal: "spec.nextReplicaID",
			from: func(s *v1alpha1.Shard) { s.Spec.NextReplicaID = 8 },
			to:   func(s *v1alpha1.Shard) { s.Spec.NextReplicaID = 7 },
		},
		{
			name: "a Replica stays on its Device", refusal: "spec.replicas[2].deviceName",
			to: func(s *v1alpha1.Shard) { s.Spec.Replicas[2].DeviceName = device(77) },
		},
		{name: "a Device moves to another node", to: func(s *v1alpha1.Shard) { s.Spec.Replicas[2].NodeName = "n9" }},
		{
			name: "the Volume stays", refusal: "spec.volumeName",
			to: func(s *v1alpha1.Shard) { s.Spec.VolumeName = "w" },
		},
		{
			name: "the Volume id stays", refusal: "spec.volumeID",
			to: func(s *v1alpha1.Shard) { s.Spec.VolumeID = uuid(2) },
		},
		{name: "the index stays", refusal: "spec.index", to: func(s *v1alpha1.Shard) { s.Spec.Index = 1 }},
		{name: "the last Shard grows", to: func(s *v1alpha1.Shard) { s.Spec.SizeBytes += 4096 }},
		{
			name: "no Shard shrinks", refusal: "spec.sizeBytes",
			to: func(s *v1alpha1.Shard) { s.Spec.SizeBytes -= 4096 },
		},
	})
}

// replace puts a new Replica in the place of the third, so many Epochs later.
func replace(epochs int64) func(*v1alpha1.Shard) {
	return func(s *v1alpha1.Shard) {
		s.Spec.Membership.Epoch += epochs
		s.Spec.Replicas[2] = v1alpha1.ShardReplica{ID: s.Spec.NextReplicaID, DeviceName: device(50), NodeName: "n5"}
		s.Spec.NextReplicaID++
	}
}
