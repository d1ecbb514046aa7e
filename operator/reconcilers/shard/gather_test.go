package shard

import (
	"testing"
	"time"

	"github.com/shale-storage/shale/api/v1alpha1"
)

func TestDelayOfAReplacementIsCountedOnByAnOperatorThatStartsAnew(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 5e8, time.UTC)
	object := &v1alpha1.Shard{}
	first := &scope{shard: object}
	if got, _ := first.lost(2, start); got < 1 || got >= time.Second {
		t.Errorf("a replica lost just now has been lost for %s", got)
	}
	object.Status.LostReplicas = first.lostNow // what tell writes

	second := &scope{shard: object}
	if got, _ := second.lost(2, start.Add(time.Hour)); got < time.Hour || got > time.Hour+time.Second {
		t.Errorf("after an hour it has been lost for %s", got)
	}
	if got, _ := second.lost(3, start.Add(time.Hour)); got >= time.Second {
		t.Errorf("another one, lost just now, has been lost for %s", got)
	}
	if len(second.lostNow) != 2 || !second.lostNow[0].Since.Equal(&first.lostNow[0].Since) {
		t.Errorf("got %+v, want both, the first since then", second.lostNow)
	}
	// A clock set back does not make the delay longer than it is from now on.
	if got, _ := second.lost(2, start.Add(-time.Hour)); got < 1 || got >= time.Second {
		t.Errorf("by a clock set back it has been lost for %s", got)
	}
}

func TestReplicaMissesNothingOnlyIfItsOwnProcessSaysSo(t *testing.T) {
	told := func(incarnation string, powerLost bool) *v1alpha1.ShardReplicaStatus {
		return &v1alpha1.ShardReplicaStatus{Incarnation: incarnation, PowerLost: powerLost}
	}
	for story, c := range map[string]struct {
		report *v1alpha1.ShardReplicaStatus
		want   bool
	}{
		"told":                       {told("p2", false), false},
		"it lost power":              {told("p2", true), true},
		"told by an earlier process": {told("p1", false), true},
		"nothing is told":            {nil, true},
	} {
		if got := isLossy(c.report, "p2"); got != c.want {
			t.Errorf("%s: lossy is %v, want %v", story, got, c.want)
		}
	}
}
