package replication

import (
	"errors"
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
	if f.Kind == Healed {
		c.healed++
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
		c.compare()
		if c.record.Epoch != 1 && c.fail == nil {
			c.failf("membership changed because of rot: %s", c.describe())
		}
		if c.fail != nil {
			t.Fatalf("seed %d: %v", seed, c.fail)
		}
		if c.rotten == 0 || c.healed == 0 {
			t.Errorf("seed %d: %d blocks rotted, %d were healed", seed, c.rotten, c.healed)
		}
	}
}
