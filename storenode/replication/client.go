package replication

import (
	"time"

	"github.com/shale-storage/shale/storenode/bitmap"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/replication/mutant"
	"github.com/shale-storage/shale/storenode/wire"
)

const (
	extentSize = bitmap.Blocks * ident.BlockSize
	// maxSpan bounds discards and zeroes, in bytes.
	maxSpan = 1 << 30
)

// request takes what a client asks for.
func (m *Machine) request(message *Message) {
	h := &message.Header
	kind, limit := kindOf(h.Opcode)
	status := m.admits(message, kind, limit)
	if status != wire.StatusOK {
		m.reject(message, status)
		return
	}
	if h.Generation > m.generation {
		m.raise(h.Generation)
	}
	s := m.remembered(message, kind)
	if kind != kindRead && s == nil {
		return
	}
	o := m.order.get()
	o.arrived = m.now
	o.kind, o.header, o.route, o.payload = kind, *h, message.Route, message.Payload
	o.offset, o.length, o.fua = int64(h.Offset), int(h.Length), h.Flags&wire.FlagFUA != 0
	if kind == kindFlush {
		o.offset, o.length = 0, 0
	}
	if s != nil {
		s.begin(h.Request, o)
	}
	m.order.insert(o)
}

func kindOf(opcode wire.Opcode) (kind opKind, limit int64) {
	switch opcode {
	case wire.OpRead:
		return kindRead, ident.MaxIO
	case wire.OpWrite:
		return kindWrite, ident.MaxIO
	case wire.OpDiscard:
		return kindDiscard, maxSpan
	case wire.OpWriteZeroes:
		return kindZeroes, maxSpan
	case wire.OpFlush:
		return kindFlush, 0
	default:
		return 0, 0
	}
}

// admits is the status a request is refused with, StatusOK if it is not.
func (m *Machine) admits(message *Message, kind opKind, limit int64) wire.Status {
	h := &message.Header
	switch {
	case kind == 0 || kind == kindWrite && message.Payload == nil:
		return wire.StatusInvalid
	case m.record.Primary != m.self || m.closed:
		return wire.StatusNotPrimary
	case h.Epoch < m.record.Epoch:
		return wire.StatusStaleEpoch
	case h.Epoch > m.record.Epoch || m.stage != stageServing:
		return wire.StatusBusy
	case h.Generation < m.generation && mutant.Now != mutant.IgnoreGeneration:
		return wire.StatusFenced
	}
	if length := int64(h.Length); kind != kindFlush {
		if length <= 0 || length > limit || length%ident.BlockSize != 0 || h.Offset%ident.BlockSize != 0 ||
			length > m.c.Size || h.Offset > uint64(m.c.Size-length) || kind == kindWrite && h.PayloadLength != h.Length {
			return wire.StatusInvalid
		}
	}
	if m.order.clients >= MaxOps {
		return wire.StatusBusy
	}
	return wire.StatusOK
}

// remembered finds the session of a request that must not be carried out twice; nil if it is dealt with already.
func (m *Machine) remembered(message *Message, kind opKind) *session {
	if kind == kindRead {
		return nil
	}
	h := &message.Header
	s := m.sessions.find(h.Session)
	if s == nil {
		m.reject(message, wire.StatusBusy)
		return nil
	}
	verdict, sl := s.judge(h.Request, ident.RequestID(h.Committed))
	switch verdict {
	case fresh:
		if kind != kindFlush && m.lacks() {
			m.reject(message, m.shortage())
			return nil
		}
		return s
	case running:
		sl.operation.route = message.Route
	case repeated:
		m.reject(message, m.outcome(sl))
		return nil
	case passed:
	}
	if message.Payload != nil {
		message.Payload.Release()
	}
	return nil
}

// reject answers a request without carrying it out.
func (m *Machine) reject(message *Message, status wire.Status) {
	if message.Payload != nil {
		message.Payload.Release()
	}
	m.respond(&message.Header, message.Route, status, nil)
}

// respond answers a client; one that asks the wrong Replica, or by an old Record, is told the one in force.
func (m *Machine) respond(request *wire.Header, route any, status wire.Status, p Payload) {
	if status == wire.StatusNotPrimary || status == wire.StatusStaleEpoch {
		p = m.encodedRecord()
	}
	h := wire.Header{
		Opcode: request.Opcode, Flags: wire.FlagReply, Status: status, Length: request.Length, Offset: request.Offset,
		Request: request.Request, Session: request.Session, Shard: m.c.Self.Shard,
		Epoch: m.record.Epoch, Generation: m.generation, From: m.self,
	}
	if status == wire.StatusTooFew {
		h.Seq, h.Committed = ident.Seq(m.held), ident.Seq(m.minInSync)
	}
	if p != nil {
		h.PayloadLength = uint32(len(m.env.Bytes(p)))
	}
	m.out.Sends = append(m.out.Sends, Message{Header: h, Payload: p, Route: route})
}

// answer ends a client's operation as far as the client sees it.
func (m *Machine) answer(o *operation, status wire.Status, p Payload) {
	if o.answered || o.internal {
		return
	}
	o.answered = true
	if status == wire.StatusOK {
		m.env.Observe(time.Duration(m.now - o.arrived))
	}
	if o.session != nil {
		begun := status != wire.StatusTooFew || o.seq != 0
		o.session.end(o.header.Request, status, begun && status != wire.StatusNotPrimary && status != wire.StatusBusy)
	}
	m.respond(&o.header, o.route, status, p)
}

// Require says how many Replicas must be in sync for a change to be acknowledged, this one included; at least 1. Until
// it is said for the first time none is; reads and flushes go on.
func (m *Machine) Require(now Instant, minInSync int) {
	m.at(now)
	m.minInSync = max(minInSync, 1)
	m.turnAway()
	m.advance()
}

// lacks reports whether too few Replicas are in sync for a change to be acknowledged, or it is not known how many must.
func (m *Machine) lacks() bool {
	return m.minInSync == 0 || m.held < m.minInSync && mutant.Now != mutant.AckTooFew
}

// shortage is what a change is refused with meanwhile. Who has not been told is not ready, which says nothing of how
// many there are.
func (m *Machine) shortage() wire.Status {
	if m.minInSync == 0 {
		return wire.StatusBusy
	}
	return wire.StatusTooFew
}

// turnAway refuses the changes that have not begun while too few are in sync: nothing of them is anywhere, so they are
// judged anew when they are asked for again. Reads behind them go on, and no range stays locked for somebody who can
// only be brought in sync by a copy under that lock.
func (m *Machine) turnAway() {
	if !m.lacks() {
		return
	}
	var next *operation
	for o := m.order.first; o != nil; o = next {
		next = o.next
		if o.internal || !o.changes() || o.seq != 0 {
			continue
		}
		o.status = wire.StatusTooFew
		m.order.unqueue(o)
		m.answer(o, o.status, nil)
		m.finish(o)
	}
}

// acknowledge answers a change or flush that all who are needed have. If too few are left by then, it says so once
// everybody who follows has it: whoever is brought in sync later gets it with the copy, so nothing is missing but the
// number of Replicas, see outcome.
func (m *Machine) acknowledge(o *operation) {
	switch {
	case mutant.Now == mutant.AckEarly:
		m.answer(o, wire.StatusOK, nil)
	case o.pending&m.ackers != 0:
	case !o.changes() || !m.lacks():
		m.answer(o, wire.StatusOK, nil)
	case o.pending == 0:
		m.answer(o, wire.StatusTooFew, nil)
	}
}

// outcome is what a request that was carried out in this reign is told when it is repeated. A change for which too few
// Replicas were left is on all that are in sync, whoever they are by now. It is not done a second time, as others may
// have read it and overwritten it since.
func (m *Machine) outcome(sl *slot) wire.Status {
	if sl.status == wire.StatusTooFew && !m.lacks() {
		sl.status = wire.StatusOK
	}
	return sl.status
}
