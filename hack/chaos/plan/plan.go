package plan

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Kind of a fault.
type Kind string

// Kinds.
const (
	KillStorenode  Kind = "kill storenode"
	EndStorenode   Kind = "end storenode in order"
	PauseStorenode Kind = "pause storenode"
	KillOperators  Kind = "kill operators"
	PauseOperators Kind = "pause operators"
	KillCSI        Kind = "kill csi but initiator"
	// KillInitiator needs a kernel that sends again what the dead one had not answered.
	KillInitiator   Kind = "kill initiator"
	CutNode         Kind = "cut node"
	CutIncoming     Kind = "cut to node"
	CutOutgoing     Kind = "cut from node"
	CutPair         Kind = "cut two nodes"
	CutPairOneWay   Kind = "cut two nodes one way"
	CutStorage      Kind = "cut storage of node"
	CutAll          Kind = "cut all nodes apart"
	CutControlOfOne Kind = "cut control plane of one"
	CutControlOfTwo Kind = "cut control plane of two"
	StopAPI         Kind = "stop API server"
	PowerOff        Kind = "power off"
	FailDevice      Kind = "device fails writes"
	LoseDevice      Kind = "device missing"
	FillDevice      Kind = "devices full"
	MoveWriter      Kind = "move writer"
)

// Fault is one that will be.
type Fault struct {
	Kind Kind
	// Node it hits, from 0, and Other for those that need two.
	Node, Other int
	// For is how long it lasts before it is healed; nothing for what heals by itself.
	For time.Duration
}

// String tells it to people.
func (f Fault) String() string {
	r := rules[f.Kind]
	text := string(f.Kind)
	if r.node {
		text += fmt.Sprintf(" n%d", f.Node+1)
	}
	if r.other {
		text += fmt.Sprintf(" n%d", f.Other+1)
	}
	if f.For > 0 {
		text += " for " + f.For.String()
	}
	return text
}

// rule of a Kind.
type rule struct {
	// weight is how often it is drawn; shortest and longest bound For.
	weight            int
	shortest, longest time.Duration
	// node and other say which it names.
	node, other bool
	// together may overlap with another of the same.
	together bool
}

const second = time.Second

// rules of all Kinds. A cut of a node stays below the 16 s after which Kubernetes calls it dead.
var rules = map[Kind]rule{
	KillStorenode:   {weight: 6, node: true, together: true},
	EndStorenode:    {weight: 3, node: true, together: true},
	PauseStorenode:  {weight: 5, shortest: 1 * second, longest: 20 * second, node: true, together: true},
	KillOperators:   {weight: 2, together: true},
	PauseOperators:  {weight: 2, shortest: 1 * second, longest: 15 * second, together: true},
	KillCSI:         {weight: 1, together: true},
	KillInitiator:   {weight: 3, node: true, together: true},
	CutNode:         {weight: 3, shortest: 1 * second, longest: 12 * second, node: true, together: true},
	CutIncoming:     {weight: 2, shortest: 1 * second, longest: 12 * second, node: true, together: true},
	CutOutgoing:     {weight: 2, shortest: 1 * second, longest: 12 * second, node: true, together: true},
	CutPair:         {weight: 3, shortest: 1 * second, longest: 15 * second, node: true, other: true},
	CutPairOneWay:   {weight: 3, shortest: 1 * second, longest: 15 * second, node: true, other: true},
	CutStorage:      {weight: 2, shortest: 1 * second, longest: 15 * second, node: true},
	CutAll:          {weight: 2, shortest: 1 * second, longest: 8 * second},
	CutControlOfOne: {weight: 2, shortest: 2 * second, longest: 12 * second, node: true, together: true},
	CutControlOfTwo: {weight: 1, shortest: 2 * second, longest: 12 * second, node: true, other: true},
	StopAPI:         {weight: 2, shortest: 2 * second, longest: 20 * second},
	PowerOff:        {weight: 4, shortest: 2 * second, longest: 15 * second, node: true},
	FailDevice:      {weight: 2, shortest: 3 * second, longest: 10 * second, node: true},
	LoseDevice:      {weight: 2, shortest: 2 * second, longest: 15 * second, node: true},
	FillDevice:      {weight: 1, shortest: 1 * second, longest: 5 * second},
	MoveWriter:      {weight: 2},
}

// order in which Kinds are drawn from: a map has none.
var order = []Kind{
	KillStorenode, EndStorenode, PauseStorenode, KillOperators, PauseOperators, KillCSI, KillInitiator, CutNode,
	CutIncoming, CutOutgoing, CutPair, CutPairOneWay, CutStorage, CutAll, CutControlOfOne, CutControlOfTwo, StopAPI,
	PowerOff, FailDevice, LoseDevice, FillDevice, MoveWriter,
}

const (
	// overlapIn: of so many faults that could have company one has.
	overlapIn = 5
	// longestPause between two rounds.
	longestPause = 4 * second
)

// Round is what happens between two moments in which everything is InSync.
type Round struct {
	// Pause comes before it.
	Pause time.Duration
	// Faults that overlap: the second begins After the first, on another node.
	Faults []Fault
	After  time.Duration
}

// Plan draws Rounds.
type Plan struct {
	random *rand.Rand
	nodes  int
	// kinds to draw from.
	kinds []Kind
}

// New is the Plan of a seed for so many nodes, at least two. Some Kinds may be left out.
func New(seed uint64, nodes int, leftOut ...Kind) *Plan {
	kinds := slices.DeleteFunc(Kinds(), func(k Kind) bool { return slices.Contains(leftOut, k) })
	return &Plan{random: rand.New(rand.NewPCG(seed, 0)), nodes: nodes, kinds: kinds}
}

// Next draws a Round.
func (p *Plan) Next() Round {
	r := Round{Pause: p.between(0, longestPause), Faults: []Fault{p.fault(p.kinds)}}
	first := r.Faults[0]
	if !rules[first.Kind].together || p.random.IntN(overlapIn) != 0 {
		return r
	}
	var company []Kind
	for _, k := range p.kinds {
		if rules[k].together {
			company = append(company, k)
		}
	}
	f := p.fault(company)
	if f.Node == first.Node {
		f.Node, f.Other = (first.Node+1)%p.nodes, first.Node
	}
	r.Faults, r.After = append(r.Faults, f), p.between(0, max(first.For, time.Second))
	return r
}

// fault of one of the Kinds.
func (p *Plan) fault(kinds []Kind) Fault {
	sum := 0
	for _, k := range kinds {
		sum += rules[k].weight
	}
	n := p.random.IntN(sum)
	var kind Kind
	for _, k := range kinds {
		if kind = k; n < rules[k].weight {
			break
		}
		n -= rules[k].weight
	}
	f := Fault{Kind: kind, Node: p.random.IntN(p.nodes)}
	f.Other = (f.Node + 1 + p.random.IntN(p.nodes-1)) % p.nodes
	if r := rules[kind]; r.longest > 0 {
		f.For = p.between(r.shortest, r.longest)
	}
	return f
}

// between draws a time in steps that people can read.
func (p *Plan) between(shortest, longest time.Duration) time.Duration {
	const step = 100 * time.Millisecond
	return shortest + step*time.Duration(p.random.Int64N(int64((longest-shortest)/step)+1))
}

// Kinds are all, always in the same order.
func Kinds() []Kind { return slices.Clone(order) }
