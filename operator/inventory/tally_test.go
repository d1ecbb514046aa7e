package inventory

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/shale-storage/shale/api/v1alpha1"
)

// TestTallyIsWhatAWalkOverAllShardsFinds changes Shards at random and compares with a walk over all of them.
func TestTallyIsWhatAWalkOverAllShardsFinds(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 3))
		i := New(nil, nil, nil)
		all := map[string]*v1alpha1.Shard{}
		for range 60 {
			name := fmt.Sprint(random.IntN(8))
			if random.IntN(4) == 0 {
				delete(all, name)
				i.Drop(name)
				continue
			}
			s := draw(random)
			s.Name = name
			all[name] = s
			i.Note(s)
		}
		want := map[string]Load{}
		for _, s := range all {
			for at, r := range s.Spec.Replicas {
				l := want[r.DeviceName]
				l.Reserved += s.Spec.SizeBytes
				l.replicas++
				if s.Spec.Membership.Primary == r.ID || s.Spec.Membership.Epoch == 0 && at == 0 {
					l.Primaries++
				}
				want[r.DeviceName] = l
			}
		}
		for device := range 6 {
			name := fmt.Sprintf("dev-%d", device)
			if got := i.tally.load(name); got != want[name] {
				t.Fatalf("seed %d: %s: got %+v, want %+v", seed, name, got, want[name])
			}
		}
		if len(i.tally.devices) != len(want) {
			t.Fatalf("seed %d: %d devices are kept, %d have replicas", seed, len(i.tally.devices), len(want))
		}
	}
}

func draw(random *rand.Rand) *v1alpha1.Shard {
	s := &v1alpha1.Shard{}
	s.Spec.SizeBytes = 1 + random.Int64N(100)
	for at, device := range random.Perm(6)[:1+random.IntN(4)] {
		s.Spec.Replicas = append(s.Spec.Replicas, v1alpha1.ShardReplica{
			ID: int64(at + 1), DeviceName: fmt.Sprintf("dev-%d", device),
		})
	}
	s.Spec.Membership.Epoch = random.Int64N(2)
	if s.Spec.Membership.Epoch > 0 {
		s.Spec.Membership.Primary = 1 + random.Int64N(int64(len(s.Spec.Replicas)))
	}
	return s
}
