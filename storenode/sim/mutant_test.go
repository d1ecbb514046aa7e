//go:build mutants

package sim_test

import (
	"testing"

	"github.com/shale-storage/shale/storenode/replication/mutant"
)

// TestTheSimulatorSeesBrokenRules proves that the checkers can fail: each rule broken alone is noticed within some
// seeds.
func TestTheSimulatorSeesBrokenRules(t *testing.T) {
	defer func() { mutant.Now = mutant.None }()
	for _, m := range []struct {
		name string
		rule mutant.Mutant
	}{
		{"ack early", mutant.AckEarly},
		{"skip CAS", mutant.SkipCAS},
		{"skip reconcile", mutant.SkipReconcile},
		{"skip promise", mutant.SkipPromise},
		{"join early", mutant.JoinEarly},
	} {
		t.Run(m.name, func(t *testing.T) {
			mutant.Now = m.rule
			const seeds = 200
			for seed := uint64(1); seed <= seeds; seed++ {
				if err := newWorld(seed).run(faults); err != nil {
					t.Logf("seen with seed %d: %v", seed, err)
					return
				}
			}
			t.Errorf("not seen with %d seeds", seeds)
		})
	}
}
