package shard_test

import (
	"testing"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/wire"
)

// Invariant: a storenode that ends in order is missed by no write. Fault: it is asked to end under load. Without the
// hand-over the requests below that are sent once would find nobody, or wait for an eviction.
func TestAStorenodeHandsItsShardsOverBeforeItEnds(t *testing.T) {
	c := newCluster(t, 3)
	c.volume(3)
	k := newClient(t, c)
	for round := range 2 {
		for at, n := range c.nodes {
			for i := range uint32(3) {
				k.write(shardID(i), 0, pattern(byte(round*16+at), 4))
			}
			n.server.Host.Leave()
			for i := range uint32(3) {
				k.write(shardID(i), 4096, pattern(byte(round*16+at), 1))
			}
			eventually(t, "everything is handed over", func() bool { return n.server.Host.Held() == 0 })
			for i := range uint32(3) {
				r := c.register.Record(shardID(i))
				if len(r.InSync) != 2 || r.IsInSync(ident.ReplicaID(at+1)) {
					t.Errorf("record of shard %d after the hand-over: %+v", i, r)
				}
				k.write(shardID(i), 8192, pattern(byte(round*16+at), 1))
			}
			n.down()
			for i := range uint32(3) {
				epoch := c.register.Record(shardID(i)).Epoch
				k.write(shardID(i), 12288, pattern(byte(round*16+at), 1))
				if now := c.register.Record(shardID(i)).Epoch; now != epoch {
					t.Errorf("the end of the process changed membership of shard %d: epoch %d after %d", i, now, epoch)
				}
			}
			n.start()
			for i := range uint32(3) {
				eventually(t, "it is in sync again", func() bool { return len(c.register.Record(shardID(i)).InSync) == 3 })
			}
		}
	}
	for i := range uint32(3) {
		k.expect(shardID(i), 12288, pattern(byte(16+2), 1))
	}
}

func TestTheLastReplicaHasNothingToWaitFor(t *testing.T) {
	c := newCluster(t, 2)
	c.volume(1)
	k := newClient(t, c)
	k.write(shardID(0), 0, pattern(1, 1))
	for _, n := range c.nodes {
		n.server.Host.Leave()
	}
	eventually(t, "one is out and the other holds nothing up", func() bool {
		return c.nodes[0].server.Host.Held()+c.nodes[1].server.Host.Held() == 0
	})
	if a := k.do(wire.Header{Opcode: wire.OpFlush, Shard: shardID(0)}, nil); a.Status != wire.StatusOK {
		t.Errorf("it does not serve to the end: status %d", a.Status)
	}
	for _, n := range c.nodes {
		n.down()
	}
	for _, n := range c.nodes {
		n.start()
	}
	k.expect(shardID(0), 0, pattern(1, 1))
	eventually(t, "both are in sync again", func() bool { return len(c.register.Record(shardID(0)).InSync) == 2 })
}
