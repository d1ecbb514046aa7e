package main

import (
	"slices"
	"testing"
	"time"
)

func TestEachRebuildIsHeldAgainstWhatIsRightBeforeAndAfterIt(t *testing.T) {
	at := func(p99 int, speed float64) result {
		return result{p99: time.Duration(p99) * time.Microsecond, perSecond: speed}
	}
	m := &rebuildResult{
		// The machine is slower from round to round, and the speeds are in another order.
		without:  []result{at(100, 3), at(200, 2), at(400, 4), at(800, 1)},
		during:   []result{at(300, 2), at(300, 3), at(1200, 1)},
		degraded: []result{at(1, 1), at(2, 1), at(3, 1)},
		took:     []time.Duration{time.Second, 3 * time.Second, 2 * time.Second},
		rate:     []float64{3e6, 1e6, 2e6},
	}
	want := []string{
		"rebuild-p99-load 300 300 2.000 # each rebuild [2.00 1.00 2.00]; p99 2µs while one was away; " +
			"2/s during, 3/s without",
		"rebuild-speed-load 2.0 2.0",
	}
	for range 2 { // it changes nothing
		if got := m.lines(workload{name: "load"}); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
