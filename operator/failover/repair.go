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
	// Kept are the Replicas that one more is to be apart from: those that it does not replace.
	Kept []int64
	// Again is when to look again, if nothing happens before; 0 if there is no reason to.
	Again time.Duration
	// Message for people.
	Message string
}

// Struggles reports whether the Primary is on a Device that failed and does what it can: it serves reads, and brings
// others in sync to hand over to.
func (s *Shard) Struggles() bool {
	r, found := s.find(s.Primary)
	return found && r.Failed && !r.Missing && !r.Gone && s.Nodes[r.Node].Alive
}

// Repair says whether a Replica must be added or taken away. It is for Shards whose Primary was just kept, or struggles
// and has no heir. A Replica is given up when it is out of InSync and has been lost for longer than after; one in sync
// that failed, at once if the Primary struggles: the only copy is on what is about to die.
func Repair(s *Shard, after time.Duration) RepairDecision {
	if double, ok := s.double(); ok {
		return RepairDecision{
			Action: RepairRemove, Replica: double.ID, Next: s.next(),
			Message: fmt.Sprintf("replica %d on node %s is removed: another is in its failure domain", double.ID, double.Node),
		}
	}
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
	var kept []int64
	struggles := s.Struggles()
	for _, r := range s.Replicas {
		out := !slices.Contains(s.InSync, r.ID)
		switch {
		case !out && r.Failed && struggles:
		case out && r.LostFor > 0 && r.LostFor >= after:
		case out && r.LostFor > 0:
			kept = append(kept, r.ID)
			if left := after - r.LostFor; again == 0 || left < again {
				again = left
			}
		default:
			kept = append(kept, r.ID)
		}
	}
	if len(kept) >= s.Wanted || len(s.Replicas) >= MaxReplicas {
		return RepairDecision{Action: RepairNothing, Again: again}
	}
	message := fmt.Sprintf("%d of %d replicas are left", len(kept), s.Wanted)
	if struggles {
		message += ", and the device of the primary failed"
	}
	return RepairDecision{Action: RepairAdd, Next: s.next(), Kept: kept, Again: again, Message: message}
}

// double is a Replica that need not be brought in sync, because one more than wanted is there and another is in the
// same failure domain: one that was lost is back, and its replacement is beside it. Of two that are out of InSync the
// newer one goes: the other has most of what it needs.
func (s *Shard) double() (Replica, bool) {
	if len(s.Replicas) <= s.Wanted || s.Wanted < 1 {
		return Replica{}, false
	}
	here := func(r Replica) bool { return s.able(r) && r.LostFor == 0 && r.Back }
	for _, r := range slices.Backward(s.Replicas) {
		if !slices.Contains(s.InSync, r.ID) && here(r) && s.isDoubled(r, here) {
			return r, true
		}
	}
	return Replica{}, false
}

// isDoubled reports whether another Replica that matches is in the same failure domain.
func (s *Shard) isDoubled(r Replica, match func(Replica) bool) bool {
	return slices.ContainsFunc(s.Replicas, func(o Replica) bool {
		return o.ID != r.ID && o.Domain == r.Domain && r.Domain != "" && match(o)
	})
}

// surplus is the Replica that is not needed: only when enough are InSync, first one that is lost, then one that is out
// of InSync, then, if all InSync are well, a Backup of them beyond what is wanted, best one in the failure domain of
// another: a Primary that has lost power may be waiting for the very one. Never the Primary.
func (s *Shard) surplus() (Replica, bool) {
	if len(s.Replicas) <= s.Wanted || s.Wanted < 1 {
		return Replica{}, false
	}
	var found Replica
	rank, sound := 0, 0
	for _, r := range s.Replicas {
		if slices.Contains(s.InSync, r.ID) && !r.Failed && !r.Gone {
			sound++
		}
	}
	for _, r := range s.Replicas {
		inSync := slices.Contains(s.InSync, r.ID)
		now := 0
		switch {
		case r.ID == s.Primary, inSync && !s.isWell():
		case !inSync && sound < s.Wanted, inSync && len(s.InSync) <= s.Wanted:
		case !inSync && r.LostFor > 0:
			now = 4
		case !inSync:
			now = 3
		case s.isDoubled(r, func(o Replica) bool { return slices.Contains(s.InSync, o.ID) }):
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
