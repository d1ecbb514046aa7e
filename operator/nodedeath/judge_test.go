package nodedeath

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/shale-storage/shale/api/v1alpha1"
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
		want     string
	}{
		"the plug was pulled": {evidence(), v1alpha1.ReasonNodeDead},
		"the kubelet was heard a moment after the storenode": {
			evidence(func(e *Evidence) { e.KubeletAge = 4 * time.Second }), v1alpha1.ReasonNodeDead,
		},
		"the storenode lives": {
			evidence(func(e *Evidence) { e.StorenodeAlive = true }), v1alpha1.ReasonStorenodeAlive,
		},
		"the storenode crashed": {
			evidence(func(e *Evidence) { e.Host = HostAnswers }), v1alpha1.ReasonHostAnswers,
		},
		"the kubelet was heard since": {
			evidence(func(e *Evidence) { e.KubeletAge = time.Second }), v1alpha1.ReasonKubeletAlive,
		},
		"the host was asked only once": {evidence(func(e *Evidence) { e.Rounds = 1 }), v1alpha1.ReasonSuspected},
		"no witness answers": {
			evidence(func(e *Evidence) { e.Host = HostUnknown }), v1alpha1.ReasonSuspected,
		},
		"somebody works on it": {
			evidence(func(e *Evidence) { e.Maintenance = "new fan" }), v1alpha1.ReasonInMaintenance,
		},
		"somebody works on it, and it is up": {
			evidence(func(e *Evidence) { e.Maintenance, e.Host = "new fan", HostAnswers }), v1alpha1.ReasonHostAnswers,
		},
		"somebody works on it, and it is asked yet": {
			evidence(func(e *Evidence) { e.Maintenance, e.Rounds = "new fan", 1 }), v1alpha1.ReasonSuspected,
		},
		"most storenodes are silent, the host answers": {
			evidence(func(e *Evidence) { e.Alive, e.Host = 1, HostAnswers }), v1alpha1.ReasonHostAnswers,
		},
		"most storenodes are silent, the kubelet was heard since": {
			evidence(func(e *Evidence) { e.Alive, e.KubeletAge = 1, time.Second }), v1alpha1.ReasonKubeletAlive,
		},
		"it was found dead before, the kubelet was heard since": {
			evidence(func(e *Evidence) { e.Evacuated, e.KubeletAge = true, time.Second }), v1alpha1.ReasonKubeletAlive,
		},
		"no lease was ever seen of the storenode": {evidence(unheard), v1alpha1.ReasonNoLease},
		"no lease was ever seen, somebody works on it": {
			evidence(unheard, func(e *Evidence) { e.Maintenance = "new fan" }), v1alpha1.ReasonNoLease,
		},
		"no lease was ever seen, and the host is up": {
			evidence(unheard, func(e *Evidence) { e.Host = HostAnswers }), v1alpha1.ReasonHostAnswers,
		},
		"no lease was ever seen, and it is asked yet": {
			evidence(unheard, func(e *Evidence) { e.Rounds = 1 }), v1alpha1.ReasonSuspected,
		},
		"no lease was ever seen since it was found dead": {
			evidence(unheard, func(e *Evidence) { e.Evacuated, e.Rounds = true, 0 }), v1alpha1.ReasonNoLease,
		},
		"most storenodes are silent": {
			evidence(func(e *Evidence) { e.Alive = 1 }), v1alpha1.ReasonTooManySilent,
		},
		"one of two is silent": {
			evidence(func(e *Evidence) { e.Alive, e.All = 1, 2 }), v1alpha1.ReasonNodeDead,
		},
		"no host can be asked, for so long": {evidence(unasked), v1alpha1.ReasonNodeDead},
		"no host can be asked, and no kubelet is heard": {
			evidence(unasked, func(e *Evidence) { e.KubeletsSilent = true }), v1alpha1.ReasonSuspected,
		},
		"no host can be asked, its kubelet renews each 25 s": {
			evidence(unasked, func(e *Evidence) { e.KubeletPause = 25 * time.Second }), v1alpha1.ReasonSuspected,
		},
		"it was found dead by an operator that is gone": {
			evidence(func(e *Evidence) { e.Evacuated, e.Host, e.Rounds = true, HostUnknown, 0 }), v1alpha1.ReasonNodeDead,
		},
		"the storenode was down long before the node died": {
			evidence(func(e *Evidence) { e.StorenodeAge, e.KubeletAge = time.Hour, KubeletSilence }), v1alpha1.ReasonNodeDead,
		},
	} {
		t.Run(story, func(t *testing.T) {
			if v := Judge(c.evidence); v.Reason != c.want || v.Dead != (c.want == v1alpha1.ReasonNodeDead) || v.Message == "" {
				t.Errorf("got %+v, want %s", v, c.want)
			}
		})
	}
}

func TestMaintenanceDoesNotSayThatVolumesStayWhichWereTakenOff(t *testing.T) {
	for evacuated, want := range map[bool]string{false: "its volumes stay attached", true: "its volumes were detached"} {
		v := Judge(evidence(func(e *Evidence) { e.Maintenance, e.Evacuated = "new fan", evacuated }))
		if v.Reason != v1alpha1.ReasonInMaintenance || !strings.Contains(v.Message, want) {
			t.Errorf("evacuated %v: got %+v, want %q", evacuated, v, want)
		}
	}
}

func unheard(e *Evidence) { e.NeverHeard = true }

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
		e.Evacuated, e.NeverHeard = random.IntN(4) == 0, random.IntN(4) == 0
		v := Judge(e)
		forbidden := e.NeverHeard || e.Maintenance != "" || 2*e.Alive < e.All
		alive := e.StorenodeAlive || e.Host == HostAnswers || e.KubeletAge < time.Second && e.StorenodeAge > 4*time.Second
		seemsDead := v.Reason == v1alpha1.ReasonNoLease || v.Reason == v1alpha1.ReasonInMaintenance ||
			v.Reason == v1alpha1.ReasonTooManySilent
		if v.Dead && (alive || forbidden) || seemsDead && alive {
			t.Fatalf("seed %d: %+v by %+v", seed, v, e)
		}
		if !v.Dead && v.Again == 0 && !e.StorenodeAlive {
			t.Fatalf("seed %d: nobody looks again: %+v of %+v", seed, v, e)
		}
	}
}
