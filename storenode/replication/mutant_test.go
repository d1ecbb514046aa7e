//go:build mutants

package replication

import (
	"testing"
	"time"

	"github.com/shale-storage/shale/storenode/replication/mutant"
)

// TestTheClusterTestSeesBrokenRules proves that the checkers can fail: each rule broken alone is noticed within few
// seeds.
func TestTheClusterTestSeesBrokenRules(t *testing.T) {
	defer func() { mutant.Now = mutant.None }()
	for name, m := range map[string]mutant.Mutant{
		"ack early": mutant.AckEarly, "skip CAS": mutant.SkipCAS, "skip reconcile": mutant.SkipReconcile,
		"skip promise": mutant.SkipPromise, "skip dedupe": mutant.SkipDedupe, "join early": mutant.JoinEarly,
		"follow anyone": mutant.FollowAnyone,
	} {
		t.Run(name, func(t *testing.T) {
			mutant.Now = m
			const seeds = 400
			for seed := range uint64(seeds) {
				if err := newCluster(seed + 1).run(15 * time.Second); err != nil {
					t.Logf("seen with seed %d: %v", seed+1, err)
					return
				}
			}
			t.Errorf("not seen with %d seeds", seeds)
		})
	}
}
