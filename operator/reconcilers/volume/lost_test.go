package volume

import (
	"slices"
	"testing"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/operator/reconcilers"
)

func TestOnlyShardsThatMayHaveHadDataAreMissed(t *testing.T) {
	all := []string{"v-0", "v-1", "v-2"}
	for story, c := range map[string]struct {
		attached    int64
		made        int32
		seen        int64
		ready       bool
		reason      string
		wantMissing []string
	}{
		"a new volume":                               {},
		"it found no room yet":                       {seen: 1, reason: v1alpha1.ReasonNoRoom},
		"it was attached before it found room":       {attached: 1, seen: 1, reason: v1alpha1.ReasonNoRoom},
		"it was never used":                          {made: 3, seen: 1, reason: v1alpha1.ReasonNoPrimary},
		"it is ready, however it is used":            {made: 3, seen: 1, ready: true, wantMissing: all},
		"it was attached once":                       {attached: 1, made: 3, seen: 1, wantMissing: all},
		"it grows":                                   {attached: 1, made: 2, seen: 1, ready: true, wantMissing: all[:2]},
		"a backup was restored without status":       {attached: 1, wantMissing: all},
		"a backup was restored and that was noticed": {seen: 1, reason: v1alpha1.ReasonShardMissing, wantMissing: all},
	} {
		v := &v1alpha1.Volume{Spec: v1alpha1.VolumeSpec{SizeBytes: 3, ShardSizeBytes: 1, AttachGeneration: c.attached}}
		v.Name, v.Status.ShardCount, v.Status.ObservedGeneration = "v", c.made, c.seen
		if c.ready || c.reason != "" {
			reconcilers.Set(&v.Status.Conditions, v1alpha1.ConditionReady,
				reconcilers.Verdict{OK: c.ready, Reason: c.reason}, 1)
		}
		if got := hadData(v, missingShards(v, nil)); !slices.Equal(got, c.wantMissing) {
			t.Errorf("%s: got %v, want %v", story, got, c.wantMissing)
		}
	}
}
