// Package metrics counts what the operator decides. docs/operate/metrics.md explains each to people.
//
// Gauges are of objects that are in a state now; they are kept as sets by name, so that looking at an object twice
// counts it once. Safe for concurrent use.
package metrics

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of one operator.
type Metrics struct {
	// Failovers by cause, Replacements and Removals of Replicas, Placements that found no room, Conflicts of
	// compare-and-swap that somebody else won.
	Failovers    *prometheus.CounterVec
	Replacements prometheus.Counter
	Removals     prometheus.Counter
	// GivenUp are Replicas that people gave up.
	GivenUp   prometheus.Counter
	NoRoom    prometheus.Counter
	Conflicts prometheus.Counter
	// DeadNodes found, and Ended pods of theirs.
	DeadNodes, EndedPods prometheus.Counter
	// Unavailable, Degraded and TooFew are Shards, Down is storenodes.
	Unavailable, Degraded, TooFew, Down *Set
}

// New registers the metrics.
func New(r prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &Metrics{
		Failovers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "shale_operator_failovers_total", Help: "Primaries replaced by a Backup, by cause.",
		}, []string{"cause"}),
		Replacements: counter("shale_operator_replacements_total", "Replicas placed instead of lost ones."),
		Removals:     counter("shale_operator_removals_total", "Surplus Replicas taken away."),
		GivenUp:      counter("shale_operator_given_up_total", "Replicas given up by a person's command."),
		NoRoom:       counter("shale_operator_no_room_total", "Placements that found no room."),
		Conflicts:    counter("shale_operator_conflicts_total", "Membership changes that somebody else won."),
		DeadNodes:    counter("shale_operator_dead_nodes_total", "Nodes found dead and evacuated."),
		EndedPods:    counter("shale_operator_ended_pods_total", "Pods of dead nodes ended so that they run elsewhere."),
		Unavailable:  newSet("shale_operator_unavailable_shards", "Shards without a Primary that can serve."),
		Degraded:     newSet("shale_operator_degraded_shards", "Shards with fewer InSync Replicas than wanted."),
		TooFew: newSet("shale_operator_too_few_in_sync_shards",
			"Shards with fewer InSync Replicas than minInSync: changes wait or fail."),
		Down: newSet("shale_operator_down_storenodes", "StoreNodes whose Lease has expired."),
	}
	r.MustRegister(m.Failovers, m.Replacements, m.Removals, m.GivenUp, m.NoRoom, m.Conflicts, m.DeadNodes, m.EndedPods,
		m.Unavailable, m.Degraded, m.TooFew, m.Down)
	return m
}

// Set is a gauge of the names in it.
type Set struct {
	prometheus.GaugeFunc

	mu sync.Mutex
	// names is bounded by the objects there are.
	names map[string]struct{}
}

func newSet(name, help string) *Set {
	s := &Set{names: map[string]struct{}{}}
	s.GaugeFunc = prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, s.size)
	return s
}

func (s *Set) size() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return float64(len(s.names))
}

// Put says whether name is in the set.
func (s *Set) Put(name string, in bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if in {
		s.names[name] = struct{}{}
	} else {
		delete(s.names, name)
	}
}
