package shard

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/replication"
	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/wire"
)

// Reasons why a connection is closed.
var (
	errSuperseded = errors.New("a newer connection of the same storenode has taken over")
	errRestarted  = errors.New("the storenode was started anew")
	errUnanswered = errors.New("the storenode does not answer")
	errUnused     = errors.New("no shard needs the connection any more")
	errNoMemory   = errors.New("no memory for what must be told first")
	errNoHello    = errors.New("first frame is no hello")
	errRole       = errors.New("frame does not fit the role of its sender")
	errClients    = errors.New("clients have all the connections they may have")
)

// link is one connection, with a client or another storenode. It implements transport.Handler: Frame and Idle are
// called by the loop that reads (package poll), which stays inside a Device's monitor over a batch of frames.
type link struct {
	host *Host
	// peer is the storenode at the other end, nil for a client and before Hello.
	peer     *peer
	outbound bool
	// conn is set before anything is sent.
	conn transport.Conn
	// incarnation of the process at the other end, set with Hello.
	incarnation uint64
	// until is how long the other storenode has promised, on this connection of ours, to take no other Primary.
	until mark
	// over: the connection has ended, or must not be listened to any more.
	over atomic.Bool
	// client: it has one of the places of clients; under Host.mu.
	client bool
	// dirty: something is queued and the link is in somebody's list to be flushed.
	dirty atomic.Bool

	// These belong to the reader.
	greeted bool
	// monitor that the reader is in; nil if none.
	monitor *Monitor
	// pending: the reader itself has queued something.
	pending bool
	// last Replica that a frame was for.
	last *replica
}

// written notes that the link is to be flushed when the monitor is left.
func (l *link) written(m *Monitor) {
	if l.dirty.CompareAndSwap(false, true) {
		m.written = append(m.written, l)
	}
}

// flush sends what is queued. Whoever queues after dirty was taken back flushes himself.
func (l *link) flush() {
	l.dirty.Store(false)
	l.conn.Flush()
}

func (l *link) send(f *transport.Frame) bool { return l.conn.Send(f) == nil }

// sendOne queues a rare frame; it may allocate.
func (l *link) sendOne(h wire.Header, payload *buffer.Buffer) bool {
	return l.send(&transport.Frame{Header: h, Payload: payload})
}

func (l *link) sendHello(flags wire.Flags) bool {
	o := &l.host.o
	hello := wire.Hello{Role: wire.RoleStoreNode, Name: o.Name, Address: o.Address, Incarnation: o.Incarnation}
	payload := l.host.encode(hello.Append(nil))
	if payload == nil {
		l.close(errNoMemory)
		return false
	}
	return l.sendOne(wire.Header{Opcode: wire.OpHello, Flags: flags}, payload)
}

func (l *link) close(cause error) {
	l.over.Store(true)
	if l.conn != nil {
		l.conn.Close(cause)
	}
}

// Frame implements transport.Handler.
func (l *link) Frame(_ transport.Conn, f *transport.Frame) error {
	if l.over.Load() {
		release(f)
		return errSuperseded
	}
	if !l.greeted {
		err := l.greet(f)
		release(f)
		return err
	}
	switch f.Opcode {
	case wire.OpHeartbeat:
		release(f)
		return l.heartbeat(f)
	case wire.OpOpen:
		release(f)
		l.leave()
		l.host.open(l, &f.Header)
		l.pending = true
		return nil
	case wire.OpHello:
		release(f)
		return fmt.Errorf("second hello: %w", errRole)
	default:
		return l.pass(f)
	}
}

// Idle implements transport.Handler.
func (l *link) Idle(transport.Conn) {
	l.leave()
	if l.pending {
		l.pending = false
		l.conn.Flush()
	}
}

// Closed implements transport.Handler.
func (l *link) Closed(_ transport.Conn, cause error) {
	l.leave()
	l.over.Store(true)
	if l.peer != nil {
		l.peer.lost(l, cause)
	}
	l.host.gone(l)
}

func (l *link) enter(m *Monitor) {
	if l.monitor == m {
		return
	}
	l.leave()
	m.Enter()
	l.monitor = m
}

func (l *link) leave() {
	if m := l.monitor; m != nil {
		l.monitor = nil
		m.Leave()
	}
}

// greet takes the first frame.
func (l *link) greet(f *transport.Frame) error {
	if f.Opcode != wire.OpHello || f.Payload == nil || f.IsReply() != l.outbound {
		return errNoHello
	}
	var h wire.Hello
	if err := h.Decode(f.Payload.Bytes()); err != nil {
		return err
	}
	l.greeted = true
	switch {
	case l.outbound:
		if h.Role != wire.RoleStoreNode {
			return errRole
		}
		return l.peer.reached(l, &h)
	case h.Role == wire.RoleClient:
		if err := l.host.seat(l); err != nil {
			return err
		}
		l.sendHello(wire.FlagReply)
		l.pending = true
		return nil
	case h.Address == "":
		return fmt.Errorf("storenode without an address: %w", errRole)
	}
	l.host.called(l, &h)
	return nil
}

func (l *link) heartbeat(f *transport.Frame) error {
	if l.peer == nil || f.IsReply() != l.outbound {
		return errRole
	}
	if !l.outbound {
		l.peer.answerHeartbeat(l, f.Header)
		l.pending = true
		return nil
	}
	if l.peer.heartbeatAnswered(l, replication.Instant(f.Request)) {
		l.leave()
		l.host.wake(l.peer)
	}
	if f.Flags&wire.FlagLeaving != 0 && l.peer.leaves(l) {
		l.leave()
		l.host.tellLeaving(l.peer)
	}
	return nil
}

// pass hands a frame to the Replica it is for.
func (l *link) pass(f *transport.Frame) error {
	if (l.peer == nil) != isClient(f.Opcode) || l.peer == nil && f.IsReply() {
		release(f)
		if l.peer == nil && !f.IsReply() {
			l.refuse(f, wire.StatusInvalid)
			return nil
		}
		return fmt.Errorf("operation %d: %w", f.Opcode, errRole)
	}
	r := l.find(f)
	if r == nil {
		release(f)
		l.refuse(f, wire.StatusNotFound)
		return nil
	}
	l.enter(r.monitor)
	status := wire.StatusOK
	switch {
	case r.closed:
		l.last, status = nil, wire.StatusNotFound
	case f.IsReply():
		if l.outbound && f.Opcode == wire.OpRecord {
			r.vouched(l, &f.Header)
		}
	case !r.valid(f):
		status = wire.StatusInvalid
	case (l.peer == nil || bringsData(f.Opcode)) && !l.host.admits(r.monitor, l.peer == nil):
		status = wire.StatusBusy
	case l.peer != nil:
		r.came(f.From, l)
	}
	if status != wire.StatusOK {
		release(f)
		l.refuse(f, status)
		return nil
	}
	m := &r.monitor.message
	m.Header, m.Payload, m.Route = f.Header, payloadOf(f.Payload), nil
	if l.peer == nil {
		m.Route = l
		r.monitor.counts.add(f)
	}
	relies := !m.IsReply() && !l.outbound && m.Opcode == wire.OpRecord
	from, epoch := m.From, m.Epoch
	r.step(m)
	if relies {
		r.reliedOn(l, from, epoch)
	}
	return nil
}

// refuse answers a request; an answer is not answered.
func (l *link) refuse(f *transport.Frame, status wire.Status) {
	if f.IsReply() {
		return
	}
	h := f.Header
	h.Flags = h.Flags&^wire.FlagFUA | wire.FlagReply
	h.Status, h.From, h.To = status, f.To, f.From
	l.sendOne(h, nil)
	l.pending = true
}

// find is the Replica that a frame is for: the one it names, or the one that a client means.
func (l *link) find(f *transport.Frame) *replica {
	if r := l.last; r != nil && r.key.Shard == f.Shard && r.key.Replica == f.To {
		return r
	}
	l.last = l.host.lookup(f.Shard, f.To)
	if f.To == 0 && l.last != nil {
		r := l.last
		l.last = nil // a client does not say which of several, so it is looked up each time
		return r
	}
	return l.last
}

func isClient(o wire.Opcode) bool { return o >= wire.OpRead && o <= wire.OpWriteZeroes }

// valid checks what neither Machine nor Store should have to look at: nothing that was sent may stop the process or be
// taken for a failure of the Device.
func (r *replica) valid(f *transport.Frame) bool {
	limit := int64(ident.MaxIO)
	switch f.Opcode {
	case wire.OpFlush, wire.OpReplFlush, wire.OpRebuildStart, wire.OpTail, wire.OpYield:
		return true
	case wire.OpRecord:
		return f.Payload != nil
	case wire.OpChecksum:
		return true
	case wire.OpRead:
	case wire.OpFetch, wire.OpRebuildSpoil:
		limit = ident.BlockSize
	case wire.OpVerify:
	case wire.OpWrite, wire.OpReplWrite, wire.OpRebuildWrite:
		if f.PayloadLength != f.Length {
			return false
		}
	case wire.OpDiscard, wire.OpWriteZeroes, wire.OpReplDiscard, wire.OpReplWriteZeroes, wire.OpRebuildDiscard:
		limit = maxSpan
	default:
		return false
	}
	length, offset := int64(f.Length), f.Offset
	return length > 0 && length <= limit && length%ident.BlockSize == 0 && offset%ident.BlockSize == 0 &&
		length <= r.size && offset <= uint64(r.size-length)
}

func release(f *transport.Frame) {
	if f.Payload != nil {
		f.Payload.Release()
		f.Payload = nil
	}
}

func requestOf(now replication.Instant) ident.RequestID { return ident.RequestID(now) }
