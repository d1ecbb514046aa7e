package shard_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/wire"
)

// find is where a Block's content lies in a node's file, -1 if nowhere.
func (n *node) find(content []byte) int64 {
	n.t.Helper()
	all, err := os.ReadFile(n.path)
	if err != nil {
		n.t.Fatal(err)
	}
	for at := 0; at < len(all); at += ident.BlockSize {
		if bytes.Equal(all[at:at+ident.BlockSize], content) {
			return int64(at)
		}
	}
	return -1
}

// rot flips a bit of a Block at rest.
func (n *node) rot(content []byte) {
	n.t.Helper()
	at := n.find(content)
	if at < 0 {
		n.t.Fatal("the block is not on the device")
	}
	f, err := os.OpenFile(n.path, os.O_RDWR, 0)
	if err != nil {
		n.t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{content[100] ^ 1}, at+100); err != nil {
		n.t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		n.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		n.t.Fatal(err)
	}
}

// content of a Block that is like no other.
func content(seed byte) []byte {
	b := bytes.Repeat([]byte{seed, 3, seed, 5}, ident.BlockSize/4)
	copy(b, "a block of a test")
	return b
}

func TestARottenBlockIsReadFromAnotherReplicaAndHealed(t *testing.T) {
	c := newCluster(t, 2)
	c.volume(1)
	k := newClient(t, c)
	all := slicesOf(content(1), content(2), content(3), content(4))
	k.write(shardID(0), 0, all)
	primary := c.primary(shardID(0))
	primary.rot(content(3))
	k.expect(shardID(0), 0, all)
	if primary.find(content(3)) < 0 {
		t.Error("the device still holds the damaged block")
	}
	s := primary.status(shardID(0))
	n := primary.server.Host.Counts()
	if s.Findings.Healed != 1 || s.Findings.Lost != 0 || s.LostBlocks != 0 || n.HealedBlocks != 1 {
		t.Errorf("status %+v, counts %+v", s, n)
	}
	if r := c.register.Record(shardID(0)); r.Epoch != 1 {
		t.Errorf("membership changed: %+v", r)
	}
}

func slicesOf(blocks ...[]byte) []byte { return bytes.Join(blocks, nil) }

func TestABlockThatRotsWhileTheBackupIsAwayIsHealedWhenItReturns(t *testing.T) {
	c := newCluster(t, 2)
	c.volume(1)
	k := newClient(t, c)
	all := slicesOf(content(1), content(2), content(3), content(4))
	k.write(shardID(0), 0, all)
	backup := c.nodes[1]
	backup.kill()
	k.write(shardID(0), 8<<20, content(5))
	k.write(shardID(0), 8*4096, content(6)) // the Extent differs, so that it is copied
	c.nodes[0].rot(content(2))
	h := wire.Header{Opcode: wire.OpRead, Shard: shardID(0), Length: 4 * 4096}
	if a := k.do(h, nil); a.Status != wire.StatusCorruption {
		t.Fatalf("with no other replica the read ends with %d", a.Status)
	}
	backup.start()
	eventually(t, "it is in sync again", func() bool { return len(c.register.Record(shardID(0)).InSync) == 2 })
	k.expect(shardID(0), 0, all)
}

func TestABlockThatIsLostEverywhereStopsNothingElse(t *testing.T) {
	c := newCluster(t, 3)
	c.volume(1)
	k := newClient(t, c)
	all := slicesOf(content(1), content(2), content(3), content(4))
	k.write(shardID(0), 0, all)
	for _, n := range c.nodes {
		n.rot(content(2))
	}
	h := wire.Header{Opcode: wire.OpRead, Shard: shardID(0), Length: 4 * 4096}
	if a := k.do(h, nil); a.Status != wire.StatusCorruption {
		t.Fatalf("the read ends with %d", a.Status)
	}
	if s := c.nodes[0].status(shardID(0)); s.LostBlocks != 1 || s.Findings.Lost != 1 || s.Message == "" {
		t.Errorf("status %+v", s)
	}
	k.expect(shardID(0), 0, content(1))
	k.expect(shardID(0), 8192, slicesOf(content(3), content(4)))
	// A Replica that lost everything is built anew; the lost Block is lost there too, and no zeros.
	c.nodes[2].kill()
	k.write(shardID(0), 16*4096, content(6))
	c.nodes[2].start()
	eventually(t, "it is in sync again", func() bool { return len(c.register.Record(shardID(0)).InSync) == 3 })
	c.nodes[0].kill()
	k.write(shardID(0), 17*4096, content(7))
	if a := k.do(h, nil); a.Status != wire.StatusCorruption {
		t.Errorf("after a failover the read ends with %d", a.Status)
	}
	k.expect(shardID(0), 8192, slicesOf(content(3), content(4)))
	k.write(shardID(0), 4096, content(8))
	k.expect(shardID(0), 0, slicesOf(content(1), content(8), content(3), content(4)))
}

func TestAScrubHealsWhatNobodyHasRead(t *testing.T) {
	c := newScrubbedCluster(t, 2)
	c.volume(1)
	k := newClient(t, c)
	k.write(shardID(0), 3<<20, slicesOf(content(1), content(2), content(3), content(4)))
	c.nodes[0].rot(content(1))
	c.nodes[1].rot(content(4))
	for _, n := range c.nodes {
		eventually(t, "all blocks are whole again", func() bool {
			return n.find(content(1)) >= 0 && n.find(content(4)) >= 0
		})
	}
	primary := c.primary(shardID(0))
	eventually(t, "a pass is over", func() bool { return primary.status(shardID(0)).Scrub.Passes > 0 })
	if s := primary.status(shardID(0)); s.Findings.Healed != 2 || s.Findings.Different != 0 {
		t.Errorf("status %+v", s)
	}
	eventually(t, "all extents were looked through", func() bool {
		return primary.server.Host.Counts().ScrubbedExtents >= shardSize>>20
	})
	if r := c.register.Record(shardID(0)); r.Epoch != 1 {
		t.Errorf("membership changed: %+v", r)
	}
}
