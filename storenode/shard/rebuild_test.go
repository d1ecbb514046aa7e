package shard_test

import (
	"testing"
	"time"

	"github.com/shale-storage/shale/storenode/engine"
	"github.com/shale-storage/shale/storenode/engine/fault"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/shard"
)

const extentBytes = 1 << 20

// fill writes the first Extents of the Shard all over.
func (k *client) fill(extents int, seed byte) {
	k.t.Helper()
	for i := range extents {
		k.write(shardID(0), uint64(i*extentBytes), pattern(seed+byte(i), extentBytes/ident.BlockSize))
	}
}

func TestARebuildCopiesOnlyWhatChanged(t *testing.T) {
	c := newCluster(t, 2)
	c.volume(1)
	k := newClient(t, c)
	k.fill(8, 1)
	backup := c.nodes[1]
	backup.kill()
	k.write(shardID(0), 3*extentBytes, pattern(99, 1))
	backup.start()
	eventually(t, "it is in sync again", func() bool { return len(c.register.Record(shardID(0)).InSync) == 2 })
	if n := c.nodes[0].server.Host.Counts().RebuiltBytes; n == 0 || n > extentBytes {
		t.Errorf("%d bytes were copied, of one extent that changed", n)
	}
	c.nodes[0].kill()
	k.expect(shardID(0), 3*extentBytes, pattern(99, 1))
	k.expect(shardID(0), 4*extentBytes, pattern(5, 1))
}

// Writes of the joining one are held for moments.
func TestARebuildTellsHowFarItIsAndWhenItWillBeDone(t *testing.T) {
	c := newCluster(t, 2)
	c.volume(1)
	k := newClient(t, c)
	k.fill(16, 1)
	backup := c.nodes[1]
	backup.kill()
	k.fill(16, 101)
	backup.start()
	backup.fault.Set(func(r *engine.Request) fault.Verdict { return fault.Verdict{Hold: r.Op == engine.OpWrite} })
	last := 0
	eventually(t, "its host tells percent and time", func() bool {
		time.Sleep(20 * time.Millisecond)
		backup.fault.Release()
		s := backup.status(shardID(0))
		if s.State != shard.StateRebuilding && (s.RebuildPercent != 0 || s.RebuildLeft != 0) {
			t.Fatalf("it tells of a rebuild though there is none: %+v", s)
		}
		defer func() { last = s.RebuildPercent }()
		return 0 < last && last < s.RebuildPercent && s.RebuildPercent < 100 && s.RebuildLeft > 0
	})
	backup.fault.Set(nil)
	backup.fault.Release()
	eventually(t, "it is in sync again", func() bool { return backup.status(shardID(0)).State == shard.StateInSync })
}
