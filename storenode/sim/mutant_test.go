//go:build mutants

package sim_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/shale-storage/shale/storenode/replication/mutant"
)

// mutantSeeds is within how many seeds a broken rule must be seen.
const mutantSeeds = 2000

// TestTheSimulatorSeesBrokenRules proves that the checkers can fail: each rule broken alone is noticed. It prints a
// table.
func TestTheSimulatorSeesBrokenRules(t *testing.T) {
	defer func() { mutant.Now = mutant.None }()
	only := os.Getenv("SIM_MUTANT")
	for _, m := range []struct {
		name   string
		rule   mutant.Mutant
		breaks string
	}{
		{"ack early", mutant.AckEarly, "a write is on all of InSync before it is acknowledged"},
		{"skip CAS", mutant.SkipCAS, "a member is evicted by the keeper of records alone"},
		{"promote stale", mutant.PromoteStale, "only a member of InSync is promoted"},
		{"ignore generation", mutant.IgnoreGeneration, "a replaced attachment writes nothing"},
		{"serve expired", mutant.ServeExpired, "a Primary without leases does not serve"},
		{"skip reconcile", mutant.SkipReconcile, "members are equal before one serves"},
		{"skip dedupe", mutant.SkipDedupe, "what comes twice, or late, is applied once"},
		{"lose flush", mutant.LoseFlush, "what was flushed is on flash everywhere"},
		{"forget delta", mutant.ForgetDelta, "what changed while a Replica was away is copied"},
		{"skip checksum", mutant.SkipChecksum, "what a Device reads is what was written"},
		{"skip promise", mutant.SkipPromise, "nobody takes over before the promise is over"},
		{"join early", mutant.JoinEarly, "a Replica is compared before it is in sync"},
		{"ack too few", mutant.AckTooFew, "as many as asked for are in sync at an acknowledgement"},
		{"follow anyone", mutant.FollowAnyone, "a Backup takes nothing of an older Epoch"},
		{"forget record", mutant.ForgetRecord, "a Replica remembers its record as long as it has power"},
		{"forget generation", mutant.ForgetGeneration, "and the generation of the newest attachment"},
	} {
		if only != "" && only != m.name {
			continue
		}
		mutant.Now = m.rule
		began := time.Now()
		found := search(1, mutantSeeds, memories())
		seen, how := "ESCAPED", ""
		if found.seed != 0 {
			seen, how = fmt.Sprint(found.seed), found.err.Error()
		} else {
			t.Errorf("%s: not seen with %d seeds", m.name, mutantSeeds)
		}
		how, _, _ = strings.Cut(how, "\n")
		t.Logf("%-18s %-58s seed %-8s %6.1fs  %.90s", m.name, m.breaks, seen, time.Since(began).Seconds(), how)
	}
}
