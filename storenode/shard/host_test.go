package shard_test

import (
	"bytes"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/engine"
	"github.com/shale-storage/shale/storenode/engine/fault"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/replication"
	"github.com/shale-storage/shale/storenode/setup/process"
	"github.com/shale-storage/shale/storenode/shard"
	"github.com/shale-storage/shale/storenode/store"
	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/wire"
)

func pattern(seed byte, blocks int) []byte {
	b := make([]byte, blocks*ident.BlockSize)
	for i := range b {
		b[i] = seed + byte(i/512)
	}
	return b
}

func (k *client) expect(id ident.ShardID, offset uint64, want []byte) {
	k.t.Helper()
	if got := k.read(id, offset, uint32(len(want))); !bytes.Equal(got, want) {
		k.t.Fatalf("%s at %d holds other data: %x…, want %x…", id, offset, got[:8], want[:8])
	}
}

func TestOneReplicaServesWritesAndReads(t *testing.T) {
	c := newCluster(t, 1)
	c.volume(2)
	k := newClient(t, c)
	k.write(shardID(1), 8192, pattern(1, 3))
	k.expect(shardID(1), 8192, pattern(1, 3))
	k.expect(shardID(0), 0, make([]byte, 4096))
	k.do(wire.Header{Opcode: wire.OpDiscard, Shard: shardID(1), Offset: 8192, Length: 4096}, nil)
	k.expect(shardID(1), 8192, make([]byte, 4096))
	k.expect(shardID(1), 12288, pattern(1, 3)[4096:])
	if a := k.do(wire.Header{Opcode: wire.OpFlush, Shard: shardID(1)}, nil); a.Status != wire.StatusOK {
		t.Errorf("flush: status %d", a.Status)
	}
}

func TestThreeReplicasGoOnWithoutTheirPrimary(t *testing.T) {
	c := newCluster(t, 3)
	c.volume(3)
	k := newClient(t, c)
	for i := range uint32(3) {
		k.write(shardID(i), 0, pattern(byte(i), 4))
	}
	dead := c.primary(shardID(0))
	dead.kill()
	k.write(shardID(0), 16384, pattern(9, 1))
	for i := range uint32(3) {
		k.expect(shardID(i), 0, pattern(byte(i), 4))
		k.write(shardID(i), 32768, pattern(byte(20+i), 2))
	}
	if r := c.register.Record(shardID(0)); r.Epoch < 2 || len(r.InSync) != 2 {
		t.Errorf("record after the failover: %+v", r)
	}
	dead.start()
	for i := range uint32(3) {
		eventually(t, "the returned replica is in sync", func() bool {
			return len(c.register.Record(shardID(i)).InSync) == 3
		})
	}
	// What was written without it is there when it is the only one left that may serve.
	for _, n := range c.nodes {
		if n != dead {
			n.kill()
			break
		}
	}
	for i := range uint32(3) {
		k.expect(shardID(i), 0, pattern(byte(i), 4))
		k.expect(shardID(i), 32768, pattern(byte(20+i), 2))
	}
}

func TestABackupThatDiesIsEvictedAndComesBack(t *testing.T) {
	c := newCluster(t, 3)
	c.volume(1)
	k := newClient(t, c)
	k.write(shardID(0), 0, pattern(1, 1))
	backup := c.nodes[2]
	backup.kill()
	k.write(shardID(0), 0, pattern(2, 1))
	if r := c.register.Record(shardID(0)); len(r.InSync) != 2 || r.Primary != 1 {
		t.Errorf("record: %+v", r)
	}
	backup.start()
	eventually(t, "it is in sync again", func() bool { return len(c.register.Record(shardID(0)).InSync) == 3 })
	eventually(t, "its host says so", func() bool { return backup.status(shardID(0)).State == shard.StateInSync })
	k.expect(shardID(0), 0, pattern(2, 1))
}

func TestAllNodesRestartFromTheirDevices(t *testing.T) {
	c := newCluster(t, 3)
	c.volume(2)
	k := newClient(t, c)
	chance := rand.New(rand.NewPCG(1, 2))
	written := map[uint64]byte{}
	for range 50 {
		at := uint64(chance.IntN(64)) * ident.BlockSize
		written[at] = byte(chance.Uint32())
		k.write(shardID(0), at, pattern(written[at], 1))
	}
	for i, n := range c.nodes {
		if i == 0 {
			n.down()
		} else {
			n.kill()
		}
	}
	for _, n := range c.nodes {
		n.start()
	}
	for at, seed := range written {
		k.expect(shardID(0), at, pattern(seed, 1))
	}
}

func TestADeletedReplicaGivesItsSpaceBack(t *testing.T) {
	c := newCluster(t, 2)
	c.volume(1)
	k := newClient(t, c)
	k.write(shardID(0), 0, pattern(1, 256))
	usage := func(n *node) (used, reserved int64) {
		n.store.Owner().Enter()
		defer n.store.Owner().Leave()
		u := n.store.Usage()
		return u.Used, u.Reserved
	}
	if used, reserved := usage(c.nodes[1]); used == 0 || reserved != shardSize {
		t.Fatalf("%d used, %d reserved before", used, reserved)
	}
	if err := c.register.Delete(shardID(0)); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.nodes {
		eventually(t, "space is free", func() bool { used, reserved := usage(n); return used == 0 && reserved == 0 })
		if s := n.server.Host.Statuses(); len(s) != 0 {
			t.Errorf("still shown: %+v", s)
		}
	}
	h := wire.Header{Opcode: wire.OpRead, Shard: shardID(0), Length: 4096, Request: 99}
	if a, err := k.once(c.nodes[0].address, h, nil); err != nil || a.Status != wire.StatusNotFound {
		t.Errorf("a deleted shard answers %d, %v", a.Status, err)
	}
}

func TestAReplicaKnowsWhetherItIsListed(t *testing.T) {
	c := newCluster(t, 2)
	c.volume(1)
	newClient(t, c).write(shardID(0), 0, pattern(1, 1))
	if s := c.nodes[1].status(shardID(0)); !s.Listed {
		t.Errorf("in sync: %+v", s)
	}
	next := c.register.Record(shardID(0))
	next.Epoch, next.InSync, next.Replicas = 2, next.InSync[:1], next.Replicas[:1]
	c.nodes[1].server.Host.Decided(shardID(0), next)
	if s := c.nodes[1].status(shardID(0)); s.Listed || s.State != shard.StateStale {
		t.Errorf("given up: %+v", s)
	}
}

// TestADeviceIsRemovedOnceNothingOfItIsInFlight: nor anything of a Replica that is being deleted, in whatever order.
func TestADeviceIsRemovedOnceNothingOfItIsInFlight(t *testing.T) {
	c := newCluster(t, 3)
	c.volume(1)
	k := newClient(t, c)
	k.write(shardID(0), 0, pattern(1, 1))
	n := c.nodes[2]
	device := n.store.Device()
	n.fault.Set(hang)
	k.write(shardID(0), 0, pattern(2, 1)) // n3 has it in flight, and is left out
	host, deleted, removed := n.server.Host, make(chan error, 1), make(chan error, 1)
	n.store.Owner().Enter()
	go func() { deleted <- host.Delete(ident.ReplicaKey{Shard: shardID(0), Replica: 3}) }()
	time.Sleep(20 * time.Millisecond) // so that they most likely wait for the monitor in this order
	go func() { removed <- host.RemoveDevice(device) }()
	time.Sleep(20 * time.Millisecond)
	n.store.Owner().Leave()
	select {
	case <-removed:
		t.Fatal("the device is removed with operations in flight")
	case <-time.After(50 * time.Millisecond):
	}
	n.fault.Set(nil)
	n.fault.Release()
	for what, ended := range map[string]chan error{"the device is removed": removed, "the replica is deleted": deleted} {
		eventually(t, what, func() bool { return len(ended) > 0 })
	}
	if err := host.Delete(ident.ReplicaKey{Shard: shardID(0), Replica: 3}); err != nil || len(host.Statuses()) > 0 {
		t.Errorf("afterwards: %v, %+v", err, host.Statuses())
	}
}

// TestAReplicaThatCannotBeDeletedIsToldOf: with its entry would go the object, and who asks again.
func TestAReplicaThatCannotBeDeletedIsToldOf(t *testing.T) {
	c := newCluster(t, 2)
	c.volume(1)
	k := newClient(t, c)
	k.write(shardID(0), 0, pattern(1, 1))
	n, key := c.nodes[1], ident.ReplicaKey{Shard: shardID(0), Replica: 2}
	host := n.server.Host
	n.fault.Set(hang)
	deleted := make(chan error, 2)
	for range 2 {
		go func() { deleted <- host.Delete(key) }()
	}
	eventually(t, "it is shown as being deleted", func() bool {
		return strings.Contains(n.status(key.Shard).Message, "deleted")
	})
	if s := host.StatusesOf(key.Shard); len(s) != 1 || s[0].State != shard.StateFailed || s[0].Epoch != 1 {
		t.Errorf("shown as %+v", s)
	}
	err := host.Apply(shard.Desired{Shard: key.Shard, Size: shardSize, Record: membership.Record{Replicas: c.replicas()}})
	if !errors.Is(err, shard.ErrDeleting) {
		t.Errorf("it is made anew meanwhile: %v", err)
	}
	broken := errors.New("the device is broken")
	n.fault.Set(func(r *engine.Request) fault.Verdict {
		if r.Op == engine.OpFlush {
			return fault.Verdict{Err: broken}
		}
		return fault.Verdict{}
	})
	n.fault.Release()
	for range 2 {
		if err := <-deleted; !errors.Is(err, broken) {
			t.Errorf("deleted, though nothing of that is durable: %v", err)
		}
	}
	n.fault.Set(nil)
	err = host.Delete(key)
	if s := host.Statuses(); !errors.Is(err, store.ErrFailed) || len(s) != 1 || !strings.Contains(s[0].Message, "failed") {
		t.Errorf("on the failed device: %v, %+v", err, s)
	}
	n.kill() // a failed Store writes no last Checkpoint
	n.start()
	if err := n.server.Host.Delete(key); err != nil || len(n.server.Host.Statuses()) > 0 {
		t.Errorf("on the device in service anew: %v, %+v", err, n.server.Host.Statuses())
	}
}

func TestAnOlderRecordIsRefusedAndChangesNothing(t *testing.T) {
	c := newCluster(t, 2)
	c.volume(1)
	k := newClient(t, c)
	k.write(shardID(0), 0, pattern(1, 1))
	first := c.register.Record(shardID(0))
	next := first
	next.Epoch = 2
	if err := c.register.Set(shardID(0), next); err != nil {
		t.Fatal(err)
	}
	k.write(shardID(0), 0, pattern(2, 1))
	err := c.register.Set(shardID(0), first)
	if !errors.Is(err, shard.ErrStaleRecord) {
		t.Fatalf("an older record: %v", err)
	}
	if err := c.register.Set(shardID(0), next); err != nil {
		t.Fatal(err)
	}
	k.expect(shardID(0), 0, pattern(2, 1))
}

func TestWhatIsRefusedOfAShardKeepsNothingElseFromBeingEnforced(t *testing.T) {
	c := newCluster(t, 2)
	c.volume(1)
	k := newClient(t, c)
	id, host := shardID(0), c.nodes[0].server.Host
	first := c.register.Record(id)
	next := first
	next.Epoch = 2
	if err := c.register.Set(id, next); err != nil {
		t.Fatal(err)
	}
	k.write(id, 0, pattern(1, 1))
	old := shard.Desired{Shard: id, Size: shardSize, Record: first, Generation: 5, MinInSync: 1}
	if err := host.Apply(old); !errors.Is(err, shard.ErrStaleRecord) {
		t.Fatalf("an older record: %v", err)
	}
	h := wire.Header{Opcode: wire.OpRead, Shard: id, Length: 4096, Generation: 4}
	if a := k.do(h, nil); a.Status != wire.StatusFenced {
		t.Errorf("an attachment that was fenced together with an older record reads with status %d", a.Status)
	}
	next.Epoch = 3
	err := host.Apply(shard.Desired{Shard: id, Size: 2 * shardSize, Record: next, MinInSync: 1})
	if s := c.nodes[0].status(id); !errors.Is(err, shard.ErrSize) || s.Epoch != 3 {
		t.Errorf("a record that came with another size: epoch %d, %v", s.Epoch, err)
	}
}

func TestAReplicaThatHeldDataIsNeverMadeAnew(t *testing.T) {
	c := newCluster(t, 1)
	record := membership.Record{Epoch: 4, Primary: 1, InSync: []ident.ReplicaID{1}, Replicas: c.replicas()}
	err := c.nodes[0].server.Host.Apply(shard.Desired{Shard: shardID(0), Size: shardSize, Record: record})
	if !errors.Is(err, shard.ErrMissing) {
		t.Errorf("got %v", err)
	}
}

// TestOfTwoStoresForOneDeviceOneIsInService: the other is a copy, or the same SSD by another path.
func TestOfTwoStoresForOneDeviceOneIsInService(t *testing.T) {
	c := newCluster(t, 1)
	n := c.nodes[0]
	id := n.store.Device()
	n.down()
	content, err := os.ReadFile(n.path)
	if err != nil {
		t.Fatal(err)
	}
	n.start()
	if err := n.server.Host.RemoveDevice(id); err != nil {
		t.Fatal(err)
	}
	type added struct {
		store *store.Store
		err   error
	}
	both := make(chan added, 2)
	for _, name := range []string{"copy1", "copy2"} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		go func() {
			s, err := process.Serve(n.server.Host, path, 1, 1, testLog(t))
			both <- added{s, err}
		}()
	}
	first, second := <-both, <-both
	if (first.err == nil) == (second.err == nil) || !errors.Is(errors.Join(first.err, second.err), shard.ErrInService) {
		t.Errorf("added: %v; %v", first.err, second.err)
	}
	for _, a := range []added{first, second} {
		if a.err == nil {
			if err := errors.Join(n.server.Host.RemoveDevice(id), a.store.Close()); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestAFullDeviceRefusesAReplica(t *testing.T) {
	c := newCluster(t, 1)
	record := membership.Record{Replicas: c.replicas()}
	err := c.nodes[0].server.Host.Apply(shard.Desired{Shard: shardID(0), Size: 10 * deviceSize, Record: record})
	if !errors.Is(err, shard.ErrNoSpace) {
		t.Errorf("got %v", err)
	}
}

func TestOpenTellsTheMapAndRaisesTheGeneration(t *testing.T) {
	c := newCluster(t, 2)
	c.volume(3)
	k := newClient(t, c)
	open := func(volume ident.UUID, g ident.Generation, first uint32) answered {
		t.Helper()
		h := wire.Header{Opcode: wire.OpOpen, Shard: ident.ShardID{Volume: volume, Index: first}, Generation: g, Request: 1}
		a, err := k.once(c.nodes[1].address, h, nil)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if a := open(ident.UUID{1}, 1, 0); a.Status != wire.StatusNotFound {
		t.Errorf("an unknown volume: status %d", a.Status)
	}
	a := open(theVolume, 5, 1)
	var page wire.MapPage
	if err := page.Decode(a.payload); a.Status != wire.StatusOK || err != nil {
		t.Fatalf("status %d, %v", a.Status, err)
	}
	if page.Shards != 3 || page.First != 1 || len(page.Records) != 2 || page.Generation != 5 ||
		page.ShardSize != shardSize {
		t.Errorf("page %+v", page)
	}
	if a := open(theVolume, 4, 0); a.Status != wire.StatusFenced {
		t.Errorf("an older attachment: status %d", a.Status)
	}
	// The generation reaches the Shards whose Replica is there.
	h := wire.Header{Opcode: wire.OpRead, Shard: shardID(1), Length: 4096, Generation: 4}
	if got := k.do(h, nil); got.Status != wire.StatusFenced {
		t.Errorf("a fenced read: status %d", got.Status)
	}
}

// Who was away while the Volume was deleted would wait for ever for somebody who knows it.
func TestOpenOfADeletedVolumeIsFenced(t *testing.T) {
	const remembered = 4096
	c := newCluster(t, 1)
	c.volume(1)
	k := newClient(t, c)
	host := c.nodes[0].server.Host
	expect := func(story string, volume ident.UUID, want wire.Status) {
		t.Helper()
		h := wire.Header{Opcode: wire.OpOpen, Shard: ident.ShardID{Volume: volume}, Generation: 5, Request: 1}
		a, err := k.once(c.nodes[0].address, h, nil)
		if err != nil || a.Status != want {
			t.Errorf("%s: status %d, %v; want %d", story, a.Status, err, want)
		}
	}
	flood := func() {
		for n := range uint16(remembered) {
			host.Retire(ident.UUID{9, byte(n), byte(n >> 8)})
		}
	}
	host.Retire(theVolume)
	expect("it is deleted", theVolume, wire.StatusFenced)
	host.Unpublish(theVolume)
	expect("its object is gone", theVolume, wire.StatusFenced)
	flood()
	expect("so many were deleted since", theVolume, wire.StatusNotFound)
	host.Retire(theVolume)
	host.Publish(shard.VolumeMap{
		Volume: theVolume, Size: shardSize, ShardSize: shardSize, Shards: []membership.Record{{Epoch: 1}},
	})
	expect("it exists after all", theVolume, wire.StatusOK)
	flood()
	expect("and goes on to", theVolume, wire.StatusOK)
}

func TestGarbageClosesItsConnectionAndNothingElse(t *testing.T) {
	c := newCluster(t, 1)
	c.volume(1)
	k := newClient(t, c)
	k.write(shardID(0), 0, pattern(1, 1))
	junk := make([]byte, 4096)
	chance := rand.NewChaCha8([32]byte{1})
	for range 20 {
		conn, err := net.Dial("tcp", c.nodes[0].address)
		if err != nil {
			t.Fatal(err)
		}
		chance.Read(junk)
		_, _ = conn.Write(junk)
		_, _ = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}
	k.expect(shardID(0), 0, pattern(1, 1))
	// Well-formed nonsense is answered, and stops nobody.
	for name, h := range map[string]wire.Header{
		"unknown operation": {Opcode: 99, Shard: shardID(0)},
		"not aligned":       {Opcode: wire.OpRead, Shard: shardID(0), Offset: 1, Length: 4096},
		"beyond the end":    {Opcode: wire.OpRead, Shard: shardID(0), Offset: shardSize, Length: 4096},
		"huge offset":       {Opcode: wire.OpRead, Shard: shardID(0), Offset: 1 << 63, Length: 4096},
		"too long":          {Opcode: wire.OpDiscard, Shard: shardID(0), Length: 1<<32 - 4096},
		"no payload":        {Opcode: wire.OpWrite, Shard: shardID(0), Length: 4096},
		"a storenode's":     {Opcode: wire.OpReplWrite, Shard: shardID(0), To: 1},
	} {
		h.Request, h.Session, h.Generation = 1000, 77, 1
		if a, err := k.once(c.nodes[0].address, h, nil); err != nil || a.Status != wire.StatusInvalid {
			t.Errorf("%s: status %d, %v", name, a.Status, err)
		}
	}
	k.expect(shardID(0), 0, pattern(1, 1))
}

func TestADuplicateIsAppliedOnce(t *testing.T) {
	c := newCluster(t, 2)
	c.volume(1)
	k := newClient(t, c)
	k.write(shardID(0), 0, pattern(1, 1))
	h := wire.Header{
		Opcode: wire.OpWrite, Shard: shardID(0), Length: 4096, Request: k.next[shardID(0)], Session: k.session,
		Committed: 1, Epoch: 1, Generation: 1,
	}
	k.write(shardID(0), 0, pattern(2, 1))
	if a, err := k.once(c.primary(shardID(0)).address, h, pattern(1, 1)); err == nil && a.Status != wire.StatusOK {
		t.Errorf("a late duplicate: status %d", a.Status)
	}
	k.expect(shardID(0), 0, pattern(2, 1))
}

// caller is a connection that takes what it is sent.
type caller struct{ closed error }

func (*caller) Send(f *transport.Frame) error {
	if f.Payload != nil {
		f.Payload.Release()
	}
	return nil
}
func (*caller) Flush()            {}
func (c *caller) Close(err error) { c.closed = err }
func (*caller) Remote() string    { return "test" }

func TestClientsLeaveConnectionsToStorenodes(t *testing.T) {
	pool := buffer.New(8 << 20)
	var log strings.Builder
	h := shard.New(shard.Options{
		Name: "n1", Address: "n1:7800", Incarnation: 1, Pool: pool, Timing: replication.DefaultTiming(),
		Clock: process.Clock(), MaxClients: 2, Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	call := func(hello wire.Hello) (end func(), err error) {
		t.Helper()
		c := &caller{}
		handler, err := h.Accept(c)
		if err != nil {
			t.Fatal(err)
		}
		f := &transport.Frame{Header: wire.Header{Opcode: wire.OpHello}}
		b := hello.Append(nil)
		f.Payload = pool.Get(len(b))
		copy(f.Payload.Bytes(), b)
		err = handler.Frame(c, f)
		handler.Idle(c)
		return func() { handler.Closed(c, transport.ErrClosed) }, err
	}
	client := wire.Hello{Role: wire.RoleClient, Name: "c"}
	first, err := call(client)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := call(client); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		end, err := call(client)
		if err == nil {
			t.Error("a third client was let in")
		}
		end() // and gives no place back that it never had
	}
	if told := log.String(); strings.Count(told, "Refused a client") != 1 || !strings.Contains(told, "limit=2") {
		t.Errorf("the log says %q", told)
	}
	if _, err := call(wire.Hello{Role: wire.RoleStoreNode, Name: "n2", Address: "n2:7800", Incarnation: 2}); err != nil {
		t.Errorf("a storenode was refused: %v", err)
	}
	first()
	if _, err := call(client); err != nil {
		t.Errorf("the place of one that went is not free: %v", err)
	}
}
