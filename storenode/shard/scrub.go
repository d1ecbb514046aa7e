package shard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/shale-storage/shale/storenode/budget"
	"github.com/shale-storage/shale/storenode/engine"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/replication"
	"github.com/shale-storage/shale/storenode/scrub"
	"github.com/shale-storage/shale/storenode/store"
)

const (
	// maxScrubs bounds the Extents that the Primaries on a Device look through at a time. With clients at work in all of
	// them that is 7 MB a second, 4 TB a week. It is not the storenode's, which may have many Devices, one of which hangs.
	maxScrubs = 8
	// extentSize as the Store has it.
	extentSize = 1 << 20
)

// Scrub is how far the present pass over a Shard is, at its Primary.
type Scrub struct {
	Percent int
	// Passes that were completed since the Replica is the Primary here, and how long ago the last was.
	Passes uint64
	Since  time.Duration
}

// scrubOn has the Primary look through the next Extent when it is due.
func (r *replica) scrubOn(now replication.Instant) {
	if r.scrubbing && !r.machine.Scrubbing() {
		r.scrubbed()
		r.monitor.counts.ScrubbedExtents++
	}
	pass := r.host.o.ScrubPass
	if pass <= 0 || r.machine.Record().Primary != r.key.Replica {
		r.pacer = nil
		return
	}
	if r.pacer == nil {
		calendar, salt := r.host.o.Calendar+time.Duration(now), binary.LittleEndian.Uint64(r.key.Shard.Volume[:])
		r.pacer = scrub.New(time.Duration(now), pass, uint32((r.size+extentSize-1)/extentSize), calendar,
			salt>>32+uint64(r.key.Shard.Index))
	}
	extent, ok := r.pacer.Next(time.Duration(now), r.monitor.inFlight > 0)
	if !ok || r.scrubbing {
		return
	}
	if r.monitor.scrubs == maxScrubs || !r.machine.Scrub(now, extent) {
		return
	}
	r.scrubbing = true
	r.monitor.scrubs++
	r.pacer.Begun(time.Duration(now))
	r.touch()
}

// scrubbed gives the place back that an Extent had.
func (r *replica) scrubbed() {
	if r.scrubbing {
		r.scrubbing = false
		r.monitor.scrubs--
	}
}

func (r *replica) scrubStatus() Scrub {
	if r.pacer == nil {
		return Scrub{}
	}
	s := Scrub{Percent: r.pacer.Percent()}
	var ended time.Duration
	if s.Passes, ended = r.pacer.Passes(); s.Passes > 0 {
		s.Since = time.Duration(r.host.o.Clock()) - ended
	}
	return s
}

// Findings are what a Primary has found damaged, since its Replica is in service here.
type Findings struct {
	// Healed ranges of Blocks, of any Replica of the Shard; Lost is how often a Block was found that no Replica has;
	// Different Extents of other members of InSync.
	Healed, Lost, Different uint64
	// Stuck is how often the Primary left because its Device did not answer, Slow how often a Replica had to because it
	// was much slower than the others.
	Stuck, Slow uint64
	// Last of them, in words.
	Last string
}

// maxLoggedFindings bounds the findings of a Replica that are logged one by one; of more, each doubling is.
const maxLoggedFindings = 64

// found counts, and tells the log of, a Block that could not be read.
func (r *replica) found(f *replication.Finding) {
	n := &r.findings
	shard := r.key.Shard.String()
	what := fmt.Sprintf("%d bytes at %d of replica %d", f.Length, f.Offset, f.Replica)
	switch f.Kind {
	case replication.Healed:
		n.Healed++
		r.monitor.counts.HealedBlocks += uint64(f.Length / ident.BlockSize)
		n.Last = fmt.Sprintf("healed %s from replica %d", what, f.From)
	case replication.Lost:
		n.Lost++
		r.monitor.counts.LostBlocks++
		n.Last = "no replica can read " + what
	case replication.Stuck:
		n.Stuck++
		n.Last = fmt.Sprintf("the device of replica %d does not answer; another replica is to be primary", f.Replica)
	case replication.Slow:
		n.Slow++
		n.Last = fmt.Sprintf("replica %d has writes much later than all others; it leaves for a while", f.Replica)
	case replication.Yielded:
		r.host.o.Log.Info("Another replica is to be primary, as a client reaches only that one", "shard", shard,
			"replica", f.From)
		return
	case replication.Differs:
		n.Different++
		r.monitor.counts.DifferentExtents++
		n.Last = fmt.Sprintf("%s, last changed in epoch %d, differ from what the primary serves, of epoch %d; its own "+
			"checksums are good, so it missed a write or its device gave one up; it gets the primary's", what,
			f.Epochs[0], f.Epochs[1])
	}
	if seen := n.Healed + n.Lost + n.Different + n.Stuck + n.Slow; seen <= maxLoggedFindings || seen&(seen-1) == 0 {
		r.host.o.Log.Warn("Found something wrong with a replica", "shard", shard, "finding", n.Last, "healed", n.Healed,
			"lost", n.Lost, "different", n.Different)
	}
}

// Health is how a Device has served its Replicas.
type Health struct {
	// Errors of the Device, the last of them in words; writes that found it Full.
	Errors, Full uint64
	LastError    string
	// Stalled is for how long the Device has had work and finished none of it.
	Stalled time.Duration
}

// sickness is what a Monitor knows of its Device's health.
type sickness struct {
	health Health
	// ended counts Ops that came back, seen is their number at the last Tick, progress the last Tick at which it had
	// grown or there was nothing to do.
	ended, seen uint64
	progress    replication.Instant
}

// note counts the outcome of an Op. Damage is not the Device's word but the checksum's, and counted as a finding.
func (s *sickness) note(err error) {
	switch {
	case err == nil, errors.Is(err, store.ErrCorruption), errors.Is(err, engine.ErrClosed):
	case errors.Is(err, store.ErrNoSpace):
		s.health.Full++
	default:
		s.health.Errors++
		s.health.LastError = err.Error()
	}
}

// look is called at each Tick.
func (s *sickness) look(now replication.Instant, inFlight int) {
	if inFlight == 0 || s.ended != s.seen || s.progress == 0 {
		s.seen, s.progress = s.ended, now
	}
	s.health.Stalled = time.Duration(now - s.progress)
}

// Health implements Manager.
func (h *Host) Health(device ident.UUID) Health {
	m := h.monitorOf(device)
	if m == nil {
		return Health{}
	}
	m.Enter()
	defer m.Leave()
	return m.sick.health
}

// pace is the Budget of all Devices' Rebuilds; its lock is taken inside Monitors.
type pace struct {
	mu     sync.Mutex
	budget *budget.Budget
}

func (p *pace) take(now replication.Instant, bytes int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.budget.Take(time.Duration(now), bytes)
}

func (p *pace) observe(now replication.Instant, l *budget.Latencies) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.budget.Observe(time.Duration(now), l)
}

// RebuildRate is how fast Replicas may be brought in sync from here at present, in bytes a second.
func (h *Host) RebuildRate() int64 {
	h.pace.mu.Lock()
	defer h.pace.mu.Unlock()
	return h.pace.budget.Rate()
}
