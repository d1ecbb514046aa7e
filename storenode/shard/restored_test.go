package shard_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/shard"
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

// n2 knows a Record of before the restore, and the API server has come to another one of the same Epoch since.
func TestTwoRecordsOfOneEpochAreToldUntilThereIsANewerOne(t *testing.T) {
	c := newCluster(t, 2)
	c.volume(1)
	k := newClient(t, c)
	id := shardID(0)
	k.write(id, 0, pattern(1, 1))
	c.register.Freeze()
	before := c.register.Record(id)
	before.Epoch, before.Primary = 2, 2
	c.nodes[1].server.Host.Decided(id, before)
	since := before
	since.Primary, since.InSync = 1, []ident.ReplicaID{1}
	if err := c.register.Set(id, since); !errors.Is(err, shard.ErrSetBack) {
		t.Errorf("the other record is refused with %v", err)
	}
	for _, n := range c.nodes {
		eventually(t, "each replica tells of it", func() bool {
			s := n.status(id)
			return s.Disputed && s.Epoch == 2 && !s.Primary && s.Message != ""
		})
	}
	before.Epoch = 3
	if err := c.register.Set(id, before); err != nil {
		t.Error(err)
	}
	c.register.Thaw()
	k.expect(id, 0, pattern(1, 1))
	k.write(id, 0, pattern(2, 1))
	for _, n := range c.nodes {
		if s := n.status(id); s.Disputed {
			t.Errorf("with a newer record: %+v", s)
		}
	}
}
