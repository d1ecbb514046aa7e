package agent

import (
	"testing"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/shard"
)

func TestVolumeIsAsLargeAsItsShards(t *testing.T) {
	m := shard.VolumeMap{Size: 100, ShardSize: 32, Shards: make([]membership.Record, 4)}
	cut(&m, nil)
	if m.Size != 100 || len(m.Shards) != 4 {
		t.Errorf("none is short: %d bytes, %d shards", m.Size, len(m.Shards))
	}
	cut(&m, []v1alpha1.ShardSpec{{Index: 2, SizeBytes: 8}, {Index: 1, SizeBytes: 16}, {Index: 3, SizeBytes: 1}})
	if m.Size != 48 || len(m.Shards) != 2 {
		t.Errorf("shard 1 is short: %d bytes, %d shards, want 48 and 2", m.Size, len(m.Shards))
	}
}
