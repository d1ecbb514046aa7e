// Package liveness says which storenodes, and which kubelets, are alive, from their Leases as this process saw them
// change.
//
// A Lease is expired when it has not been seen to change for its duration, measured on the monotonic clock of this
// process. The times inside a Lease are only compared for being different: clocks of two machines are never compared.
// A storenode that was never heard of counts as alive for DefaultDuration from the first question, so that a new
// operator does not promote anybody before it has watched for as long as an old one would have.
//
// When this process hears again after having heard of no storenode for longer than any of them pauses between two
// renewals, it was the one cut off: the silence does not count against anybody, nor against kubelets that were silent
// all the time too. So an API server that was away does not look like the death of all storenodes. Kubelets, which come
// by another watch, likewise have a silence of their own forgiven; as they renew every ten seconds, theirs is longer.
//
// An operator that does not lead keeps watching, so that it knows who is silent in the moment in which it leads.
//
// Safe for concurrent use. Nothing survives a restart, which costs one Lease's duration.
package liveness

import (
	"strings"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// DefaultDuration is for a Lease that does not say its own; the storenodes say the same.
const DefaultDuration = 4 * time.Second

const (
	// renewals fit into the duration of a Lease, a kubelet's (10 s of 40 s by default) as well as a storenode's (1 s of
	// 4 s).
	renewals = 4
	// Slack is how much longer than the pause between renewals nobody at all is heard of before that says more of this
	// process than of them.
	Slack = 2 * time.Second
)

// Kubelet is the name under which a node's own Lease, renewed by its kubelet, is kept beside its storenode's.
func Kubelet(node string) string { return kubelets + node }

const kubelets = "kubelet/"

func isKubelet(name string) bool { return strings.HasPrefix(name, kubelets) }

// State of one storenode.
type State struct {
	// Alive: its Lease is not expired.
	Alive bool
	// Heard: a Lease of it was seen.
	Heard bool
	// Holder is the incarnation of its process that renewed it last.
	Holder string
	// Renewed: it was seen to change, not only to be there.
	Renewed bool
	// Age since the Lease was last seen to change.
	Age time.Duration
	// Pause is how long it stands still between two renewals, by its duration.
	Pause time.Duration
	// Left until it expires; 0 when it has.
	Left time.Duration
	// DeadFor since it expired, AliveFor since it last came to life; one of them is 0.
	DeadFor, AliveFor time.Duration
}

// Tracker remembers when each Lease was seen to change. Use New.
type Tracker struct {
	clock clock.PassiveClock

	mu sync.Mutex
	// nodes is bounded by the nodes of the cluster, past ones included.
	nodes map[string]*node
	// last is when any storenode was heard of, and any kubelet: their Leases come by different watches.
	last map[bool]time.Time
}

type node struct {
	heard    bool
	changes  int
	holder   string
	renewed  time.Time
	duration time.Duration
	// changed is when the Lease was last seen to change, born when the storenode last came to life.
	changed, born time.Time
}

// New makes a Tracker.
func New(c clock.PassiveClock) *Tracker {
	return &Tracker{clock: c, nodes: map[string]*node{}, last: map[bool]time.Time{}}
}

// Renewal is what a Lease says.
type Renewal struct {
	Holder   string
	Renewed  time.Time
	Duration time.Duration
}

// Observe takes note of a Lease as it is now, and reports whether the storenode has just come to life.
func (t *Tracker) Observe(name string, r Renewal) (born bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.clock.Now()
	n := t.nodes[name]
	if n == nil {
		n = &node{duration: DefaultDuration}
		t.nodes[name] = n
	}
	if n.heard && n.holder == r.Holder && n.renewed.Equal(r.Renewed) {
		return false
	}
	t.seeAgain(now, isKubelet(name))
	if n.heard {
		n.changes++
	}
	born = !n.heard || n.left(now) <= 0
	if born {
		n.born = now
	}
	n.heard, n.holder, n.renewed, n.changed = true, r.Holder, r.Renewed, now
	if r.Duration > 0 {
		n.duration = r.Duration
	}
	return born
}

// HeardKubelet reports whether any kubelet's Lease was seen to change within the duration. If none was, this process
// may not hear kubelets at all.
func (t *Tracker) HeardKubelet(within time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := t.last[true]
	return !last.IsZero() && t.clock.Now().Sub(last) < within
}

// seeAgain takes note that somebody is heard of, and forgives all others of the kind a silence in which nobody was.
// When it is storenodes that are heard of again, which are missed soonest, kubelets are forgiven as far as they were
// silent too.
func (t *Tracker) seeAgain(now time.Time, kubelet bool) {
	last := t.last[kubelet]
	t.last[kubelet] = now
	if last.IsZero() || !t.isBlind(kubelet, last, now) {
		return
	}
	t.forgive(kubelet, last, now)
	if kubelet || t.last[true].IsZero() {
		return
	}
	if t.last[true].After(last) {
		last = t.last[true]
	}
	if t.isBlind(false, last, now) {
		t.forgive(true, last, now)
		t.last[true] = now
	}
}

// isBlind reports whether nobody of the kind was heard of for longer than anybody pauses.
func (t *Tracker) isBlind(kubelet bool, last, now time.Time) bool {
	silence := now.Sub(last) - Slack
	return silence > 0 && silence > t.pause(kubelet, last)
}

// forgive does not count the silence since last. Who was dead before stays so.
func (t *Tracker) forgive(kubelet bool, last, now time.Time) {
	for name, n := range t.nodes {
		if isKubelet(name) == kubelet && n.left(last) > 0 {
			n.changed = n.changed.Add(now.Sub(last))
		}
	}
}

// pause is the shortest between two renewals of one of the kind that lived then.
func (t *Tracker) pause(kubelet bool, then time.Time) time.Duration {
	shortest := time.Duration(0)
	for name, n := range t.nodes {
		if p := n.duration / renewals; isKubelet(name) == kubelet && n.left(then) > 0 && (shortest == 0 || p < shortest) {
			shortest = p
		}
	}
	return shortest
}

// State of one storenode now.
func (t *Tracker) State(name string) State {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.clock.Now()
	n := t.nodes[name]
	if n == nil {
		n = &node{duration: DefaultDuration, changed: now, born: now}
		t.nodes[name] = n
	}
	s := State{
		Heard: n.heard, Holder: n.holder, Renewed: n.changes > 0,
		Age: now.Sub(n.changed), Pause: n.duration / renewals,
	}
	if left := n.left(now); left > 0 {
		s.Alive, s.Left, s.AliveFor = true, left, now.Sub(n.born)
	} else {
		s.DeadFor = -left
	}
	return s
}

func (n *node) left(now time.Time) time.Duration { return n.duration - now.Sub(n.changed) }
