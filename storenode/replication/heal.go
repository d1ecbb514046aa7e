package replication

import (
	"errors"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/wire"
)

const (
	// MaxHeals bounds the ranges of a Shard that are healed at a time.
	MaxHeals = 16
	// MaxLost bounds the lost Blocks of a Shard that are remembered; of more, each read looks for a copy again.
	MaxLost = 4096
)

// heal is how far a range of the Primary was looked through. The operation holds the range lock against everybody, so
// that nothing is ever put over a newer write; it takes no Seq, because it changes nothing that anybody can read.
type heal struct {
	// slot in Machine.healing.
	slot int
	// at and length of the part that is being read, in bytes from the operation's offset: halved until it is one Block.
	at, length int64
	// fetching a Block from another Replica: number and tries name the question, asked are those that have answered,
	// bad those among them that could not read it either, from who had it.
	fetching   bool
	number     uint64
	tries      uint64
	asked, bad mask
	from       *member
	// written: the Block at the beginning of the part was written anew; if it still cannot be read, the Device is sick.
	written bool
	// retry: there was no memory to read into; at the next Tick.
	retry bool
}

// mend heals a range of this Replica before an operation that could not read it goes on. What came meanwhile goes
// first.
func (m *Machine) mend(o *operation, offset int64, length int) {
	h := m.order.get()
	h.kind, h.internal, h.offset, h.length = kindHeal, true, offset, length
	m.order.behind(o, h)
}

// mendable reports whether it may help to heal what an operation could not read.
func (m *Machine) mendable(o *operation) bool {
	return !o.healed && !m.broken && !m.hasLost(o.offset, int64(o.length))
}

// healSlot is a free place for an operation that heals, -1 if there is none.
func (m *Machine) healSlot() int {
	for i, o := range m.healing {
		if o == nil {
			return i
		}
	}
	return -1
}

func (m *Machine) heal(o *operation) {
	slot := m.healSlot()
	m.healing[slot] = o
	o.heal = heal{slot: slot, length: int64(o.length)}
	m.probe(o)
}

// probe reads the present part, or ends.
func (m *Machine) probe(o *operation) {
	h := &o.heal
	h.retry = false
	if h.at >= int64(o.length) || m.broken {
		m.finish(o)
		return
	}
	o.op = m.store(o, Op{Kind: Read, Offset: o.offset + h.at, Length: int(h.length)})
}

// healStored takes the outcome of a probe, or of the writing anew.
func (m *Machine) healStored(o *operation, op *Op) {
	h := &o.heal
	switch {
	case op.Kind == Write && op.Err != nil, op.Kind == Read && h.written && op.Err != nil && !errors.Is(op.Err, ErrBusy):
		m.broken = true
		m.finish(o)
	case op.Kind == Write:
		h.written = true
		m.probe(o)
	case op.Err == nil:
		m.passed(o)
	case errors.Is(op.Err, ErrBusy):
		h.retry = true
	case h.length > ident.BlockSize:
		h.length = (h.length/2 + ident.BlockSize - 1) / ident.BlockSize * ident.BlockSize
		m.probe(o)
	default:
		h.asked, h.bad, h.from = 0, 0, nil
		m.fetch(o)
	}
}

// passed: the present part can be read.
func (m *Machine) passed(o *operation) {
	h := &o.heal
	if h.written {
		at := o.offset + h.at
		m.find(Finding{Kind: Healed, Replica: m.self, From: h.from.id, Offset: at, Length: ident.BlockSize})
		m.forgetLost(at, ident.BlockSize)
		m.each(h.bad, func(b *member) { m.healMember(b, at) })
	}
	m.nextPart(o)
}

func (m *Machine) nextPart(o *operation) {
	h := &o.heal
	h.at += h.length
	h.length, h.written = int64(o.length)-h.at, false
	m.probe(o)
}

// fetch asks the next Replica for the Block; when none is left, the Block is lost.
func (m *Machine) fetch(o *operation) {
	h := &o.heal
	b := m.source(h.asked)
	if b == nil {
		h.fetching = false
		m.lose(o.offset + h.at)
		m.nextPart(o)
		return
	}
	m.fetches++
	h.fetching, h.number, h.tries = true, m.fetches, 0
	o.pending, o.sent = b.bit, m.patience
	m.sendTo(o, b)
}

// source is who to ask: a member that can be reached before one that cannot, and last a Replica that is being brought
// in sync, which may have kept what is wanted.
func (m *Machine) source(asked mask) *member {
	var best *member
	value := func(b *member) int {
		switch {
		case b.inSync && b.connected:
			return 3
		case b.inSync:
			return 2
		}
		return 1
	}
	m.each(m.targets&^asked, func(b *member) {
		if b.failed || m.doomed&b.bit != 0 || !b.inSync && !b.connected {
			return
		}
		if best == nil || value(b) > value(best) {
			best = b
		}
	})
	return best
}

func (m *Machine) sendFetch(o *operation, b *member) {
	h := &o.heal
	h.tries++
	m.send(wire.Header{
		Opcode: wire.OpFetch, Session: ident.SessionID(m.reign), Request: ident.RequestID(b.attempt),
		Epoch: m.record.Epoch, To: b.id, Offset: uint64(o.offset + h.at), Length: ident.BlockSize,
		Committed: ident.Seq(h.slot), Generation: ident.Generation(h.number), Snapshot: h.tries,
	}, nil)
}

// fetched takes the answer. What a member of InSync can read is what was acknowledged; anybody else's content is that
// only if it has the checksum that is remembered here.
func (m *Machine) fetched(b *member, h *wire.Header, p Payload) {
	if h.Committed >= MaxHeals {
		return
	}
	o := m.healing[h.Committed]
	if o == nil || o.pending&b.bit == 0 || uint64(h.Generation) != o.heal.number {
		return
	}
	switch h.Status {
	case wire.StatusBusy, wire.StatusStaleEpoch, wire.StatusNotPrimary:
		o.again |= b.bit
		return
	case wire.StatusCorruption, wire.StatusIO:
		if b.inSync {
			o.heal.bad |= b.bit
		}
	default:
	}
	o.heal.asked |= b.bit
	o.pending, o.heal.fetching = 0, false
	good := h.Status == wire.StatusOK && p != nil && h.PayloadLength == ident.BlockSize
	if !good || !b.inSync && !m.remembers(o, p) {
		m.fetch(o)
		return
	}
	at := o.offset + o.heal.at
	o.heal.from = b
	o.op = m.store(o, Op{
		Kind: Write, Offset: at, Length: ident.BlockSize, Epoch: m.epochOf(uint32(at / extentSize)), Payload: p,
	})
}

func (m *Machine) remembers(o *operation, p Payload) bool {
	sum, written := m.env.Checksum(o.offset + o.heal.at)
	return written && sum == m.env.Sum(p)
}

// healMember copies a Block to a member of InSync that cannot read its own.
func (m *Machine) healMember(b *member, offset int64) {
	o := m.newCopy(offset, ident.BlockSize, b)
	o.steps.mends = true
	m.order.insert(o)
}

// find notes news for people.
func (m *Machine) find(f Finding) { m.out.Findings = append(m.out.Findings, f) }

// lose notes that no Replica has a Block.
func (m *Machine) lose(offset int64) {
	if m.hasLost(offset, ident.BlockSize) {
		return
	}
	m.find(Finding{Kind: Lost, Replica: m.self, Offset: offset, Length: ident.BlockSize})
	if len(m.lost) < MaxLost {
		m.lost = append(m.lost, offset)
	}
}

// hasLost reports whether a lost Block is in a range.
func (m *Machine) hasLost(offset, length int64) bool {
	for _, at := range m.lost {
		if offset <= at && at < offset+length {
			return true
		}
	}
	return false
}

// forgetLost: the Blocks of a range can be read again, because they were written.
func (m *Machine) forgetLost(offset, length int64) {
	if len(m.lost) == 0 {
		return
	}
	kept := m.lost[:0]
	for _, at := range m.lost {
		if at < offset || offset+length <= at {
			kept = append(kept, at)
		}
	}
	m.lost = kept
}

// fetching is what a Backup has of a question for one of its Blocks: a late one is never carried out beside a newer
// write, because the Primary that waits for none asks by no number it has used.
type fetching struct {
	number, tries uint64
	running       bool
	request       wire.Header
}

// fetchHere answers with a Block as this Replica has it.
func (m *Machine) fetchHere(h *wire.Header) wire.Status {
	f := &m.follow
	switch {
	case !m.follows(h):
		return wire.StatusNotFound
	case h.Committed >= MaxHeals || h.Length != ident.BlockSize:
		return wire.StatusInvalid
	case f.unanswered:
		return wire.StatusBusy
	}
	x := &f.fetches[h.Committed]
	number := uint64(h.Generation)
	if number < x.number || number == x.number && h.Snapshot <= x.tries {
		return wire.StatusOK // late
	}
	running := x.running && x.number == number
	*x = fetching{number: number, tries: h.Snapshot, running: true, request: *h}
	if running {
		return wire.StatusOK // its end answers this one
	}
	m.store(f, Op{Kind: Read, Offset: int64(h.Offset), Length: int(h.Length), request: *h, follows: f.number})
	return wire.StatusOK
}

func (m *Machine) fetchedHere(f *follow, op *Op) {
	x := &f.fetches[op.request.Committed]
	if x.number != uint64(op.request.Generation) {
		return
	}
	x.running = false
	a := answerTo(&x.request, wire.StatusOK)
	var p Payload
	switch {
	case op.Err == nil:
		p, op.Payload = op.Payload, nil
		a.PayloadLength = a.Length
	case errors.Is(op.Err, ErrBusy):
		a.Status = wire.StatusBusy
	case errors.Is(op.Err, ErrCorruption):
		a.Status = wire.StatusCorruption
	default:
		a.Status = wire.StatusIO
	}
	m.send(a, p)
}
