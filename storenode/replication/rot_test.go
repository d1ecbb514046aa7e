package replication

import (
	"errors"
	"maps"
	"os"
	"testing"
	"time"

	"github.com/shale-storage/shale/storenode/ident"
)

var errUnreadable = errors.New("the medium cannot be read")

// rot makes a Block of one node unreadable.
func (c *cluster) rot(n *node) {
	for range 8 {
		if b, _ := c.client.place(); n.disk.rot(b) {
			c.logf("%d: block %d rots", n.id, b)
			c.rotten++
			return
		}
	}
}

// found counts what Machines say of damaged Blocks.
func (c *cluster) found(n *node, f Finding) {
	c.logf("%d finds %+v", n.id, f)
	switch f.Kind {
	case Healed:
		c.healed++
	case Differs:
		c.differ++
		c.differing[f.Replica] = true
	case Lost:
	}
	if b := f.Offset / ident.BlockSize; f.Kind == Healed && f.Replica == n.id && n.disk.bad[b] {
		c.failf("%d: block %d is said to be healed, and is not", n.id, b)
	}
}

// refusedRead: a read may fail only if some Block of it cannot be read at any member in sync that can be asked.
func (c *cluster) refusedRead(n *node, message *Message) {
	first := int64(message.Offset / ident.BlockSize)
	for b := first; b < first+int64(message.Length/ident.BlockSize); b++ {
		if n.disk.bad[b] && !c.hasGood(n, b) {
			return
		}
	}
	c.failf("%d: a read of block %d+%d fails while a good copy is there", n.id, first, message.Length/ident.BlockSize)
}

func (c *cluster) hasGood(n *node, b int64) bool {
	for i := range n.m.members {
		if x := &n.m.members[i]; x.id != 0 && x.inSync && !x.failed && !c.node(x.id).disk.bad[b] {
			return true
		}
	}
	return false
}

// TestRottenBlocksAreHealed: whatever rots at one member while nothing else goes wrong is read as it was written, and
// put right.
func TestRottenBlocksAreHealed(t *testing.T) {
	for _, seed := range seeds(t, 20) {
		c := newCluster(seed)
		c.client.work()
		c.faulty = false
		var harm func()
		harm = func() {
			c.after(c.between(20*time.Millisecond, 100*time.Millisecond), func() {
				n := c.nodes[c.r.IntN(len(c.nodes))]
				clean := true
				for _, other := range c.nodes {
					clean = clean && (other == n || len(other.disk.bad) == 0)
				}
				if !c.client.closing {
					if clean {
						c.rot(n)
					}
					harm()
				}
			})
		}
		harm()
		c.until(10*time.Second, func() bool { return false })
		c.client.closing = true
		if !c.until(20*time.Second, c.quiet) && c.fail == nil {
			c.failf("no rest: %s", c.describe())
		}
		c.scrub()
		for _, n := range c.nodes {
			if len(n.disk.bad) > 0 && c.fail == nil {
				c.failf("%d: blocks %v are still bad after a scrub", n.id, n.disk.bad)
			}
		}
		c.compare()
		if c.record.Epoch != 1 && c.fail == nil {
			c.failf("membership changed because of rot: %s", c.describe())
		}
		if c.fail != nil {
			if path := os.Getenv("CLUSTER_TRACE"); path != "" {
				_ = os.WriteFile(path, []byte(c.log.String()), 0o600)
			}
			t.Fatalf("seed %d: %v", seed, c.fail)
		}
		if c.rotten == 0 || c.healed == 0 {
			t.Errorf("seed %d: %d blocks rotted, %d were healed", seed, c.rotten, c.healed)
		}
	}
}

// scrub has the Primary look through everything.
func (c *cluster) scrub() {
	p := c.node(c.record.Primary)
	for x := range uint32(clusterSize / extentSize) {
		if c.fail == nil && !p.m.Scrub(p.now(), x) {
			c.failf("extent %d is not scrubbed: %s", x, c.describe())
			return
		}
		p.drive()
		if !c.until(5*time.Second, c.quiet) && c.fail == nil {
			c.failf("the scrub of extent %d has no end: %s", x, c.describe())
		}
	}
}

// TestAScrubFindsWhatDiffers: a member whose Block is another than the Primary's, though it can be read, is made equal.
func TestAScrubFindsWhatDiffers(t *testing.T) {
	for _, seed := range seeds(t, 10) {
		c := newCluster(seed)
		c.client.work()
		c.faulty = false
		c.until(4*time.Second, func() bool { return false })
		c.client.closing = true
		if !c.until(20*time.Second, c.quiet) && c.fail == nil {
			c.failf("no rest: %s", c.describe())
		}
		changed, wrong := 0, map[ident.ReplicaID]bool{}
		for _, n := range c.nodes {
			for _, b := range c.client.oracle.Blocks() {
				if _, ok := n.disk.blocks[b]; ok && n.id != c.record.Primary && changed < int(n.id) {
					n.disk.blocks[b]++ // a write that got lost, or came too often
					changed++
					wrong[n.id] = true
				}
			}
		}
		before := c.differ
		c.scrub()
		c.compare()
		if c.fail != nil {
			t.Fatalf("seed %d: %v", seed, c.fail)
		}
		if before != 0 || c.differ == 0 {
			t.Errorf("seed %d: %d findings before the damage, %d after it", seed, before, c.differ)
		}
		if !maps.Equal(c.differing, wrong) {
			t.Errorf("seed %d: replicas %v are said to differ, want %v", seed, c.differing, wrong)
		}
	}
}
