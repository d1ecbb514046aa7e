package volume

import (
	"strings"
	"testing"

	"github.com/shale-storage/shale/api/v1alpha1"
)

func TestVolumeThatIsAskedToGrowSaysThatItDoesNot(t *testing.T) {
	v := &v1alpha1.Volume{Spec: v1alpha1.VolumeSpec{SizeBytes: 48 << 30, ShardSizeBytes: 32 << 30}}
	s := &scope{volume: v}
	for _, missing := range missingShards(v, nil) {
		missing.Spec.Membership = v1alpha1.ShardMembership{Epoch: 1, Primary: 1}
		s.shards = append(s.shards, *missing)
	}
	if got := ready(s); !got.OK || strings.Contains(got.Message, "grow") {
		t.Errorf("as it was made: %+v", got)
	}
	v.Spec.SizeBytes = 64 << 30
	if got := ready(s); !got.OK || !strings.Contains(got.Message, "end at 48") {
		t.Errorf("asked to grow: %+v", got)
	}
}
