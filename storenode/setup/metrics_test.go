package setup

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/shale-storage/shale/storenode/shard"
)

func TestMetricsTellOfTheRebuildThatIsLeastFar(t *testing.T) {
	rebuilding := func(percent int, left time.Duration) shard.Status {
		return shard.Status{State: shard.StateRebuilding, RebuildPercent: percent, RebuildLeft: left}
	}
	for story, c := range map[string]struct {
		statuses       []shard.Status
		progress, left float64
	}{
		"none":                   {[]shard.Status{{State: shard.StateInSync}}, 1, 0},
		"one that has begun":     {[]shard.Status{{State: shard.StateInSync}, rebuilding(0, 0)}, 0, 0},
		"one is slower":          {[]shard.Status{rebuilding(40, time.Minute), rebuilding(80, time.Second)}, .4, 60},
		"one is far and is slow": {[]shard.Status{rebuilding(25, time.Second), rebuilding(50, time.Hour)}, .25, 3600},
	} {
		got := map[*prometheus.Desc]float64{}
		ofReplicas(c.statuses, func(d *prometheus.Desc, value float64, _ ...string) { got[d] = value })
		if got[progress] != c.progress || got[left] != c.left {
			t.Errorf("%s: progress %g, %g s left, want %g, %g", story, got[progress], got[left], c.progress, c.left)
		}
	}
}
