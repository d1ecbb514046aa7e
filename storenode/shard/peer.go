package shard

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shale-storage/shale/storenode/replication"
	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/wire"
)

const (
	// redialFirst and redialLast bound the pause before another try to connect. A connection that lived for at least
	// redialLast is made again at once.
	redialFirst = 10 * time.Millisecond
	redialLast  = 200 * time.Millisecond
)

// Dialer connects to storenodes without waiting.
type Dialer interface {
	// Dial begins to connect and returns; done is called later, once, with the connection or the reason why there is
	// none. The Handler is in force before the first frame is read.
	Dial(address string, h transport.Handler, done func(transport.Conn, error))
}

// peer is another storenode, known by its address. Two connections lead there: out, which we dialed, carries our
// requests to its Replicas and their answers; in, which it dialed, the opposite.
type peer struct {
	host    *Host
	address string

	// mu guards what follows; nothing else is taken while it is held. It is taken inside monitors and Host.mu.
	mu      sync.Mutex
	out, in *link
	// up: Hello was exchanged on out.
	up bool
	// leaving: the process that was last reached says that it is about to end.
	leaving bool
	dialing bool
	// incarnation of the process that was last reached.
	incarnation uint64
	redial      replication.Instant
	pause       time.Duration
	// served counts Shards whose Primary we are with a Replica there, follows those whose Primary is there while ours is
	// InSync.
	served, follows int
	// leases' marks are read without mu, and so is process, the incarnation that was last reached.
	leases  leases
	process atomic.Uint64

	// users are the local Replicas of Shards that have a Replica there; guarded by Host.mu.
	users []*replica
}

// link is the connection on which requests go there, nil while there is none.
func (p *peer) link() *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.up {
		return nil
	}
	return p.out
}

// count changes who serves whom, inside the monitor of r. The first Shard that needs a lease asks for it at once.
func (p *peer) count(served, follows int, r *replica) {
	now := r.host.o.Clock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.follows == 0 && follows > 0 {
		p.leases.followed = now
	}
	p.served += served
	p.follows += follows
	if p.beatLocked(now) {
		p.out.written(r.monitor)
	}
}

// beat asks for the lease if it is time to.
func (p *peer) beat(now replication.Instant) {
	p.mu.Lock()
	l := p.out
	sent := p.beatLocked(now)
	p.mu.Unlock()
	if sent {
		l.flush()
	}
}

func (p *peer) beatLocked(now replication.Instant) bool {
	if p.served == 0 || !p.up || !p.leases.due(now, p.host.o.Timing) {
		return false
	}
	return p.out.sendOne(wire.Header{Opcode: wire.OpHeartbeat, Request: requestOf(now)}, nil)
}

// dial connects if there is no connection and it is time to try.
func (p *peer) dial(now replication.Instant) {
	p.mu.Lock()
	if p.out != nil || p.dialing || now < p.redial {
		p.mu.Unlock()
		return
	}
	p.dialing = true
	p.mu.Unlock()
	l := &link{host: p.host, peer: p, outbound: true}
	p.host.o.Dialer.Dial(p.address, l, func(c transport.Conn, err error) { p.dialed(l, c, err) })
}

func (p *peer) dialed(l *link, c transport.Conn, err error) {
	now := p.host.o.Clock()
	p.mu.Lock()
	p.dialing = false
	if err != nil || l.over.Load() {
		p.backOffLocked(now)
		p.mu.Unlock()
		return
	}
	l.conn, p.out = c, l
	p.leases.since = now
	p.mu.Unlock()
	if p.host.closing.Load() {
		c.Close(transport.ErrClosed)
		return
	}
	if l.sendHello(0) {
		l.flush()
	}
}

func (p *peer) backOffLocked(now replication.Instant) {
	p.redial = now.After(p.pause)
	p.pause = min(max(2*p.pause, redialFirst), redialLast)
}

// reached is the end of the exchange of Hello on the connection that we dialed.
func (p *peer) reached(l *link, h *wire.Hello) error {
	now := p.host.o.Clock()
	p.mu.Lock()
	if p.out != l {
		p.mu.Unlock()
		return errSuperseded
	}
	restarted := p.incarnation != 0 && p.incarnation != h.Incarnation
	l.incarnation, p.incarnation, p.up, p.leaving = h.Incarnation, h.Incarnation, true, false
	p.process.Store(h.Incarnation)
	p.leases.connected(now, restarted)
	p.mu.Unlock()
	p.host.o.Log.Info("Connected to storenode", "address", p.address, "name", h.Name, "restarted", restarted)
	p.beat(now)
	p.host.sync(p)
	return nil
}

// calledBy takes a connection that the peer dialed in place of the older one. stale is our own connection if it leads
// to a process that is no more.
func (p *peer) calledBy(l *link, incarnation uint64) (older, stale *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	older, p.in, l.incarnation = p.in, l, incarnation
	if p.up && p.out.incarnation != incarnation {
		stale = p.out
	}
	return older, stale
}

// lost is the end of one of the connections.
func (p *peer) lost(l *link, cause error) {
	now := p.host.o.Clock()
	p.mu.Lock()
	wasUp := false
	switch l {
	case p.in:
		p.in = nil
	case p.out:
		wasUp = p.up
		p.out, p.up = nil, false
		if now < p.leases.since.After(redialLast) {
			p.backOffLocked(now)
		} else {
			p.redial, p.pause = now, 0
		}
	}
	p.mu.Unlock()
	if wasUp {
		p.host.o.Log.Info("Lost connection to storenode", "address", p.address, "cause", cause)
		p.host.sync(p)
	}
	p.host.settlePeer(p, now)
}

// answerHeartbeat makes the promise on the connection that is in force.
func (p *peer) answerHeartbeat(l *link, request wire.Header) {
	now := p.host.o.Clock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.in != l {
		return
	}
	p.leases.answer(now)
	request.Flags |= wire.FlagReply
	if p.host.leaving.Load() {
		request.Flags |= wire.FlagLeaving
	}
	l.sendOne(request, nil)
}

// heartbeatAnswered takes the promise of the other side.
func (p *peer) heartbeatAnswered(l *link, sent replication.Instant) (regained bool) {
	now := p.host.o.Clock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out != l || !p.up || !p.leases.isAnswer(sent) {
		return false
	}
	l.until.raise(sent.After(p.host.o.Timing.Lease))
	return p.leases.granted(sent, now, p.host.o.Timing)
}

// silent reports whether a Primary there that we follow was not heard of for too long.
func (p *peer) silent(now replication.Instant) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.follows > 0 && p.leases.silent(now, p.host.o.Timing)
}

// stuck is the connection that we dialed, if it must be given up because nothing comes back by it.
func (p *peer) stuck(now replication.Instant) *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.up && p.served > 0 && p.leases.unanswered(now, p.host.o.Timing) {
		return p.out
	}
	return nil
}

// idle reports whether nobody needs the peer: no Replica and no connection of its own.
func (p *peer) idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.in == nil && p.out == nil && !p.dialing
}

func (p *peer) closeLinks(cause error) {
	p.mu.Lock()
	out, in := p.out, p.in
	p.mu.Unlock()
	if out != nil {
		out.close(cause)
	}
	if in != nil {
		in.close(cause)
	}
}

// refer is the peer at address, now used by r. Called inside r's monitor.
func (h *Host) refer(address string, r *replica) *peer {
	h.mu.Lock()
	p := h.peerLocked(address)
	p.users = append(p.users, r)
	h.mu.Unlock()
	if !h.closing.Load() {
		p.dial(h.o.Clock())
	}
	return p
}

// unrefer ends one use. A connection that nobody needs stays until the next Tick.
func (h *Host) unrefer(p *peer, r *replica) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.Index(p.users, r); i >= 0 {
		p.users = slices.Delete(p.users, i, i+1)
	}
}

func (h *Host) peerLocked(address string) *peer {
	if p := h.peers[address]; p != nil {
		return p
	}
	p := &peer{host: h, address: address}
	p.leases.promised.raise(max(h.started, h.forgotten.load()))
	h.peers[address] = p
	h.peerList = append(h.peerList, p)
	return p
}

// settlePeer dials again, or ends what nobody needs.
func (h *Host) settlePeer(p *peer, now replication.Instant) {
	h.mu.RLock()
	used := len(p.users) > 0
	h.mu.RUnlock()
	if used && !h.closing.Load() {
		p.dial(now)
		return
	}
	p.mu.Lock()
	out := p.out
	p.mu.Unlock()
	if out != nil {
		out.close(errUnused)
	}
	h.forget(p)
}

// forget drops a peer that nobody needs; what was promised to it is remembered for all.
func (h *Host) forget(p *peer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(p.users) > 0 || !p.idle() || h.peers[p.address] != p {
		return
	}
	h.forgotten.raise(p.leases.promised.load())
	delete(h.peers, p.address)
	h.peerList = slices.DeleteFunc(h.peerList, func(q *peer) bool { return q == p })
}

// sync tells the Machines that a peer is reached, or is not any more. Outside of monitors.
func (h *Host) sync(p *peer) {
	for _, r := range h.usersOf(p) {
		r.syncPeer(p)
	}
}

// wake lets the Machines see that a peer's lease holds again. Outside of monitors.
func (h *Host) wake(p *peer) {
	for _, r := range h.usersOf(p) {
		r.wake()
	}
}

func (h *Host) usersOf(p *peer) []*replica {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return slices.Clone(p.users)
}

// tellRecords queues the Records of all Shards that the peer has a Replica of, or whose Primary it was. Until they are
// queued no heartbeat is answered on this connection.
func (h *Host) tellRecords(p *peer, l *link) {
	h.mu.RLock()
	replicas := h.replicas
	h.mu.RUnlock()
	for _, r := range replicas {
		v := r.view.Load()
		if v.record.Epoch == 0 {
			continue
		}
		if v.former != 0 && v.address == p.address {
			r.tellRecord(l, v.record, v.former)
		}
		for _, c := range v.record.Replicas {
			if c.Address == p.address && c.ID != r.key.Replica && c.ID != v.former {
				r.tellRecord(l, v.record, c.ID)
			}
		}
	}
}
