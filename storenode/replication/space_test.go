package replication

import (
	"testing"
	"time"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/wire"
)

// fill takes the space of a Device but for at most one Extent, for a while: long enough that the rest may fill up too,
// and what was left out returns.
func (n *node) fill() {
	if n.full {
		return
	}
	n.full, n.room = true, len(n.disk.epochs)+n.c.r.IntN(2)
	last := n.c.between(100*time.Millisecond, 6*time.Second)
	n.c.short = max(n.c.short, n.c.t+int64(last))
	n.c.logf("%d is full beyond %d extents", n.id, n.room)
	n.c.after(last, func() { n.full = false })
}

// roomy reports whether there is space everywhere, and was since whatever is answered now began.
func (c *cluster) roomy() bool { return c.t > c.short+int64(10*time.Second) }

// change carries out a change. Like a Store one that lacks an Extent may do so for a part of a write.
func (n *node) change(op *Op) {
	kept := *op
	if n.full && op.Kind == Write {
		kept.Length = n.fits(op)
	}
	if kept.Length < op.Length {
		op.Err = ErrNoSpace
	}
	if kept.Length > 0 {
		n.disk.apply(kept, op.Payload)
		n.disk.since = append(n.disk.since, kept)
	}
	if op.FUA && op.Err == nil {
		n.disk.flush()
	}
}

// fits is how much of a write there is space for, in bytes from its begin: it ends where an Extent is lacking.
func (n *node) fits(op *Op) int {
	used := len(n.disk.epochs)
	for at := 0; at < op.Length; at += ident.BlockSize {
		offset := op.Offset + int64(at)
		if _, has := n.disk.epochs[uint32(offset/extentSize)]; has || at > 0 && offset%extentSize != 0 {
			continue
		}
		if used++; used > n.room {
			return at
		}
	}
	return op.Length
}

// TestNobodyIsEvictedBecauseItIsFull: while the Devices of both Backups are full, or that of the Primary, the writes
// that need space fail and nothing else, whatever the client does; and no longer than that.
func TestNobodyIsEvictedBecauseItIsFull(t *testing.T) {
	for seed := range uint64(30) {
		c := newCluster(seed)
		c.min, c.faulty, c.wild = 2, false, false
		for _, n := range c.nodes {
			n.m.Require(n.now(), c.min)
		}
		full := c.nodes[1:]
		if seed%3 == 0 {
			full = c.nodes[:1]
		}
		c.client.work()
		c.until(20*time.Millisecond, func() bool { return false })
		for _, n := range full {
			n.full, n.room, c.short = true, len(n.disk.epochs), c.t+int64(5*time.Second)
		}
		answered := c.client.answered
		c.until(5*time.Second, func() bool { return false })
		for _, n := range full {
			n.full = false
		}
		if r := c.record; r.Epoch != 1 || len(r.InSync) != 3 || c.client.answered-answered < 100 {
			t.Fatalf("seed %d: %+v, %d answered, %s", seed, r, c.client.answered-answered, c.describe())
		}
		c.until(time.Second, func() bool { return false })
		short := c.client.short
		c.until(time.Second, func() bool { return false })
		if c.client.closing = true; short == 0 || c.client.short != short || !c.until(30*time.Second, c.quiet) {
			t.Fatalf("seed %d: %d found no space, %d later; %s", seed, short, c.client.short, c.describe())
		}
		if c.compare(); c.fail != nil {
			t.Fatalf("seed %d: %v", seed, c.fail)
		}
	}
}

// TestAFullReplicaIsBroughtInSyncByDiscards: what it lacks has no space there until it is told to discard what comes
// behind.
func TestAFullReplicaIsBroughtInSyncByDiscards(t *testing.T) {
	c := newCluster(1)
	c.min, c.faulty, c.wild = 1, false, false
	holds := func(n *node, extents ...int64) {
		n.disk.blocks, n.disk.epochs = map[int64]uint64{}, map[uint32]ident.Epoch{}
		for _, x := range extents {
			for b := int64(0); b < extentBlocks; b += copyPart / ident.BlockSize {
				n.disk.blocks[x*extentBlocks+b], n.disk.epochs[uint32(x)] = 7, 1
			}
		}
	}
	for _, n := range c.nodes {
		n.m.Require(n.now(), c.min)
		holds(n, 1, 2, 3)
	}
	behind := c.nodes[2]
	c.until(time.Second, func() bool { return false })
	behind.kill()
	if !c.until(10*time.Second, func() bool { return len(c.record.InSync) == 2 }) {
		t.Fatal(c.describe())
	}
	for _, n := range c.nodes[:2] {
		holds(n, 0)
	}
	behind.full, behind.room = true, 3
	behind.start()
	if !c.until(60*time.Second, c.quiet) {
		t.Fatalf("%v: %s", c.fail, c.describe())
	}
	if c.compare(); c.fail != nil {
		t.Fatal(c.fail)
	}
}

// TestAnUndoThatEndsHalfwayIsFoundByTheNextPrimary: a write over the border of two Extents, of which both Backups lack
// the first. Neither has a record of it, and one is told the second half before the Primary dies.
func TestAnUndoThatEndsHalfwayIsFoundByTheNextPrimary(t *testing.T) {
	halfway := 0
	for seed := range uint64(40) {
		c := newCluster(seed)
		c.min, c.faulty, c.wild = 1, false, false
		c.client.closing = true // no scrub, which would make them equal
		for _, n := range c.nodes {
			n.m.Require(n.now(), c.min)
			n.disk.blocks[extentBlocks], n.disk.epochs[1] = 7, 1
			n.full, n.room = n.id != 1, 1
		}
		c.until(time.Second, func() bool { return false })
		first, second, third := c.nodes[0], c.nodes[1], c.nodes[2]
		first.m.Step(first.now(), &Message{
			Header: wire.Header{
				Opcode: wire.OpWrite, Session: 99, Request: 1, Epoch: c.record.Epoch, Offset: extentSize - ident.BlockSize,
				Length: 2 * ident.BlockSize, PayloadLength: 2 * ident.BlockSize,
			},
			Route: new(int), Payload: newMemory(&c.live, []uint64{101, 102}, nil),
		})
		first.drive()
		differ := func() bool { return second.disk.blocks[extentBlocks] != third.disk.blocks[extentBlocks] }
		if !c.until(time.Second, differ) {
			continue
		}
		halfway++
		first.kill()
		c.record.Epoch, c.record.Primary, c.record.InSync = c.record.Epoch+1, 2, []ident.ReplicaID{2, 3}
		c.until(10*time.Second, func() bool { return false })
		if differ() || c.fail != nil || second.m.stage != stageServing {
			t.Fatalf("seed %d: %v, %v and %v; %s", seed, c.fail, second.disk, third.disk, c.describe())
		}
	}
	if halfway < 10 {
		t.Errorf("only %d got there", halfway)
	}
}
