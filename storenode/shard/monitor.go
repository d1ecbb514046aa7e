package shard

import (
	"runtime"
	"slices"
	"sync"

	"github.com/shale-storage/shale/storenode/budget"
	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/replication"
	"github.com/shale-storage/shale/storenode/store"
	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/wire"
)

// flushedOutside is how many connections are flushed after the monitor was given back; more are flushed before.
const flushedOutside = 8

// yieldAt is how many Ops in flight make it worth to let others go first before connections are flushed: they may have
// more for the same system call. With few it would only cost time.
const yieldAt = 4

// Monitor is the Owner of one Device: all that touches the Device, its Store and the Machines of its Replicas happens
// between Enter and Leave. Make it with Host.Monitor.
type Monitor struct {
	host *Host

	mu sync.Mutex
	// store is nil until AddDevice.
	store *store.Store
	// touched are the Replicas whose Machine may have something Ready.
	touched, driving []*replica
	// ended are Ops that ended without the Store; their Machines are told before the monitor is left.
	ended, telling []*operation
	// written are the connections to be flushed.
	written []*link
	// message and frame are reused for everything that passes.
	message replication.Message
	frame   transport.Frame
	counts  Counts
	// inFlight counts Ops with the Store.
	inFlight int
	// held is the memory that Ops with the Store take of the Pool, in bytes.
	held int
	// scrubs counts the Extents that are being looked through.
	scrubs int
	sick   sickness
	// latencies of clients since the last Tick.
	latencies budget.Latencies
}

// Enter implements engine.Owner.
func (m *Monitor) Enter() { m.mu.Lock() }

// Leave implements engine.Owner: what was begun inside is carried out, the Device is kicked once, and each connection
// that was written to is flushed once, after others may enter.
func (m *Monitor) Leave() {
	m.settle()
	var flush [flushedOutside]*link
	n := copy(flush[:], m.written)
	for _, l := range m.written[n:] {
		l.flush()
	}
	clear(m.written)
	m.written = m.written[:0]
	crowded := m.inFlight >= yieldAt
	m.mu.Unlock()
	if crowded && n > 0 {
		runtime.Gosched()
	}
	for _, l := range flush[:n] {
		l.flush()
	}
}

// settle lets Machines and Store run until neither has anything for the other.
func (m *Monitor) settle() {
	for {
		for len(m.touched) > 0 || len(m.ended) > 0 {
			m.tell()
			m.drive()
		}
		if m.store == nil {
			return
		}
		m.store.Kick()
		if len(m.touched) == 0 && len(m.ended) == 0 {
			return
		}
	}
}

func (m *Monitor) drive() {
	m.touched, m.driving = m.driving[:0], m.touched
	for _, r := range m.driving {
		r.touched = false
		r.drive()
	}
	clear(m.driving)
}

func (m *Monitor) tell() {
	m.ended, m.telling = m.telling[:0], m.ended
	for _, o := range m.telling {
		o.stored()
	}
	clear(m.telling)
}

// admits reports whether there is memory for a request to the Device of m. Two rules share the Pool, so that no Device
// and no client takes what others need to go on (docs/adr/2026-11-26-memory-shares.md):
//
//   - A Device is given more by storenodes while it holds less than twice what is free, by clients while it holds
//     less than half of it (dynamic thresholds: Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998).
//     However many Devices hang, something is free; and however busy clients keep one, it takes more from storenodes.
//   - What is in no Device may wait for other nodes. Of the memory that Devices leave half is for what storenodes
//     replicate: if clients had it, two storenodes could wait for each other's.
//
// Who is not admitted is told StatusBusy, and asks again.
func (h *Host) admits(m *Monitor, client bool) bool {
	inUse, limit := h.o.Pool.Use()
	free, held := limit-inUse, int(h.held.Load())
	if !client {
		return m.held < 2*free
	}
	return 2*m.held < free && inUse-held <= (limit-held)/2
}

// bringsData reports whether a storenode's request has a payload that the Device will hold.
func bringsData(o wire.Opcode) bool { return o == wire.OpReplWrite || o == wire.OpRebuildWrite }

// hold counts the memory of an Op that goes to the Store.
func (m *Monitor) hold(o *operation, b *buffer.Buffer) {
	o.holds = b.Cap()
	m.held += o.holds
	m.host.held.Add(int64(o.holds))
}

// letGo counts what has come back.
func (m *Monitor) letGo(o *operation) {
	m.held -= o.holds
	m.host.held.Add(-int64(o.holds))
	o.holds = 0
}

// Counts are what clients asked of the Primaries on a Device, since the start.
type Counts struct {
	Reads, Writes, Flushes, Discards uint64
	ReadBytes, WrittenBytes          uint64
	// HealedBlocks were damaged, and were put right from another Replica; LostBlocks could not be.
	HealedBlocks, LostBlocks uint64
	// ScrubbedExtents were looked through; DifferentExtents were found to differ between members of InSync, though
	// both could be read.
	ScrubbedExtents, DifferentExtents uint64
	// RebuiltBytes were copied to Replicas that join.
	RebuiltBytes uint64
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
	c.ScrubbedExtents += o.ScrubbedExtents
	c.DifferentExtents += o.DifferentExtents
	c.RebuiltBytes += o.RebuiltBytes
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
