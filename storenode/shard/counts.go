package shard

import (
	"slices"

	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/wire"
)

// Counts are what clients asked of the Primaries on a Device, since the start.
type Counts struct {
	Reads, Writes, Flushes, Discards uint64
	ReadBytes, WrittenBytes          uint64
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
