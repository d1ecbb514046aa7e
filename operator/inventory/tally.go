package inventory

import (
	"sync"

	"github.com/shale-storage/shale/api/v1alpha1"
)

// tally keeps sums over all Shards, by Device, as they change: a node that dies touches each of its Shards, and none of
// them can afford to look at all the others. Safe for concurrent use.
type tally struct {
	mu sync.Mutex
	// shards and devices are bounded by the objects there are.
	shards  map[string]counted
	devices map[string]Load
}

// counted is what a Shard adds.
type counted struct {
	size    int64
	next    int64
	on      []string
	primary string
}

func newTally() *tally { return &tally{shards: map[string]counted{}, devices: map[string]Load{}} }

// Note takes the Shard as it is now into the sums; Drop takes it out.
func (i *Inventory) Note(s *v1alpha1.Shard) {
	now := counted{size: s.Spec.SizeBytes, next: s.Spec.NextReplicaID}
	for at, r := range s.Spec.Replicas {
		now.on = append(now.on, r.DeviceName)
		meant := s.Spec.Membership.Epoch == 0 && at == 0
		if meant || s.Spec.Membership.Epoch > 0 && s.Spec.Membership.Primary == r.ID {
			now.primary = r.DeviceName
		}
	}
	t := i.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	t.addLocked(t.shards[s.Name], -1)
	t.addLocked(now, 1)
	t.shards[s.Name] = now
}

// Drop takes a Shard that is gone out of the sums.
func (i *Inventory) Drop(name string) {
	t := i.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	t.addLocked(t.shards[name], -1)
	delete(t.shards, name)
}

// Primaries on a Device, or meant to be there.
func (i *Inventory) Primaries(device string) int { return i.tally.load(device).Primaries }

func (t *tally) addLocked(c counted, sign int) {
	add := func(device string, size int64, primaries int) {
		l := t.devices[device]
		l.Reserved += size * int64(sign)
		l.Primaries += primaries * sign
		l.replicas += sign
		if l.replicas == 0 {
			delete(t.devices, device)
			return
		}
		t.devices[device] = l
	}
	for _, device := range c.on {
		primaries := 0
		if device == c.primary {
			primaries = 1
		}
		add(device, c.size, primaries)
	}
}

func (t *tally) load(device string) Load {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.devices[device]
}

// next is the ID of a Shard's next Replica, 0 if there is no such Shard.
func (t *tally) next(shard string) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.shards[shard].next
}
