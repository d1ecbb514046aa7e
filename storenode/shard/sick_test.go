package shard_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/shale-storage/shale/storenode/engine"
	"github.com/shale-storage/shale/storenode/engine/fault"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/setup/process"
	"github.com/shale-storage/shale/storenode/shard"
	"github.com/shale-storage/shale/storenode/wire"
)

// hang is a Device that answers nothing any more.
func hang(*engine.Request) fault.Verdict { return fault.Verdict{Hold: true} }

func TestADeviceThatHangsIsLeftByItsPrimaryAndTakenBackLater(t *testing.T) {
	c := newCluster(t, 3)
	c.volume(1)
	k := newClient(t, c)
	k.write(shardID(0), 0, content(1))
	sick := c.primary(shardID(0))
	sick.fault.Set(hang)
	k.write(shardID(0), 0, content(2))
	if r := c.register.Record(shardID(0)); r.Primary == 1 || r.IsInSync(1) {
		t.Errorf("record %+v", r)
	}
	eventually(t, "its host says so", func() bool { return sick.server.Host.Health(sick.store.Device()).Stalled > 0 })
	k.expect(shardID(0), 0, content(2))
	sick.fault.Set(nil)
	sick.fault.Release()
	eventually(t, "it is in sync again", func() bool { return len(c.register.Record(shardID(0)).InSync) == 3 })
	if h := sick.server.Host.Health(sick.store.Device()); h.Errors != 0 {
		t.Errorf("health %+v", h)
	}
}

func TestABackupWhoseDeviceHangsIsEvicted(t *testing.T) {
	c := newCluster(t, 3)
	c.volume(1)
	k := newClient(t, c)
	k.write(shardID(0), 0, content(1))
	sick := c.nodes[2]
	sick.fault.Set(hang)
	k.write(shardID(0), 0, content(2))
	if r := c.register.Record(shardID(0)); r.Primary != 1 || r.IsInSync(3) {
		t.Errorf("record %+v", r)
	}
	sick.fault.Set(nil)
	sick.fault.Release()
	eventually(t, "it is in sync again", func() bool { return len(c.register.Record(shardID(0)).InSync) == 3 })
}

// What it is told by, an event ReplicaSlow of the Shard, is tested in storenode/agent.
func TestAReplicaWhoseEveryWriteIsSlowIsEvictedAndTold(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: takes a quarter of a minute")
	}
	c := newCluster(t, 3)
	c.volume(1)
	k := newClient(t, c)
	slow, primary := c.nodes[2], c.primary(shardID(0))
	slow.fault.Set(func(r *engine.Request) fault.Verdict {
		if r.Op != engine.OpWrite {
			return fault.Verdict{}
		}
		time.AfterFunc(400*time.Millisecond, slow.fault.Release)
		return fault.Verdict{Hold: true}
	})
	evicted := func() bool { return !c.register.Record(shardID(0)).IsInSync(3) }
	for i := 0; i < 100 && !evicted(); i++ {
		k.write(shardID(0), 0, content(byte(i)))
	}
	if r := c.register.Record(shardID(0)); r.Primary != 1 || !r.IsInSync(2) || r.IsInSync(3) {
		t.Errorf("record %+v", r)
	}
	if f := primary.status(shardID(0)).Findings; f.Slow != 1 || f.Stuck != 0 || !strings.HasPrefix(f.Last, "replica 3 ") {
		t.Errorf("findings %+v", f)
	}
	slow.fault.Set(nil)
	slow.fault.Release()
}

func TestADeviceThatFailsReadsIsReadElsewhereAndCounted(t *testing.T) {
	c := newCluster(t, 2)
	c.volume(1)
	k := newClient(t, c)
	k.write(shardID(0), 0, slicesOf(content(1), content(2)))
	primary := c.primary(shardID(0))
	broken := errors.New("the medium has a bad place")
	failures := 3 // the read of both, and each half of the first
	primary.fault.Set(func(r *engine.Request) fault.Verdict {
		if r.Op == engine.OpRead && failures > 0 {
			failures--
			return fault.Verdict{Err: broken}
		}
		return fault.Verdict{}
	})
	k.expect(shardID(0), 0, slicesOf(content(1), content(2)))
	if h := primary.server.Host.Health(primary.store.Device()); h.Errors != 3 || h.LastError == "" {
		t.Errorf("health %+v", h)
	}
	if s := primary.status(shardID(0)); s.Findings.Healed != 1 {
		t.Errorf("status %+v", s)
	}
	if r := c.register.Record(shardID(0)); r.Epoch != 1 {
		t.Errorf("membership changed: %+v", r)
	}
}

func TestADeviceThatHangsKeepsNoOtherFromBeingLookedThrough(t *testing.T) {
	c := newScrubbedCluster(t, 1)
	n := c.nodes[0]
	host, path := n.server.Host, n.path+".second"
	err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, deviceSize),
		process.Format(host, path, "test", 1, testLog(t)))
	if err != nil {
		t.Fatal(err)
	}
	second, err := process.Serve(host, path, 4, 1, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	const many = 6
	c.volume(many)
	other := ident.ShardID{Volume: ident.UUID{0xbb, 1}}
	m := shard.VolumeMap{Volume: other.Volume, Size: shardSize, ShardSize: shardSize, Generation: 1}
	onSecond := []membership.Replica{{ID: 1, Device: second.Device(), Address: n.address}}
	if err := c.register.CreateVolume(m, onSecond); err != nil {
		t.Fatal(err)
	}
	k := newClient(t, c)
	for i := range uint32(many) {
		k.write(shardID(i), 0, content(1))
	}
	k.write(other, 0, content(1))
	n.fault.Set(func(r *engine.Request) fault.Verdict { return fault.Verdict{Hold: r.Op == engine.OpRead} })
	defer func() {
		n.fault.Set(nil)
		n.fault.Release()
		if err := errors.Join(host.RemoveDevice(second.Device()), second.Close()); err != nil {
			t.Error(err)
		}
	}()
	eventually(t, "the first device hangs in many of them", func() bool { return n.fault.Held() >= 4 })
	before := n.status(other).Scrub.Passes
	eventually(t, "the second is looked through", func() bool { return n.status(other).Scrub.Passes > before+1 })
}

func TestAFullDeviceStopsOnlyTheWritesThatNeedSpace(t *testing.T) {
	onlyWhatNeedsSpaceFails(t, newCluster(t, 1))
}

// TestFullBackupsStopOnlyTheWritesThatNeedSpace: two of three Devices have less space than that of the Primary; nobody
// is evicted.
func TestFullBackupsStopOnlyTheWritesThatNeedSpace(t *testing.T) {
	c := newCluster(t, 3)
	other := ident.ShardID{Volume: ident.UUID{0xbb, 1}}
	m := shard.VolumeMap{Volume: other.Volume, Size: shardSize, ShardSize: shardSize, Generation: 1}
	if err := c.register.CreateVolume(m, c.replicas()[1:]); err != nil {
		t.Fatal(err)
	}
	k := newClient(t, c)
	for i := range uint64(6) {
		k.write(other, i<<20, content(1))
	}
	onlyWhatNeedsSpaceFails(t, c)
	for i := range uint32(12) {
		if r := c.register.Record(shardID(i)); r.Epoch != 1 || len(r.InSync) != 3 {
			t.Errorf("shard %d: %+v", i, r)
		}
	}
}

func onlyWhatNeedsSpaceFails(t *testing.T, c *cluster) {
	t.Helper()
	c.volume(12) // more than there is
	k := newClient(t, c)
	const extent = 1 << 20
	k.write(shardID(0), 0, content(1))
	full, at := false, uint64(0)
	for i := uint64(1); i < 12*shardSize/extent && !full; i++ {
		h := wire.Header{Opcode: wire.OpWrite, Shard: shardID(uint32(i * extent / shardSize)), Length: 4096}
		h.Offset = i * extent % shardSize
		a := k.do(h, content(2))
		full, at = a.Status == wire.StatusNoSpace, i
	}
	if !full {
		t.Fatal("the device never was full")
	}
	k.write(shardID(0), 0, content(3)) // needs no space
	k.expect(shardID(0), 0, content(3))
	last := c.nodes[len(c.nodes)-1]
	if h := last.server.Host.Health(last.store.Device()); h.Full == 0 || h.Errors != 0 {
		t.Errorf("health %+v", h)
	}
	k.do(wire.Header{Opcode: wire.OpDiscard, Shard: shardID(0), Offset: extent, Length: extent}, nil)
	h := wire.Header{Opcode: wire.OpWrite, Shard: shardID(uint32(at * extent / shardSize)), Length: 4096}
	h.Offset = at * extent % shardSize
	eventually(t, "space that came back is used", func() bool { return k.do(h, content(2)).Status == wire.StatusOK })
}
