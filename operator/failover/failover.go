package failover

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ReportTrust is the age of a Lease from which on it does not contradict a Backup's report: the storenode renews every
// second, so it has missed a renewal.
const ReportTrust = 1500 * time.Millisecond

// Agree is how many storenodes, being all others with a Replica in sync, overrule a Lease that is fresh: it only says
// that the Primary's storenode reaches the API server. Of two that do not hear each other nobody knows who is cut off.
const Agree = 2

// Node is what is known of one storenode.
type Node struct {
	// Alive: its Lease has not expired.
	Alive bool
	// LeaseAge is how long its Lease has not been seen to change, on the operator's own clock.
	LeaseAge time.Duration
	// Unreachable are the storenodes it has not heard from, as a Backup of theirs, for longer than the grace.
	Unreachable []string
	// Maintenance: somebody works on it, so that it will be back.
	Maintenance bool
	// Host says what sign of life its host gives although its storenode is silent; empty if none is known.
	Host string
	// Primaries on it, to spread the Primaries that move.
	Primaries int
}

// Replica is what is known of one copy.
type Replica struct {
	ID     int64
	Node   string
	Device string
	// Domain is the failure domain of Node; empty if that was not asked for.
	Domain string
	// Failed: its own storenode says that its Device cannot hold it. Missing: it does not even find the Device.
	Failed, Missing bool
	// Lossy: its machine lost power, or may have since it was last heard of, or nothing is told of it, so acknowledged
	// writes that were not flushed may be missing.
	Lossy bool
	// Gone: its Device object was deleted by a person, who says by that it will not come back.
	Gone bool
	// LostFor is how long it has been failed, gone, on a dead storenode or on a Device that does not answer; 0 while it is
	// none of these.
	LostFor time.Duration
	// Away since when, if LostFor; for people.
	Away time.Time
	// Told: its storenode's present process tells of it.
	Told bool
	// Back: it is known to be there, not only not known to be away: it is Told of, by who was seen to renew its Lease.
	Back bool
	// Content is how new what it has is.
	Content Content
}

// Membership is the record of a Shard.
type Membership struct {
	Epoch, Primary int64
	InSync         []int64
}

// Shard is all that a decision needs.
type Shard struct {
	Membership
	Replicas []Replica
	Nodes    map[string]Node
	// Wanted Replicas.
	Wanted int
	// Seen is the highest Epoch that any Replica has reported.
	Seen int64
}

// Cause says why a Primary is given up. Causes are labels of a metric.
type Cause string

// The causes.
const (
	CauseLease   Cause = "LeaseExpired"
	CauseReport  Cause = "ReportedUnreachable"
	CauseFailed  Cause = "ReplicaFailed"
	CauseMissing Cause = "NoPrimary"
)

// Action is what to do about the Primary.
type Action uint8

// The actions.
const (
	// Keep: the Primary does its work.
	Keep Action = iota + 1
	// Wait: a Backup complains, but the Lease is fresh. Look again after Decision.Again.
	Wait
	// Promote: write Decision.Next.
	Promote
	// Refuse: nobody may be promoted; Decision.Message names the nodes to bring back.
	Refuse
)

// Decision about the Primary of a Shard.
type Decision struct {
	Action Action
	Cause  Cause
	// Next is the membership to write.
	Next Membership
	// Again is when to look again, if nothing happens before.
	Again time.Duration
	// Message for people.
	Message string
}

// Decide says what becomes of the Primary. The Shard must have an Epoch.
func Decide(s *Shard) Decision {
	primary, found := s.find(s.Primary)
	if !found {
		return s.promote(CauseMissing, "the shard has no primary", s.candidates(0, ""))
	}
	node := s.Nodes[primary.Node]
	switch {
	case !node.Alive:
		why := fmt.Sprintf("the lease of storenode %s expired", primary.Node)
		return s.promote(CauseLease, why, s.candidates(primary.ID, primary.Node))
	case primary.Failed:
		why := fmt.Sprintf("replica %d on node %s failed", primary.ID, primary.Node)
		return s.promote(CauseFailed, why, s.candidates(primary.ID, "")) // its node is alive: another there will do
	case primary.Gone:
		why := fmt.Sprintf("device %s of replica %d on node %s was deleted", primary.Device, primary.ID, primary.Node)
		return s.promote(CauseFailed, why, s.candidates(primary.ID, ""))
	}
	reporters := slices.DeleteFunc(s.candidates(primary.ID, primary.Node), func(r Replica) bool {
		return !slices.Contains(s.Nodes[r.Node].Unreachable, primary.Node)
	})
	candidates := s.candidates(primary.ID, primary.Node)
	switch {
	case len(reporters) == 0:
		return Decision{Action: Keep}
	case len(reporters) == len(candidates) && len(reporters) >= Agree && len(candidates) == len(s.InSync)-1:
		why := fmt.Sprintf("no storenode with a replica in sync hears storenode %s, though its lease is fresh", primary.Node)
		return s.promote(CauseReport, why, reporters)
	case node.LeaseAge < ReportTrust:
		return Decision{Action: Wait, Again: ReportTrust - node.LeaseAge}
	case reporters[0].Lossy && !candidates[0].Lossy:
		return Decision{Action: Keep} // until the Lease expires: another has more
	}
	why := fmt.Sprintf("storenode %s does not answer %s and has missed a renewal of its lease",
		primary.Node, reporters[0].Node)
	return s.promote(CauseReport, why, reporters)
}

// promote makes the first of candidates the Primary, or refuses if there is none.
func (s *Shard) promote(cause Cause, why string, candidates []Replica) Decision {
	if len(candidates) == 0 {
		return Decision{Action: Refuse, Cause: cause, Message: s.refusal(why)}
	}
	best := candidates[0]
	next := Membership{Epoch: s.Epoch + 1, Primary: best.ID}
	for _, id := range s.InSync {
		if id != s.Primary || best.Lossy {
			next.InSync = append(next.InSync, id)
		}
	}
	message := fmt.Sprintf("replica %d on node %s becomes primary in epoch %d: %s", best.ID, best.Node, next.Epoch, why)
	if best.Lossy {
		message += "; as it may have lost power, it waits for all others in sync, replica " +
			fmt.Sprint(s.Primary) + " among them, before it serves"
	}
	return Decision{Action: Promote, Cause: cause, Next: next, Message: message}
}

// candidates are the InSync Replicas that could be Primary instead of the one given, best first.
func (s *Shard) candidates(primary int64, primaryNode string) []Replica {
	var able []Replica
	for _, id := range s.InSync {
		r, found := s.find(id)
		if found && id != primary && r.Node != primaryNode && !r.Failed && !r.Gone && s.Nodes[r.Node].Alive {
			able = append(able, r)
		}
	}
	reports := func(r Replica) int {
		if primaryNode != "" && slices.Contains(s.Nodes[r.Node].Unreachable, primaryNode) {
			return 0
		}
		return 1
	}
	last := func(r Replica) int {
		if r.Lossy {
			return 1
		}
		return 0
	}
	slices.SortFunc(able, func(a, b Replica) int {
		return cmp.Or(
			cmp.Compare(last(a), last(b)),
			cmp.Compare(reports(a), reports(b)), // its grace is over, so it can start at once
			cmp.Compare(s.Nodes[a.Node].Primaries, s.Nodes[b.Node].Primaries),
			cmp.Compare(a.ID, b.ID),
		)
	})
	return able
}

// refusal names who alone can bring the Shard back.
func (s *Shard) refusal(why string) string {
	var holders []string
	for _, id := range s.InSync {
		r, found := s.find(id)
		switch {
		case !found:
			holders = append(holders, fmt.Sprintf("replica %d, which is not listed", id))
		case r.Failed:
			holders = append(holders, fmt.Sprintf("node %s, whose device %s failed", r.Node, r.Device))
		case r.Gone:
			holders = append(holders, fmt.Sprintf("node %s, whose device %s was deleted", r.Node, r.Device))
		default:
			holders = append(holders, "node "+r.Node)
		}
	}
	return fmt.Sprintf("%s; only these have every acknowledged write, bring one of them back: %s",
		why, strings.Join(holders, ", "))
}

func (s *Shard) find(id int64) (Replica, bool) {
	for _, r := range s.Replicas {
		if r.ID == id && id != 0 {
			return r, true
		}
	}
	return Replica{}, false
}
