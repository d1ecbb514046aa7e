package failover

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shale-storage/shale/api/v1alpha1"
)

// ErrRequest refuses a request to give Replicas up that cannot be read.
var ErrRequest = errors.New("cannot be read")

// Content is how new what a Replica has is, as far as anybody has seen.
type Content struct {
	// Epoch is the last in which it was seen InSync, 0 if it never was.
	Epoch int64
	// Until when it was, by the operator's clock; zero while it is.
	Until time.Time
	// Incomplete: what it has is of no one moment, or nobody knows.
	Incomplete bool
}

// Loss is what giving up would mean for a Shard that cannot serve for lack of InSync Replicas.
type Loss struct {
	// Away are the InSync Replicas that cannot serve. Any of them may have the only copy of an acknowledged write.
	Away []Replica
	// Kept are the InSync Replicas that are left: none, or the Primary and others that lost power and wait for Away.
	Kept []int64
	// Survivors are who could serve instead, best first.
	Survivors []Replica
	// Newer are Replicas that are away too, not InSync, and newer than the best of Survivors.
	Newer []Replica
	// Working: one of Away failed on a storenode that is alive; it does what it can.
	Working bool
}

// Request of a person to give Replicas up.
type Request struct {
	Replicas []int64
	// Epoch in which they are all that is missing, so that no other situation is hit.
	Epoch int64
	// Incomplete is the Replica to serve from though it is Incomplete, 0 if none is to.
	Incomplete int64
}

// ParseRequest reads IDS@EPOCH and the ID of an incomplete Replica, or nothing.
func ParseRequest(giveUp, incomplete string) (Request, error) {
	var q Request
	ids, epoch, found := strings.Cut(strings.TrimSpace(giveUp), "@")
	if !found {
		return q, fmt.Errorf("%q %w: want IDS@EPOCH, as in 1,3@7", giveUp, ErrRequest)
	}
	var err error
	if q.Epoch, err = strconv.ParseInt(epoch, 10, 64); err != nil {
		return q, fmt.Errorf("epoch %q %w", epoch, ErrRequest)
	}
	for text := range strings.SplitSeq(ids, ",") {
		id, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		if err != nil || id < 1 || len(q.Replicas) == MaxReplicas || slices.Contains(q.Replicas, id) {
			return q, fmt.Errorf("replica %q %w: want different ids, at most %d", text, ErrRequest, MaxReplicas)
		}
		q.Replicas = append(q.Replicas, id)
	}
	if incomplete == "" {
		return q, nil
	}
	if q.Incomplete, err = strconv.ParseInt(strings.TrimSpace(incomplete), 10, 64); err != nil || q.Incomplete < 1 {
		return q, fmt.Errorf("incomplete replica %q %w: want an id", incomplete, ErrRequest)
	}
	return q, nil
}

// Losing says what giving up would mean, and whether there is anything to give up: no InSync Replica can serve, or all
// that can have lost power and wait for others.
func Losing(s *Shard) (Loss, bool) {
	var l Loss
	if s.Epoch == 0 {
		return l, false
	}
	waits := true
	for _, id := range s.InSync {
		r, found := s.find(id)
		if !found {
			r.ID = id
		}
		if !found || !s.able(r) {
			l.Away = append(l.Away, r)
			l.Working = l.Working || found && r.Failed && !r.Gone && s.Nodes[r.Node].Alive
			continue
		}
		l.Kept = append(l.Kept, id)
		waits = waits && r.Lossy && r.Told // of whom nothing is told since it started nobody knows that
	}
	switch {
	case len(l.Away) == 0:
		return l, false
	case len(l.Kept) == 0:
		l.Survivors = s.survivors(func(r Replica) bool { return !slices.Contains(s.InSync, r.ID) })
		l.Newer = s.newer(l.Survivors)
		return l, true
	case slices.Contains(l.Kept, s.Primary):
		l.Survivors = s.survivors(func(r Replica) bool { return r.ID == s.Primary })
		return l, waits
	}
	return l, false // one of those kept is about to be promoted
}

// newer are the Replicas that cannot serve and would be better than the best that can.
func (s *Shard) newer(survivors []Replica) []Replica {
	best := Content{Incomplete: true}
	if len(survivors) > 0 {
		best = survivors[0].Content
	}
	var found []Replica
	for _, r := range s.Replicas {
		c := r.Content
		better := !c.Incomplete && (best.Incomplete || c.Epoch > best.Epoch)
		if better && !s.able(r) && !r.Gone && !slices.Contains(s.InSync, r.ID) {
			found = append(found, r)
		}
	}
	return found
}

// able reports whether a Replica can serve.
func (s *Shard) able(r Replica) bool { return s.Nodes[r.Node].Alive && !r.Failed && !r.Gone }

// survivors are the able Replicas that match and of which their storenodes tell, best first: those whose content is of
// one moment, of those the newest, of those the ones that did not lose power.
func (s *Shard) survivors(match func(Replica) bool) []Replica {
	var able []Replica
	for _, r := range s.Replicas {
		if match(r) && s.able(r) && r.Told {
			able = append(able, r)
		}
	}
	slices.SortFunc(able, func(a, b Replica) int {
		return cmp.Or(
			compareBool(a.Content.Incomplete, b.Content.Incomplete),
			cmp.Compare(b.Content.Epoch, a.Content.Epoch),
			compareBool(a.Lossy, b.Lossy),
			b.Content.Until.Compare(a.Content.Until),
			cmp.Compare(s.Nodes[a.Node].Primaries, s.Nodes[b.Node].Primaries),
			cmp.Compare(a.ID, b.ID),
		)
	})
	return able
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// Given is what was decided about a request: Refusal, or Next without the Replicas Up.
type Given struct {
	// Refusal says why not; empty if it is done.
	Refusal string
	// Up are the Replicas given up.
	Up   []Replica
	Next Membership
	// Message for people says what is lost.
	Message string
}

// GiveUp decides about a request. It is granted only if it names exactly the InSync Replicas that cannot serve, in this
// very Epoch, if nothing says that one of them may yet serve, and if somebody is left who has something whole.
func GiveUp(s *Shard, q Request) Given {
	loss, lost := Losing(s)
	for _, check := range []func() string{
		func() string { return s.checkRecord(q) },
		func() string { return s.checkNamed(q) },
		func() string { return s.checkMissing(q, &loss, lost) },
		func() string { return s.checkHosts(&loss) },
	} {
		if why := check(); why != "" {
			return Given{Refusal: why}
		}
	}
	survivor, why := loss.choose(q)
	if why != "" {
		return Given{Refusal: why}
	}
	next := Membership{Epoch: max(s.Epoch, s.Seen) + 1, Primary: survivor.ID, InSync: slices.Clone(loss.Kept)}
	if len(next.InSync) == 0 {
		next.InSync = []int64{survivor.ID}
	}
	return Given{Up: loss.Away, Next: next, Message: fmt.Sprintf(
		"%s given up by a person's command; replica %d on node %s is primary in epoch %d: %s",
		names(loss.Away), survivor.ID, survivor.Node, next.Epoch, loss.cost(survivor))}
}

// checkRecord: the request is of the record as it is, and the record is not older than what Replicas have seen.
func (s *Shard) checkRecord(q Request) string {
	switch {
	case s.Epoch == 0:
		return "the shard was never served, so nothing can be lost"
	case s.Seen > s.Epoch:
		return fmt.Sprintf("a replica has seen epoch %d, the object has %d: first see docs/operate/restored-api-server.md",
			s.Seen, s.Epoch)
	case q.Epoch != s.Epoch:
		return fmt.Sprintf("the command is of epoch %d, now it is epoch %d: see what the condition Ready says now",
			q.Epoch, s.Epoch)
	}
	return ""
}

// checkNamed: who is named is InSync, and cannot serve.
func (s *Shard) checkNamed(q Request) string {
	for _, id := range q.Replicas {
		r, found := s.find(id)
		switch {
		case !slices.Contains(s.InSync, id):
			return fmt.Sprintf("replica %d is not in sync: nothing waits for it", id)
		case found && s.able(r):
			return fmt.Sprintf("replica %d is alive: storenode %s renews its lease and has device %s", id, r.Node, r.Device)
		}
	}
	return ""
}

// checkMissing: nobody who is missing is left out, and the Shard cannot go on without.
func (s *Shard) checkMissing(q Request, loss *Loss, lost bool) string {
	var unnamed []Replica
	for _, r := range loss.Away {
		if !slices.Contains(q.Replicas, r.ID) {
			unnamed = append(unnamed, r)
		}
	}
	switch {
	case len(unnamed) > 0:
		return fmt.Sprintf("%s cannot serve either and may have the only copy of acknowledged writes: bring it back, or "+
			"name it too", names(unnamed))
	case !lost:
		return fmt.Sprintf("the shard goes on without: replicas %v are in sync and alive", loss.Kept)
	}
	return ""
}

// checkHosts: nothing says that who is named may serve, unseen by the API server.
func (s *Shard) checkHosts(loss *Loss) string {
	for _, r := range loss.Away {
		if host := s.Nodes[r.Node].Host; host != "" && !r.Gone && !r.Failed {
			return fmt.Sprintf("node %s is not known to be dead (%s), so replica %d may be serving yet: switch the node "+
				"off, or, if only the device is destroyed, delete its object %s", r.Node, host, r.ID, r.Device)
		}
	}
	return ""
}

// choose who serves instead.
func (l *Loss) choose(q Request) (Replica, string) {
	if q.Incomplete != 0 {
		for _, r := range l.Survivors {
			if r.ID == q.Incomplete {
				return r, ""
			}
		}
		return Replica{}, fmt.Sprintf("replica %d cannot serve instead: those that can are %s",
			q.Incomplete, names(l.Survivors))
	}
	if len(l.Survivors) == 0 {
		return Replica{}, "no other replica is alive: bring back any node that had one"
	}
	best := l.Survivors[0]
	if best.Content.Incomplete && len(l.Kept) == 0 {
		return Replica{}, fmt.Sprintf("the best that is left, replica %d on node %s, is incomplete: what it has is of no "+
			"one moment, a filesystem in it is damaged. Bring back another replica, however old, or say that you want it: "+
			"annotation %s=%d", best.ID, best.Node, v1alpha1.ServeIncompleteAnnotation, best.ID)
	}
	return best, ""
}

// cost of giving up, if that Replica serves.
func (l *Loss) cost(survivor Replica) string {
	switch c := survivor.Content; {
	case len(l.Kept) > 0:
		return "writes that were acknowledged and not flushed when it lost power may be missing"
	case c.Incomplete:
		return "its content is incomplete and of no one moment"
	default:
		text := fmt.Sprintf("it was last in sync in epoch %d", c.Epoch)
		if !c.Until.IsZero() {
			text += ", until " + c.Until.UTC().Format(time.RFC3339)
		}
		if survivor.Lossy {
			text += ", and has lost power"
		}
		return text + "; all that was written to the shard since is lost"
	}
}

// Text for people: who is missing, what giving up would mean, and the command.
func (l *Loss) Text(shard string, epoch int64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "missing: %s. ", describe(l.Away))
	if l.Working {
		b.WriteString("One of them failed on a storenode that is alive, and may yet bring another in sync: wait while a " +
			"rebuild goes on. ")
	}
	if len(l.Newer) > 0 {
		fmt.Fprintf(&b, "Not in sync, but newer than what is left: %s; bring it back first. ", describe(l.Newer))
	}
	command := fmt.Sprintf("kubectl annotate shard %s", shard)
	switch {
	case len(l.Survivors) == 0:
		b.WriteString("No other replica is alive: if those missing never come back, bring any other one back first")
		return b.String()
	case l.Survivors[0].Content.Incomplete && len(l.Kept) == 0:
		command += fmt.Sprintf(" %s=%d", v1alpha1.ServeIncompleteAnnotation, l.Survivors[0].ID)
	}
	survivor := l.Survivors[0]
	ids := make([]string, 0, len(l.Away))
	for _, r := range l.Away {
		ids = append(ids, strconv.FormatInt(r.ID, 10))
	}
	fmt.Fprintf(&b, "If they never come back, they can be given up (docs/operate/lost-replicas.md): replica %d on node "+
		"%s serves then; %s. If you accept that: %s %s=%s@%d", survivor.ID, survivor.Node, l.cost(survivor), command,
		v1alpha1.GiveUpAnnotation, strings.Join(ids, ","), epoch)
	return b.String()
}

// describe Replicas that are missing.
func describe(replicas []Replica) string {
	texts := make([]string, 0, len(replicas))
	for _, r := range replicas {
		text := fmt.Sprintf("replica %d on node %s, device %s", r.ID, r.Node, r.Device)
		switch {
		case r.Node == "":
			text = fmt.Sprintf("replica %d, which is not listed", r.ID)
		case r.Failed:
			text += ", failed"
		case r.Gone:
			text += ", deleted"
		}
		if !r.Away.IsZero() {
			text += ", away since " + r.Away.UTC().Format(time.RFC3339)
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, "; ")
}

// names Replicas in short.
func names(replicas []Replica) string {
	if len(replicas) == 0 {
		return "none"
	}
	texts := make([]string, 0, len(replicas))
	for _, r := range replicas {
		texts = append(texts, fmt.Sprintf("replica %d on node %s", r.ID, r.Node))
	}
	return strings.Join(texts, ", ")
}
