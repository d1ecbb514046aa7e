package shard

import (
	"fmt"
	"slices"

	"github.com/shale-storage/shale/storenode/replication"
	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/wire"
)

// Counts are what clients asked of the Primaries on a Device, since the start.
type Counts struct {
	Reads, Writes, Flushes, Discards uint64
	ReadBytes, WrittenBytes          uint64
	// HealedBlocks were damaged, and were put right from another Replica; LostBlocks could not be.
	HealedBlocks, LostBlocks uint64
}

// Findings are what a Primary has found damaged, since its Replica is in service here.
type Findings struct {
	// Healed Blocks, of any Replica of the Shard; Lost is how often a Block was found that no Replica has.
	Healed, Lost uint64
	// Last of them, in words.
	Last string
}

// maxLoggedFindings bounds the findings of a Replica that are logged one by one; of more, each doubling is.
const maxLoggedFindings = 64

// found counts, and tells the log of, a Block that could not be read.
func (r *replica) found(f *replication.Finding) {
	n := &r.findings
	shard := r.key.Shard.String()
	what := fmt.Sprintf("the Block at %d of replica %d", f.Offset, f.Replica)
	switch f.Kind {
	case replication.Healed:
		n.Healed++
		r.monitor.counts.HealedBlocks++
		n.Last = fmt.Sprintf("healed %s from replica %d", what, f.From)
	case replication.Lost:
		n.Lost++
		r.monitor.counts.LostBlocks++
		n.Last = "no replica can read " + what
	}
	if seen := n.Healed + n.Lost; seen <= maxLoggedFindings || seen&(seen-1) == 0 {
		r.host.o.Log.Warn("Found a damaged block", "shard", shard, "finding", n.Last, "healed", n.Healed, "lost", n.Lost)
	}
}

func (c *Counts) add(f *transport.Frame) {
	switch f.Opcode { //nolint:exhaustive // what else arrives is not a client's
	case wire.OpRead:
		c.Reads++
		c.ReadBytes += uint64(f.Length)
	case wire.OpWrite:
		c.Writes++
		c.WrittenBytes += uint64(f.Length)
	case wire.OpFlush:
		c.Flushes++
	case wire.OpDiscard, wire.OpWriteZeroes:
		c.Discards++
	}
}

func (c *Counts) plus(o Counts) {
	c.Reads += o.Reads
	c.Writes += o.Writes
	c.Flushes += o.Flushes
	c.Discards += o.Discards
	c.ReadBytes += o.ReadBytes
	c.WrittenBytes += o.WrittenBytes
	c.HealedBlocks += o.HealedBlocks
	c.LostBlocks += o.LostBlocks
}

// Counts are those of all Devices in service.
func (h *Host) Counts() Counts {
	h.mu.RLock()
	monitors := slices.Clone(h.monitors)
	h.mu.RUnlock()
	var all Counts
	for _, m := range monitors {
		m.Enter()
		all.plus(m.counts)
		m.Leave()
	}
	return all
}
