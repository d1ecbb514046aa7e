package shard_test

import (
	"errors"
	"os"
	"testing"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/setup/process"
	"github.com/shale-storage/shale/storenode/shard"
	"github.com/shale-storage/shale/storenode/wire"
)

// second puts a second Device into a node, with a Shard of its own whose Primary is there.
func (c *cluster) second(n *node) ident.ShardID {
	c.t.Helper()
	path := n.path + ".second"
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, deviceSize),
		process.Format(n.server.Host, path, "test", 1, testLog(c.t))); err != nil {
		c.t.Fatal(err)
	}
	device, err := process.Serve(n.server.Host, path, 4, 1, testLog(c.t))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		if err := errors.Join(n.server.Host.RemoveDevice(device.Device()), device.Close()); err != nil {
			c.t.Error(err)
		}
	})
	id := ident.ShardID{Volume: ident.UUID{0xbb, 1}}
	m := shard.VolumeMap{Volume: id.Volume, Size: shardSize, ShardSize: shardSize, Generation: 1}
	all := append([]membership.Replica{{ID: 1, Device: device.Device(), Address: n.address}}, c.replicas()[1:]...)
	if err := c.register.CreateVolume(m, all); err != nil {
		c.t.Fatal(err)
	}
	return id
}

// pour sends writes of 1 MiB to a Shard's Primary, and waits for no answer.
func (k *client) pour(n *node, id ident.ShardID, writes uint64) {
	k.t.Helper()
	s, err := k.connect(n.address)
	if err != nil {
		k.t.Fatal(err)
	}
	for i := range writes {
		s.send(k.pool, wire.Header{
			Opcode: wire.OpWrite, Shard: id, Offset: i << 20, Length: 1 << 20, Request: ident.RequestID(i + 1),
			Session: k.session, Committed: 1, Generation: 1, Epoch: k.c.register.Record(id).Epoch,
		}, make([]byte, 1<<20))
	}
}

// A Device that hangs keeps the memory of what it was given. Its neighbours need some all the same.
func TestADeviceThatHangsLeavesMemoryToOthersOfItsNode(t *testing.T) {
	for name, primaries := range map[string][]uint32{
		"as a backup":  {1, 2, 4, 5, 7, 8}, // Shards whose Primary is on another node
		"as a primary": {0, 3, 6},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 3)
			c.volume(9)
			n := c.nodes[0]
			healthy := c.second(n)
			k, flood := newClient(t, c), newClient(t, c)
			flood.pool = buffer.New(256 << 20)
			k.write(healthy, 0, content(1))
			for i := range uint32(9) {
				k.write(shardID(i), 0, content(1))
			}
			n.fault.Set(hang)
			t.Cleanup(func() {
				n.fault.Set(nil)
				n.fault.Release()
			})
			for _, i := range primaries {
				flood.pour(c.primary(shardID(i)), shardID(i), 15)
			}
			eventually(t, "the device hangs and holds memory", func() bool {
				inUse, limit := n.server.Pool.Use()
				return n.server.Host.Health(n.store.Device()).Stalled > 0 && inUse > limit/5
			})
			for i := range byte(5) {
				k.write(healthy, 0, content(2+i))
				k.expect(healthy, 0, content(2+i))
			}
			if inUse, limit := n.server.Pool.Use(); inUse > 3*limit/4 {
				t.Errorf("%d of %d bytes are in use", inUse, limit)
			}
			if r := c.register.Record(healthy); len(r.InSync) != 3 {
				t.Errorf("record of the healthy shard: %+v", r)
			}
		})
	}
}
