package nodedeath

import (
	"math/rand/v2"
	"testing"
	"time"
)

// evidence is of a node that lost its power five seconds ago, of three, then changed.
func evidence(change ...func(*Evidence)) *Evidence {
	e := &Evidence{
		Node: "n1", StorenodeAge: 5 * time.Second, KubeletAge: 9 * time.Second,
		Host: HostSilent, Rounds: SilentRounds, Alive: 2, All: 3,
	}
	for _, c := range change {
		c(e)
	}
	return e
}

func TestNodeIsDeadOnlyWhenAllAgree(t *testing.T) {
	for story, c := range map[string]struct {
		evidence *Evidence
		want     Reason
	}{
		"the plug was pulled": {evidence(), NodeDead},
		"the kubelet was heard a moment after the storenode": {
			evidence(func(e *Evidence) { e.KubeletAge = 4 * time.Second }), NodeDead,
		},
		"the storenode lives":               {evidence(func(e *Evidence) { e.StorenodeAlive = true }), StorenodeAlive},
		"the storenode crashed":             {evidence(func(e *Evidence) { e.Host = HostAnswers }), HostAlive},
		"the kubelet was heard since":       {evidence(func(e *Evidence) { e.KubeletAge = time.Second }), KubeletAlive},
		"the host was asked only once":      {evidence(func(e *Evidence) { e.Rounds = 1 }), Suspected},
		"no witness answers":                {evidence(func(e *Evidence) { e.Host = HostUnknown }), Suspected},
		"somebody works on it":              {evidence(func(e *Evidence) { e.Maintenance = "new fan" }), InMaintenance},
		"most storenodes are silent":        {evidence(func(e *Evidence) { e.Alive = 1 }), TooManySilent},
		"one of two is silent":              {evidence(func(e *Evidence) { e.Alive, e.All = 1, 2 }), NodeDead},
		"no host can be asked, for so long": {evidence(unasked), NodeDead},
		"it was found dead by an operator that is gone": {
			evidence(func(e *Evidence) { e.Evacuated, e.Host, e.Rounds = true, HostUnknown, 0 }), NodeDead,
		},
		"the storenode was down long before the node died": {
			evidence(func(e *Evidence) { e.StorenodeAge, e.KubeletAge = time.Hour, KubeletSilence }), NodeDead,
		},
	} {
		t.Run(story, func(t *testing.T) {
			if v := Judge(c.evidence); v.Reason != c.want || v.Dead != (c.want == NodeDead) || v.Message == "" {
				t.Errorf("got %+v, want %s", v, c.want)
			}
		})
	}
}

func unasked(e *Evidence) { e.Host, e.KubeletAge = HostUnknown, KubeletSilence }

func TestNoEvidenceOfLifeIsEverOverruled(t *testing.T) {
	for seed := range uint64(5000) {
		random := rand.New(rand.NewPCG(seed, 1))
		e := &Evidence{
			StorenodeAlive: random.IntN(4) == 0,
			StorenodeAge:   time.Duration(random.IntN(40)) * time.Second,
			KubeletAge:     time.Duration(random.IntN(40)) * time.Second,
			Host:           Host(random.IntN(3)), Rounds: random.IntN(4), Alive: random.IntN(4), All: 4,
		}
		if random.IntN(4) == 0 {
			e.Maintenance = "yes"
		}
		v := Judge(e)
		if v.Dead && (Settled(e) || e.Host == HostAnswers || e.KubeletAge < time.Second && e.StorenodeAge > 4*time.Second) {
			t.Fatalf("seed %d: dead by %+v", seed, e)
		}
		if !v.Dead && v.Again == 0 && !e.StorenodeAlive {
			t.Fatalf("seed %d: nobody looks again: %+v of %+v", seed, v, e)
		}
	}
}
