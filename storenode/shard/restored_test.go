package shard_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/shale-storage/shale/storenode/wire"
)

// A Primary dies and another takes over and acknowledges writes. Then the API server is restored from a backup of the
// time before, and the dead one returns: it remembers exactly the Record that the object has, so it sees nothing wrong
// until the other one tells. Whoever comes first, nothing old is served.
func TestARestoredKeeperDoesNotBringAFormerPrimaryBack(t *testing.T) {
	c := newCluster(t, 2)
	c.volume(1)
	k := newClient(t, c)
	id := shardID(0)
	k.write(id, 0, pattern(1, 1))
	backup := c.register.Record(id)
	former := c.nodes[0]
	former.kill()
	k.write(id, 0, pattern(2, 1)) // n2 was promoted
	if err := c.register.Set(id, backup); err == nil {
		t.Error("n2 takes a record older than its own")
	}
	former.start()
	for range 60 {
		time.Sleep(100 * time.Millisecond)
		a, err := k.once(former.address, wire.Header{
			Opcode: wire.OpRead, Shard: id, Length: 4096, Epoch: c.register.Record(id).Epoch, Generation: 1,
			Session: k.session, Request: 1000,
		}, nil)
		if err == nil && a.Status == wire.StatusOK && bytes.Equal(a.payload, pattern(1, 1)) {
			t.Fatalf("the former Primary serves epoch %d: what was acknowledged is lost", a.Epoch)
		}
	}
}
