package failover

import (
	"fmt"
	"slices"
	"time"
)

// MaxReplicas bounds the Replicas of a Shard, those being replaced included; the data plane's bound.
const MaxReplicas = 8

// RepairAction is what to do about the Replicas.
type RepairAction uint8

// The actions.
const (
	// RepairNothing: as many as wanted, or not yet time.
	RepairNothing RepairAction = iota + 1
	// RepairAdd: find a place for one more Replica.
	RepairAdd
	// RepairRemove: take Replica away and write Next.
	RepairRemove
)

// RepairDecision about the Replicas of a Shard.
type RepairDecision struct {
	Action RepairAction
	// Replica to remove.
	Replica int64
	// Next is the membership to write together with the change.
	Next Membership
	// Again is when to look again, if nothing happens before; 0 if there is no reason to.
	Again time.Duration
	// Message for people.
	Message string
}

// Repair says whether a Replica must be added or taken away. It is for Shards whose Primary was just kept. A Replica is
// given up when it is out of InSync and has been lost for longer than after.
func Repair(s *Shard, after time.Duration) RepairDecision {
	if surplus, ok := s.surplus(); ok {
		next := s.next()
		next.InSync = slices.DeleteFunc(next.InSync, func(id int64) bool { return id == surplus.ID })
		return RepairDecision{
			Action: RepairRemove, Replica: surplus.ID, Next: next,
			Message: fmt.Sprintf("replica %d on node %s is removed: %d replicas are in sync without it",
				surplus.ID, surplus.Node, len(next.InSync)),
		}
	}
	again := time.Duration(0)
	kept := 0
	for _, r := range s.Replicas {
		out := !slices.Contains(s.InSync, r.ID)
		switch {
		case out && r.LostFor > 0 && r.LostFor >= after:
		case out && r.LostFor > 0:
			kept++
			if left := after - r.LostFor; again == 0 || left < again {
				again = left
			}
		default:
			kept++
		}
	}
	if kept >= s.Wanted || len(s.Replicas) >= MaxReplicas {
		return RepairDecision{Action: RepairNothing, Again: again}
	}
	return RepairDecision{
		Action: RepairAdd, Next: s.next(), Again: again,
		Message: fmt.Sprintf("%d of %d replicas are left", kept, s.Wanted),
	}
}

// surplus is the Replica that is not needed: only when enough are InSync, first one that is lost, then one that is out
// of InSync, then, if all InSync are well, a Backup of them beyond what is wanted: a Primary that has lost power may be
// waiting for the very one. Never the Primary.
func (s *Shard) surplus() (Replica, bool) {
	if len(s.Replicas) <= s.Wanted || s.Wanted < 1 {
		return Replica{}, false
	}
	var found Replica
	rank := 0
	for _, r := range s.Replicas {
		inSync := slices.Contains(s.InSync, r.ID)
		now := 0
		switch {
		case r.ID == s.Primary, inSync && !s.isWell():
		case !inSync && len(s.InSync) < s.Wanted, inSync && len(s.InSync) <= s.Wanted:
		case !inSync && r.LostFor > 0:
			now = 3
		case !inSync:
			now = 2
		default:
			now = 1
		}
		if now > 0 && now >= rank { // of equals the newest
			found, rank = r, now
		}
	}
	return found, rank > 0
}

// isWell reports whether all that are InSync are alive and have what they should.
func (s *Shard) isWell() bool {
	for _, id := range s.InSync {
		r, found := s.find(id)
		if !found || r.Failed || r.Gone || r.Lossy || !s.Nodes[r.Node].Alive {
			return false
		}
	}
	return true
}

// next is the membership of a change of Replicas: a new Epoch, and nothing else.
func (s *Shard) next() Membership {
	return Membership{Epoch: s.Epoch + 1, Primary: s.Primary, InSync: slices.Clone(s.InSync)}
}
